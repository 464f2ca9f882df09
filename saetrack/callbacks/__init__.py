"""Save what a track needs while your own LM trains: a callback for Trainer, a function for a loop.

Example:
    >>> from saetrack.callbacks import TrackCallback, save_checkpoint
"""

from saetrack.callbacks.saving import save_checkpoint
from saetrack.callbacks.trainer import TrackCallback

__all__ = ["TrackCallback", "save_checkpoint"]
