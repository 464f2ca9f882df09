"""A track with the registry that holds its chains: what training and analysis both begin with."""

from __future__ import annotations

from dataclasses import dataclass

from saetrack.chain.compatibility import find_suitable_lm
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track
from saetrack.chain.planning import open_checkpoints, plan
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry.store import Registry
from saetrack.utils.settings import Settings


@dataclass(frozen=True)
class OpenedTrack:
    """A track, where its checkpoints come from, and the registry that holds its chains."""

    track: Track
    source: CheckpointSource
    registry: Registry


def open_track(config: TrackConfig, settings: Settings) -> OpenedTrack:
    """Check a config, connect, find the checkpoints, tokenise, plan: what fails fast comes first.

    Raises:
        UserError: something does not exist, does not suit the LM or cannot be reached.
    """
    spec = find_suitable_lm(config)
    registry = Registry(settings)
    source = open_checkpoints(config, spec, settings)
    start = None
    if config.start is not None:
        start = registry.imported.identity_of(config.start, source.spec.d_model, config.d_sae)
    return OpenedTrack(plan(config, source, settings, start), source, registry)
