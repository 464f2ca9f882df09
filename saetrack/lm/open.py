"""From the name of an LM to its checkpoints."""

from __future__ import annotations

from pathlib import Path

from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder import open_folder
from saetrack.lm.checkpoints.hub_source import HubSource, open_repo
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.embedded import recipe
from saetrack.lm.embedded.publish import ensure_built


def open_source(spec: ModelSpec, cache_dir: Path, limit_bytes: int) -> CheckpointSource:
    """The source of an LM's checkpoints; an embedded LM is trained first if this machine lacks it.

    Args:
        spec: from `find_lm`.
        cache_dir: where fetched checkpoints, embedded LMs, lists of revisions and the ledgers of
            folders are kept.
        limit_bytes: what all fetched checkpoints may take on disk.

    Raises:
        UserError: the folder is gone; or the hub is needed and does not answer.
    """
    if spec.folder is not None:
        return open_folder(spec, cache_dir)
    if spec.repo is not None:
        return open_repo(spec, spec.repo, cache_dir, limit_bytes)
    return HubSource(spec, ensure_built(spec, cache_dir), cache_dir, limit_bytes)


def learning_rate(spec: ModelSpec) -> LearningRate | None:
    """The learning rate of an LM's own training, where it is known."""
    if spec.entry is not None:
        return spec.entry.learning_rate
    return recipe.learning_rate(spec) if spec.folder is None else None
