"""What features do: how the LM's loss changes when they are taken out."""
