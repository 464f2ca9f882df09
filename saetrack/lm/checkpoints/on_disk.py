"""Which of an LM's checkpoints this machine holds."""

from __future__ import annotations

from pathlib import Path

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints import hub


def checkpoints_on_disk(spec: ModelSpec, cache_dir: Path) -> int:
    """How many of an LM's checkpoints lie in the hub's cache, weights and all.

    Args:
        spec: of the catalogue.
        cache_dir: where embedded LMs are published.
    """
    if spec.repo is None:
        cache = cache_dir / "hub"
        made = [path.name for path in cache.glob(f"models--saetrack--{spec.name}-*")]
        repos = [name.removeprefix("models--").replace("--", "/") for name in made]
        named = {spec.revision(index) for index in range(len(spec.lm_steps))}
        counts = [len(named.intersection(hub.revisions_on_disk(repo, cache))) for repo in repos]
        return max(counts, default=0)  # one for each recipe; the others are of older ones
    if not spec.is_listed:
        assert spec.entry is not None
        names = hub.revisions_on_disk(spec.repo, hub.hub_cache())
        return sum(spec.entry.lm_step_of(name) is not None for name in names)
    held = {
        (repo, name)
        for repo in {repo for repo, _ in spec.places}
        for name in hub.revisions_on_disk(repo, hub.hub_cache())
    }
    return len(held.intersection(spec.places))
