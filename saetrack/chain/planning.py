"""From a config to a planned track: its LM found and checked once, its text tokenised."""

from __future__ import annotations

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.data.corpus import prepare_corpus, require_dataset
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


def open_checkpoints(config: TrackConfig, settings: Settings) -> CheckpointSource:
    """The checkpoints of a track's LM, once it is known that a track can be made of them.

    An embedded LM is trained first if this machine lacks it; a folder without a whole checkpoint is
    given `follow_s` seconds.

    Raises:
        UserError: there is no such text or LM, the LM holds no checkpoint, or it does not suit the config.
    """
    require_dataset(config.corpus)
    spec = find_lm(config.model)
    require_compatible(config, spec)
    source = open_source(spec, settings.cache_dir, settings.fetched_bytes)
    if isinstance(source, FolderSource) and not source.spec.lm_steps:
        if not source.wait_for_more(0, config.follow_s):
            raise UserError(f"model={config.model!r}: holds no whole checkpoint yet")
        source = open_source(find_lm(config.model), settings.cache_dir, settings.fetched_bytes)
    if source.spec != spec:  # the list of checkpoints, or the shape, is known only now
        require_compatible(config, source.spec)
    return source


def plan(
    config: TrackConfig, source: CheckpointSource, settings: Settings, start: str | None = None
) -> Track:
    """All links of a track, their identities known. Loads no LM and trains nothing.

    Args:
        config: of the track.
        source: of its checkpoints, from `open_checkpoints`.
        settings: say where the tokenised text is kept.
        start: identity of the imported SAE that the config names, if it names one.

    Raises:
        UserError: a checkpoint is neither in the cache nor to be had from the hub, or the text
            cannot be read or is too short.
    """
    schedule = scheduled(config, source)  # before the corpus is read: it can fail fast
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    return plan_track(config, source, schedule, corpus, start)
