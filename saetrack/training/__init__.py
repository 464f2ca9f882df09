"""How a chain is made: activations, one checkpoint, one link, the loop over checkpoints."""
