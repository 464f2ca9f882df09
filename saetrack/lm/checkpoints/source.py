"""What the rest of the library knows of where checkpoints come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from saetrack.lm.catalog.models import Checkpoint, ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class CheckpointSource(Protocol):
    """The checkpoints of one LM."""

    @property
    def spec(self) -> ModelSpec:
        """The LM; a checkpoint's index is its place in `lm_steps`."""

    @property
    def repo(self) -> str:
        """Names the LM in identities: not where it lies, but what it is."""

    @property
    def lm_identity(self) -> str:
        """What makes two LMs two, wherever they lie: a chain's identity follows it.

        A hub's name of the repository; of a folder the content of its first checkpoint.
        """

    def weight_digests(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Hashes of the files that hold its weights, by name; none if they are not known yet.

        Every byte counts: the same weights saved in another form have other hashes.
        """

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: one is not to be had.
        """

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder with a checkpoint's config and weights, downloaded if need be.

        Raises:
            UserError: it is not to be had any more.
        """

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and an id that names its exact content.

        Raises:
            UserError: it is not to be had.
        """
