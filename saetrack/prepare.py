"""From a config to a track that is ready to train: connected, resolved, tokenised, planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from saetrack.config import TrackConfig
from saetrack.corpus import prepare_corpus
from saetrack.errors import UserError
from saetrack.fit import require_fit
from saetrack.live import find_spec
from saetrack.lm.checkpoints import CheckpointSource, open_source
from saetrack.lm.folder import FolderSource
from saetrack.plan import Track, plan_track
from saetrack.registry import Registry
from saetrack.settings import Settings
from saetrack.stage import Workshop


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

    Raises:
        UserError: something is out of reach, or asks for what does not exist.
    """
    device = choose_device(settings)
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
    return torch.device("cuda" if has_gpu and settings.device != "cpu" else "cpu")
