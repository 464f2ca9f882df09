"""Which text a track reads, and how much of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from saetrack.utils.validation import Frozen, Tokens

# Names of corpora on the hub; `mini` is the embedded text, anything else a local file or folder.
HUB_DATASETS = {
    "pile": "EleutherAI/the_pile_deduplicated",
    "openwebtext": "Skylion007/openwebtext",
}


class CorpusConfig(Frozen):
    """Which text, and how much of each split. The splits are disjoint by document."""

    dataset: str = Field(
        default="pile",
        description="pile, openwebtext, mini (embedded), or a path to .txt or .jsonl files",
    )
    context_size: Annotated[int, Field(ge=2)] = 128
    train_tokens: Tokens = 300_000_000
    held_out_tokens: Tokens = 262_144
    analysis_tokens: Tokens = 4_194_304
    exclude_bos: bool = Field(
        default=False,
        description="leave BOS positions out of training and metrics; the authors keep them",
    )

    def text_fields(self) -> dict[str, Any]:
        """The fields that determine the tokens on disk."""
        return self.model_dump(exclude={"exclude_bos"})
