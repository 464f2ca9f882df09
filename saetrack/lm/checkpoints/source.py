"""Where checkpoints come from: what the library knows of a hub, a folder, an embedded LM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from saetrack.lm.catalog.models import Checkpoint, ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class CheckpointSource(Protocol):
    """The checkpoints of one LM."""

    @property
    def spec(self) -> ModelSpec:
        """The LM; its `lm_steps` are indexed by `checkpoint_index`."""

    @property
    def repo(self) -> str:
        """Names the LM in identities; it contains no path."""

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: one is not available.
        """

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder with a checkpoint's config and weights, downloaded if need be.

        Raises:
            UserError: it is not available any more.
        """

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and an id that names its exact content.

        Raises:
            UserError: it is not available.
        """
