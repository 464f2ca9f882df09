"""From a config to a planned track: its checkpoints found, its text tokenised, its links named."""

from __future__ import annotations

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.data.corpus import prepare_corpus
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import no_checkpoint
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from saetrack.utils.settings import Settings


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
    """All links of a track with their identities. Loads no LM and trains nothing.

    Args:
        config: of the track.
        source: of its checkpoints, from `open_checkpoints`.
        settings: say where the tokenised text is kept.
        start: identity of the imported SAE that the config names, if it names one.

    Raises:
        UserError: a checkpoint is neither in the cache nor available from the hub, or the text
            cannot be read or is too short.
    """
    schedule = scheduled(config, source)  # before the corpus is read, since it fails fast
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    return plan_track(config, source, schedule, corpus, start)
