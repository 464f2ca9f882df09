"""The training step over active (feature, token) pairs alone, on a CPU and on a GPU."""
