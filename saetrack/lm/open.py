"""From the name of an LM to its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.files import TOKENIZER
from saetrack.lm.checkpoints.folder import FolderSource, open_folder, peek_into_folder
from saetrack.lm.checkpoints.hub_source import HubSource, open_repo
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.checkpoints.store import TOKENIZER_REVISION, commit_folder, commit_of
from saetrack.lm.embedded import recipe
from saetrack.lm.embedded.publish import ensure_built

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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


def source_here(spec: ModelSpec, cache_dir: Path) -> FolderSource | HubSource | None:
    """The source as far as this machine knows it: trains, fetches and asks nothing, keeps nothing.

    None where it does not know which checkpoints there are.

    Raises:
        UserError: the folder is gone.
    """
    if spec.folder is not None:
        return peek_into_folder(spec, cache_dir)
    if not spec.lm_steps:
        return None
    repo = spec.repo
    if repo is None:
        repo = f"saetrack/{spec.name}-{recipe.recipe_key(spec)}"
        if commit_of(cache_dir, repo, TOKENIZER_REVISION) is None:
            return None  # it is not trained yet
    return HubSource(spec, repo, cache_dir, limit_bytes=0)


def tokenizer_here(spec: ModelSpec, cache_dir: Path) -> tuple[PreTrainedTokenizerFast, str] | None:
    """The tokenizer of a hub's or an embedded LM if this machine has it; fetches nothing.

    With it comes the id that names its exact content.
    """
    repo = spec.repo or f"saetrack/{spec.name}-{recipe.recipe_key(spec)}"
    if spec.entry is not None and spec.entry.tokenizer:
        repo = spec.entry.tokenizer
    commit = commit_of(cache_dir, repo, TOKENIZER_REVISION)
    if commit is None or not commit_folder(cache_dir, TOKENIZER, repo, commit).is_dir():
        return None
    from transformers import AutoTokenizer

    folder = commit_folder(cache_dir, TOKENIZER, repo, commit)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer, f"{repo}@{commit}"


def learning_rate(spec: ModelSpec) -> LearningRate | None:
    """The learning rate of an LM's own training, where it is known."""
    if spec.entry is not None:
        return spec.entry.learning_rate
    return recipe.learning_rate(spec) if spec.folder is None else None
