"""SAE-Track: chains of sparse autoencoders over the training checkpoints of a language model.

Reading order: ``sae/training.py`` (the training loop), ``chain.py`` (the chain loop), ``config.py``
(what a track is), ``registry/`` (where its links are kept).
"""

import os

__version__ = "0.2.0"

# OpenMP's threads spin for milliseconds after each parallel piece of work, unless they are told to
# sleep before torch loads. Spinning gains nothing measurable here, and two processes that share
# their cores then lose four fifths of them to each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
