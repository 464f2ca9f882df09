"""From the name of an LM to its checkpoints."""

from __future__ import annotations

from pathlib import Path

from saetrack.lm import mini
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import open_folder
from saetrack.lm.checkpoints.hub_source import HubSource, open_repo
from saetrack.lm.checkpoints.source import CheckpointSource


def open_source(spec: ModelSpec, cache_dir: Path, limit_bytes: int) -> CheckpointSource:
    """The source of an LM's checkpoints; an embedded LM is trained first if this machine lacks it.

    Args:
        spec: from `find_spec`.
        cache_dir: where embedded LMs, lists of revisions and the ledgers of live folders are kept;
            LMs of the hub use the hub's own cache.
        limit_bytes: what may lie in the hub's cache of fetched checkpoints.
    """
    if spec.folder is not None:
        return open_folder(spec, cache_dir)
    if spec.repo is not None:
        return open_repo(spec, spec.repo, cache_dir, limit_bytes)
    cache = cache_dir / "hub"
    return HubSource(spec, mini.ensure_built(spec, cache), cache, limit_bytes)


def learning_rate(spec: ModelSpec) -> LearningRate | None:
    """Of an LM's own training, where it is known."""
    if spec.entry is not None:
        return spec.entry.learning_rate
    return mini.learning_rate(spec) if spec.folder is None else None
