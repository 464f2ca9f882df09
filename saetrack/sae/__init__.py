"""Sparse autoencoders: the model, its objective, one training step, one link's training loop."""
