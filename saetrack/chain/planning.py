"""From a config to a planned track: its checkpoints found, its text tokenised, its links named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from saetrack.chain.adaptive import with_pieces
from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import TrackConfig
from saetrack.chain.odd import odd_parameters
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.data.corpus import Corpus, prepare_corpus
from saetrack.data.splits import SPLITS
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import FolderSource, why_lost
from saetrack.lm.checkpoints.folder_layout import no_checkpoint
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def open_checkpoints(config: TrackConfig, spec: ModelSpec, settings: Settings) -> CheckpointSource:
    """The checkpoints of a track's LM.

    An embedded LM is trained first if this machine lacks it; a hub is asked which checkpoints there
    are if the catalogue does not say; a folder without a whole checkpoint is given `follow_s`
    seconds.

    Args:
        config: of the track.
        spec: its LM, from `saetrack.chain.compatibility.find_suitable_lm`.
        settings: say where checkpoints are kept.

    Raises:
        UserError: the LM has no checkpoint yet, the hub cannot be reached, or what became known
            only now does not suit the config.
    """
    source = open_source(spec, settings.cache_dir, settings.fetched_bytes)
    if isinstance(source, FolderSource) and not source.spec.lm_steps:
        if not source.wait_for_more(0, config.follow_s):
            raise no_checkpoint(config.model)
        source = open_source(spec, settings.cache_dir, settings.fetched_bytes)  # looks again
    if source.spec != spec:  # the hub, or the folder, has said more than was known before
        require_compatible(config, source.spec)
    return source


def plan(
    config: TrackConfig, source: CheckpointSource, settings: Settings, start: str | None = None
) -> Track:
    """All links of a track with their identities. Trains nothing.

    Loads no LM, except once to choose the checkpoints of an adaptive schedule.

    Args:
        config: of the track.
        source: of its checkpoints, from `open_checkpoints`.
        settings: say where the tokenised text is kept.
        start: identity of the imported SAE that the config names, if it names one.

    Raises:
        UserError: a checkpoint is neither in the cache nor available from the hub, or the text
            cannot be read or is too short.
    """
    for line in odd_parameters(config):
        log.warning("%s", line)
    # Before the corpus is read, since it fails fast.
    schedule = scheduled(config, source) if config.pieces else None
    corpus = open_corpus(config, source.spec, source.tokenizer(), settings.cache_dir)
    if schedule is None:
        config = with_pieces(config, source, corpus, settings)
        schedule = scheduled(config, source)
    return plan_track(config, source, schedule, corpus, start)


def open_corpus(
    config: TrackConfig,
    spec: ModelSpec,
    tokenizer: tuple[PreTrainedTokenizerFast, str],
    cache_dir: Path,
) -> Corpus:
    """A track's text in tokens, made first if the cache has none.

    Args:
        config: of the track.
        spec: of its LM.
        tokenizer: of the LM, with the id that names its content.
        cache_dir: where the tokenised text is kept.

    Raises:
        UserError: the text cannot be read or is too short, or has tokens that the LM has no rows
            for.
    """
    require_rows(tokenizer[0], spec)
    corpus = prepare_corpus(config.corpus, *tokenizer, cache_dir)
    for split in SPLITS if spec.vocabulary else ():
        if (highest := int(corpus.rows(split).max())) >= spec.vocabulary:
            raise UserError(
                f"model: the text has the token {highest} of {spec.name}'s tokenizer, and the "
                f"embedding only {spec.vocabulary:,} rows; save the tokenizer that the LM was "
                "trained with beside it"
            )
    return corpus


def without_job(track: Track, number: int, source: CheckpointSource, start: str | None) -> Track:
    """A track without its `number`-th checkpoint, which is gone; the next one has a note of it.

    Raises:
        UserError: no other is left.
    """
    jobs = track.jobs
    gone = jobs[number].checkpoint
    schedule = [(job.checkpoint, job.budget) for job in (*jobs[:number], *jobs[number + 1 :])]
    reason = why_lost(source, gone) or "was gone"
    note = f"{gone.label} {reason}, and is left out"
    if number == len(schedule):  # no later one carries the note
        log.warning("%s", note)
    else:
        checkpoint, budget = schedule[number]
        schedule[number] = checkpoint.noted(*gone.notes, note), budget
    if not schedule:
        raise UserError(
            f"model={track.config.model!r}: {gone.label} {reason}, and the "
            "schedule names no other that is left; let the training run keep more checkpoints "
            "(save_total_limit), or name those that are there"
        )
    return plan_track(track.config, source, schedule, track.chains[0].corpus, start)


def require_rows(tokenizer: PreTrainedTokenizerFast, spec: ModelSpec) -> None:
    """Refuse a tokenizer with tokens that the embedding has no rows for, before anything is read.

    Tokens that were added to it, for padding say, may be beyond: most texts never have them, and
    `open_corpus` refuses those that do.

    Raises:
        UserError: it has.
    """
    if 0 < spec.vocabulary < tokenizer.vocab_size:
        raise UserError(
            f"model: the tokenizer of {spec.name} has {tokenizer.vocab_size:,} tokens, and the "
            f"embedding only {spec.vocabulary:,} rows; save the tokenizer that the LM was trained "
            "with beside it"
        )
