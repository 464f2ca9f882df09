"""Where checkpoints come from: revisions of a hub repository, or of the embedded LM's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.catalog import ModelSpec
from saetrack.lm import hub

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Tokenizers do not change in training; every repository keeps its own on the main branch.
TOKENIZER_REVISION = "main"


@dataclass(frozen=True)
class Checkpoint:
    """One training checkpoint of an LM, pinned to a commit."""

    checkpoint_index: int
    lm_step: int
    repo: str
    revision: str
    commit: str


@dataclass(frozen=True)
class CheckpointSource:
    """The repository of one LM, and the cache it is read through."""

    spec: ModelSpec
    repo: str
    cache: Path

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: a revision is neither in the cache nor to be had from the hub.
        """
        revisions = {index: self.spec.revision(index) for index in checkpoint_indices}
        commits = hub.commits(
            self.repo, [*revisions.values(), TOKENIZER_REVISION], self.cache
        )  # the tokenizer is needed too: find out now rather than after an hour
        return [
            Checkpoint(index, self.spec.lm_steps[index], self.repo, name, commits[name])
            for index, name in revisions.items()
        ]

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder of a checkpoint, downloaded if need be."""
        return hub.fetch_checkpoint(
            checkpoint.repo, checkpoint.revision, checkpoint.commit, self.cache
        )

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and the commit that names its exact content."""
        from transformers import AutoTokenizer

        commit = hub.commits(self.repo, [TOKENIZER_REVISION], self.cache)[TOKENIZER_REVISION]
        folder = hub.fetch(self.repo, TOKENIZER_REVISION, commit, hub.TOKENIZER_FILES, self.cache)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        return tokenizer, f"{self.repo}@{commit}"


def open_source(spec: ModelSpec, cache_dir: Path) -> CheckpointSource:
    """The source of an LM's checkpoints; an embedded LM is trained first if this machine lacks it.

    Args:
        spec: the catalogue's entry.
        cache_dir: where embedded LMs are kept; others use the hub's own cache.
    """
    if spec.repo is not None:
        return CheckpointSource(spec, spec.repo, hub.hub_cache())
    from saetrack.lm.mini import ensure_built  # only embedded LMs are trained here

    cache = cache_dir / "hub"
    return CheckpointSource(spec, ensure_built(spec, cache), cache)
