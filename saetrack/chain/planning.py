"""From a config to a planned track: its LM found and checked once, its text tokenised."""

from __future__ import annotations

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.data.corpus import prepare_corpus, require_dataset
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


def find_suitable_lm(config: TrackConfig) -> ModelSpec:
    """The LM of a track, after everything was checked that needs neither a hub nor work.

    Raises:
        UserError: there is no such text or LM, or the LM does not suit the config.
    """
    require_dataset(config.corpus.dataset)
    spec = find_lm(config.model)
    require_compatible(config, spec)
    return spec


def open_checkpoints(config: TrackConfig, spec: ModelSpec, settings: Settings) -> CheckpointSource:
    """The checkpoints of a track's LM.

    An embedded LM is trained first if this machine lacks it; a hub is asked which checkpoints there
    are if the catalogue does not say; a folder without a whole checkpoint is given `follow_s`
    seconds.

    Args:
        config: of the track.
        spec: its LM, from `find_suitable_lm`.
        settings: say where checkpoints are kept.

    Raises:
        UserError: the LM has no checkpoint yet, the hub cannot be reached, or what became known
            only now does not suit the config.
    """
    source = open_source(spec, settings.cache_dir, settings.fetched_bytes)
    if isinstance(source, FolderSource) and not source.spec.lm_steps:
        if not source.wait_for_more(0, config.follow_s):
            raise UserError(f"model={config.model!r}: holds no whole checkpoint yet")
        source = open_source(spec, settings.cache_dir, settings.fetched_bytes)  # looks again
    if source.spec != spec:  # the hub, or the folder, has said more than was known before
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
