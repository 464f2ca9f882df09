"""What features add to the logits, straight through the final norm and the unembedding."""
