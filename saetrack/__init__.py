"""SAE-Track: chains of sparse autoencoders over the training checkpoints of a language model.

Reading order: ``sae/training.py`` (the training loop), ``chain.py`` (the chain loop), ``config.py``
(what a track is), ``registry.py`` (where its links are kept).
"""
