"""A track with the registry that holds its chains: what training and analysis both begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from saetrack.chain.compatibility import find_suitable_lm
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Link, Track
from saetrack.chain.planning import (
    open_checkpoints,
    open_corpus,
    plan,
    require_rows,
    without_job,
)
from saetrack.data.datasets import hub_repo
from saetrack.data.enough import surely_enough
from saetrack.data.exclusion import Excluded
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import FolderSource, check_folder, is_lost
from saetrack.lm.checkpoints.folder_layout import no_checkpoint
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.open import tokenizer_here
from saetrack.registry.store import Registry
from saetrack.sae.architectures import kind_of
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class OpenedTrack:
    """A track, where its checkpoints come from, and the registry that holds its chains."""

    track: Track
    source: CheckpointSource
    registry: Registry


def open_track(config: TrackConfig, settings: Settings, *, writes: bool = True) -> OpenedTrack:
    """Check a config, connect, find the checkpoints, tokenise, plan: what fails fast comes first.

    Args:
        config: of the track.
        settings: of the registry and the cache.
        writes: whether anything of it is to be registered: its links, or what they are found to be.

    Raises:
        UserError: something does not exist, does not suit the LM or cannot be reached.
    """
    spec = find_suitable_lm(config)
    registry = Registry(settings, writes=writes)
    registry.require_files(spec.name, writes=writes)
    source = open_checkpoints(config, spec, settings)
    if isinstance(source, FolderSource):
        source.require_one_width([hook.layer for hook in config.all_hooks])
    start = None
    if config.start is not None:
        start = registry.imported.identity_of(*imported_start(config, source.spec))
    track = plan(config, source, settings, start)
    return OpenedTrack(without_lost(track, source, start, registry.has_trained), source, registry)


class CheckedTrack(NamedTuple):
    """What of a track is on this machine.

    Attributes:
        spec: its LM.
        tokenizer: of the LM, with the id that names its exact content; None if it is not here.
    """

    spec: ModelSpec
    tokenizer: tuple[PreTrainedTokenizerFast, str] | None


def check_track(config: TrackConfig, settings: Settings) -> CheckedTrack:
    """The LM of a track, once all was checked that `open_track` checks and that is here.

    Downloads and trains nothing. A text of this machine is tokenised unless it surely has enough
    for the track, which then finds it in the cache.

    Raises:
        UserError: as `open_track`.
    """
    spec = find_suitable_lm(config)
    if config.start is not None:
        registry = Registry(settings, writes=False)
        registry.imported.identity_of(*imported_start(config, spec))
    if spec.folder is None:
        tokenizer = tokenizer_here(spec, settings.cache_dir)
    elif spec.lm_steps:
        tokenizer = check_folder(spec, [hook.layer for hook in config.all_hooks])
    elif config.follow_s == 0:
        raise no_checkpoint(config.model)
    else:
        tokenizer = None  # its training run has written nothing yet
    if tokenizer is not None:
        require_rows(tokenizer[0], spec)
        Excluded.of(config.corpus, tokenizer[0])
        is_here = hub_repo(config.corpus.dataset) is None
        if is_here and not surely_enough(config.corpus, tokenizer[0]):
            open_corpus(config, spec, tokenizer, settings.cache_dir)
    return CheckedTrack(spec, tokenizer)


def without_lost(
    track: Track, source: CheckpointSource, start: str | None, is_trained: Callable[[Link], bool]
) -> Track:
    """A track without the checkpoints of which `first_lost` tells.

    Raises:
        UserError: no other is left.
    """
    while (number := first_lost(track, source, is_trained)) is not None:
        track = without_job(track, number, source, start)
    return track


def first_lost(
    track: Track, source: CheckpointSource, is_trained: Callable[[Link], bool]
) -> int | None:
    """The number of the first checkpoint that is gone and on which links are to be trained.

    What was trained on a checkpoint before it was deleted stays in the chain.
    """
    for number, job in enumerate(track.jobs):
        if is_lost(source, job.checkpoint) and not all(is_trained(link) for _, link in job.links):
            return number
    return None


def imported_start(config: TrackConfig, spec: ModelSpec) -> tuple[str, dict[str, Any], Hook, str]:
    """The imported SAE that a track starts from, and what it should be and have read."""
    assert config.start is not None
    kind = {"d_in": spec.d_model, "d_sae": config.d_sae, **kind_of(config.sae)}
    return config.start, kind, config.all_hooks[0], config.residual
