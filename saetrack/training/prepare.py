"""From a config to a track that is ready to train: connected, resolved, tokenised, planned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track
from saetrack.chain.planning import find_suitable_lm, open_checkpoints, plan
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import is_folder
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.sae.tensor_parallel import join
from saetrack.training.checkpoint import TrainingContext
from saetrack.training.multi_process import SharedStore
from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


@dataclass(frozen=True)
class PreparedTrack:
    """A track, and all that is needed to train what is missing of it."""

    track: Track
    source: CheckpointSource
    registry: Registry
    context: TrainingContext

    def summary(self, n_trained: int) -> str:
        """What came of it, in a line, once `n_trained` links were trained."""
        chains = self.track.chains
        n_registered = sum(len(chain.links) for chain in chains)
        names = ", ".join(chain.name for chain in chains)
        return f"{n_trained} links trained, {n_registered} registered as {names}"


def prepare(config: TrackConfig, settings: Settings) -> PreparedTrack:
    """Do everything that comes before the first link, what can fail fast first.

    The registry is connected and every checkpoint pinned before the corpus is read; an embedded LM
    is trained if this machine lacks it; an empty live folder is given `follow_s` seconds.
    Of several ranks (`torchrun`) the first prepares first, the others find what it made.

    Raises:
        UserError: something is out of reach, or asks for what does not exist.
    """
    device = choose_device(settings)
    ranks = join(device)
    if ranks.count == 1:
        return _prepare(config, settings, device)
    if config.d_sae % ranks.count:
        raise UserError(f"d_sae={config.d_sae}: must be a multiple of the {ranks.count} processes")
    if is_folder(config.model):
        raise UserError(f"model={config.model!r}: a live folder is tracked by one process")
    prepared: PreparedTrack = ranks.rank0_first(lambda: _prepare(config, settings, device))
    identities = [link.identity for chain in prepared.track.chains for link in chain.links]
    if not ranks.all_equal(identities):
        raise UserError("the processes plan different links: give all the same code and settings")
    store = SharedStore(prepared.registry, ranks)
    return replace(prepared, context=replace(prepared.context, store=store, ranks=ranks))


def _prepare(config: TrackConfig, settings: Settings, device: torch.device) -> PreparedTrack:
    spec = find_suitable_lm(config)
    registry = Registry(settings)
    source = open_checkpoints(config, spec, settings)
    start = None
    if config.start is not None:
        start = registry.imported.identity_of(config.start, source.spec.d_model, config.d_sae)
    track = plan(config, source, settings, start)
    context = TrainingContext(registry, device, settings.cache_dir / "states")
    return PreparedTrack(track, source, registry, context)


def wait_until_grown(prepared: PreparedTrack) -> bool:
    """Whether a track is to be prepared once more, since its folder has had another checkpoint.

    Waits for one for `follow_s` seconds; never, where the LM is not a folder that may grow.
    """
    if not isinstance(prepared.source, FolderSource):
        return False
    known = len(prepared.source.spec.lm_steps)
    return prepared.source.wait_for_more(known, prepared.track.config.follow_s)
