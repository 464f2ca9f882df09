"""SAE-Track: chains of sparse autoencoders over the training checkpoints of a language model.

The names below are what a notebook needs; each loads what it uses when it is first asked for. To
read the code, begin with ``training/loop.py`` (the chain loop), ``sae/trainer.py`` (the training
loop), ``chain/config.py`` (what a track is).
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

__all__ = [
    "SAE",
    "Registry",
    "Settings",
    "TrackConfig",
    "UserError",
    "__version__",
    "analyze",
    "chains",
    "load_preset",
    "open_chain",
    "train_track",
]

# OpenMP's threads spin for milliseconds after each parallel piece of work, unless they are told to
# sleep before torch loads. Spinning gains nothing measurable here, and two processes that share
# their cores then lose four fifths of them to each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.chain_view import chains, open_chain
    from saetrack.chain.config import TrackConfig
    from saetrack.chain.presets import load_preset
    from saetrack.cli.notebook import analyze, train_track
    from saetrack.registry import Registry
    from saetrack.sae.model import SAE
    from saetrack.utils.errors import UserError
    from saetrack.utils.settings import Settings

_HOMES = {
    "SAE": "sae.model",
    "Registry": "registry",
    "Settings": "utils.settings",
    "TrackConfig": "chain.config",
    "UserError": "utils.errors",
    "analyze": "cli.notebook",
    "chains": "analysis.pipeline.chain_view",
    "load_preset": "chain.presets",
    "open_chain": "analysis.pipeline.chain_view",
    "train_track": "cli.notebook",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562): importing saetrack alone loads nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'saetrack' has no attribute {name!r}")
    return getattr(importlib.import_module(f"saetrack.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
