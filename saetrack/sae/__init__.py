"""Sparse autoencoders: the model, its loss, one training step, the training of one checkpoint."""
