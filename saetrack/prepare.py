"""From a config to a track that is ready to train: connected, resolved, tokenised, planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from saetrack.config import TrackConfig
from saetrack.corpus import prepare_corpus
from saetrack.errors import UserError
from saetrack.fit import require_fit
from saetrack.live import find_spec, is_folder
from saetrack.lm.checkpoints import CheckpointSource, open_source
from saetrack.lm.folder import FolderSource
from saetrack.plan import Track, plan_track
from saetrack.registry import Registry
from saetrack.sae.sharded import join
from saetrack.settings import Settings
from saetrack.stage import Workshop
from saetrack.together import SharedStore


@dataclass(frozen=True)
class Prepared:
    """A track, and all that is needed to train what is missing of it."""

    track: Track
    source: CheckpointSource
    registry: Registry
    workshop: Workshop


Prepare = Callable[[TrackConfig, Settings], Prepared]


def prepare(config: TrackConfig, settings: Settings) -> Prepared:
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
    ready: Prepared = ranks.one_first(lambda: _prepare(config, settings, device))
    identities = [link.identity for chain in ready.track.chains for link in chain.links]
    if not ranks.agree(identities):
        raise UserError("the processes plan different links: give all the same code and settings")
    store = SharedStore(ready.registry, ranks)
    return replace(ready, workshop=replace(ready.workshop, store=store, ranks=ranks))


def _prepare(config: TrackConfig, settings: Settings, device: torch.device) -> Prepared:
    registry = Registry(settings)
    source = open_source(find_spec(config.model), settings.cache_dir, settings.fetched_bytes)
    if isinstance(source, FolderSource) and not source.spec.lm_steps:
        if not source.wait_for_more(0, config.follow_s):
            raise UserError(f"model={config.model!r}: holds no whole checkpoint yet")
        source = open_source(find_spec(config.model), settings.cache_dir, settings.fetched_bytes)
    require_fit(config, source.spec)
    start = None
    if config.start is not None:
        start = registry.imported.identity_of(config.start, source.spec.d_model, config.d_sae)
    source.resolve([index for index, _ in config.budgets(len(source.spec.lm_steps))])
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    workshop = Workshop(registry, device, settings.cache_dir / "states")
    track = plan_track(config, source, corpus, start)
    return Prepared(track, source, registry, workshop)


def follow(
    config: TrackConfig, settings: Settings, prepare_once: Prepare = prepare
) -> Iterator[Prepared]:
    """The track as it stands; that of a live folder again each time the folder has grown.

    Ends when no new checkpoint came for `follow_s` seconds.
    """
    while True:
        ready = prepare_once(config, settings)
        yield ready
        known = len(ready.source.spec.lm_steps)
        if not isinstance(ready.source, FolderSource):
            return
        if not ready.source.wait_for_more(known, config.follow_s):
            return


def choose_device(settings: Settings) -> torch.device:
    """The device of the settings; `auto` is a GPU where there is one.

    Raises:
        UserError: a GPU is asked for and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise UserError("SAETRACK_DEVICE='cuda': torch sees no GPU here; use auto or cpu")
    if not has_gpu or settings.device == "cpu":
        return torch.device("cpu")
    rank_here = os.environ.get("LOCAL_RANK")  # torchrun's; one GPU each
    return torch.device("cuda" if rank_here is None else f"cuda:{rank_here}")
