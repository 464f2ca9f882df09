"""Which of an LM's checkpoints are on this machine."""

from __future__ import annotations

from pathlib import Path

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.files import CHECKPOINT
from saetrack.lm.checkpoints.hub import revisions_on_disk


def checkpoints_on_disk(spec: ModelSpec, cache_dir: Path) -> int:
    """How many of an LM's checkpoints are on this machine, weights and all.

    Args:
        spec: of the catalogue.
        cache_dir: where fetched and embedded checkpoints are kept.
    """
    if spec.repo is None:
        # A repository for each recipe that an embedded LM was ever made by.
        repos = (cache_dir / CHECKPOINT.name).glob(f"saetrack--{spec.name}-*")
        return max((len(list(repo.iterdir())) for repo in repos), default=0)
    if not spec.is_listed:
        assert spec.entry is not None
        names = revisions_on_disk(spec.repo, cache_dir)
        return sum(spec.entry.lm_step_of(name) is not None for name in names)
    held = {
        (repo, name)
        for repo in {repo for repo, _ in spec.places}
        for name in revisions_on_disk(repo, cache_dir)
    }
    return len(held.intersection(spec.places))
