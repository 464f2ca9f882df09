"""From a config to a track that is ready to train: everything that comes before the first link."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import is_folder
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.registry.opened_track import first_lost, open_track
from saetrack.sae.tensor_parallel import join
from saetrack.training.checkpoint import TrainingContext
from saetrack.training.multi_process import SharedStore
from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


@dataclass(frozen=True)
class PreparedTrack:
    """A track, and all that is needed to train its missing links.

    Attributes:
        track: its chains, with the identities of all links.
        source: of the LM's checkpoints.
        registry: where links are kept.
        context: where links are trained.
    """

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
    """Check, connect, find the checkpoints, tokenise, plan; what can fail fast comes first.

    An embedded LM is trained if this machine lacks it; an empty live folder is given `follow_s`
    seconds. Of several processes (`torchrun`) rank 0 prepares first, and the others find on disk
    what it made.

    Raises:
        UserError: something does not exist, does not suit the LM or cannot be reached.
    """
    device = choose_device(settings)
    ranks = join(device)
    if ranks.count == 1:
        return _prepare(config, settings, device)
    if config.d_sae % ranks.count:
        raise UserError(f"d_sae={config.d_sae}: must be a multiple of the {ranks.count} processes")
    if is_folder(config.model):
        raise UserError(f"model={config.model!r}: a live folder is tracked by one process")
    with ranks.rank0_first():
        prepared = _prepare(config, settings, device)
    identities = [link.identity for chain in prepared.track.chains for link in chain.links]
    if not ranks.all_equal(identities):
        raise UserError("the processes plan different links: give all the same code and settings")
    store = SharedStore(prepared.registry, ranks)
    return replace(prepared, context=replace(prepared.context, store=store, ranks=ranks))


def _prepare(config: TrackConfig, settings: Settings, device: torch.device) -> PreparedTrack:
    opened = open_track(config, settings)
    context = TrainingContext(opened.registry, device, settings.cache_dir / "states")
    return PreparedTrack(opened.track, opened.source, opened.registry, context)


def wait_until_grown(prepared: PreparedTrack) -> bool:
    """Whether the LM's folder holds another checkpoint, so that the track is to be prepared again.

    It is so too if the training run has deleted one that was to be trained on. Waits up to
    `follow_s` seconds for one more. Any other LM does not grow: the answer is no, at once.
    """
    if not isinstance(prepared.source, FolderSource):
        return False
    if first_lost(prepared.track, prepared.source, prepared.registry.has_trained) is not None:
        return True
    known = len(prepared.source.spec.lm_steps)
    return prepared.source.wait_for_more(known, prepared.track.config.follow_s)
