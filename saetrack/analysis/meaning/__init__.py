"""What contexts mean: labels, patterns over checkpoints, senses of tokens."""
