"""Which text a track reads, and how much of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen, Tokens

# The name of the embedded text, and short names of datasets on the hub.
EMBEDDED = "mini"
HUB_DATASETS = {
    "pile": "EleutherAI/the_pile_deduplicated",
    "openwebtext": "Skylion007/openwebtext",
}

# Of a dataset on the hub: it goes into addresses, so nothing that could lead elsewhere.
HubName = Annotated[str, Field(max_length=200, pattern=r"^\w[\w.+/-]*$")]


def _added(default: Any, description: str) -> Any:
    """A field that is written only where it is not `default`.

    Chains that were registered before the field existed keep their names and identities.
    """
    return Field(default, description=description, exclude_if=lambda value: value == default)


class CorpusConfig(Frozen):
    """Which text, and how much of each split. The splits are disjoint by document."""

    dataset: str = Field(
        default="pile",
        description="owner/name of a dataset on the hub, pile, openwebtext, mini (embedded), or a "
        "path to a file or folder of text on this machine",
    )
    config: HubName | None = _added(None, "of a dataset on the hub that has several configurations")
    split: HubName = _added("train", "of a dataset on the hub, or of a folder by `save_to_disk`")
    revision: HubName | None = _added(None, "of a dataset on the hub: a branch, tag or commit")
    text_field: str = _added("text", "the field or column that holds a document's text")
    separator: Annotated[str, Field(min_length=1)] | None = _added(
        None,
        "what ends a document in .txt and .md files; null: a blank line in a file that stands "
        "alone or has more than 1 MB, else the end of the file",
    )
    skip_bad_rows: bool = _added(
        False, "leave out and count rows without a text, and broken lines, instead of refusing them"
    )
    special_tokens: Literal["kept", "removed"] = _added(
        "kept", "special tokens that are spelled out in the text, such as those of a chat"
    )
    context_size: Annotated[int, Field(ge=2)] = Field(
        default=128, description="tokens of a row of text, BOS included"
    )
    train_tokens: Tokens = Field(
        default=300_000_000,
        description="of the part that links train on; read again if a budget is larger",
    )
    held_out_tokens: Tokens = Field(
        default=262_144, description="of the part that metrics are measured on"
    )
    analysis_tokens: Tokens = Field(default=4_194_304, description="of the part that analyses read")
    exclude_bos: bool = Field(
        default=False,
        description="leave BOS positions out of training and metrics; the authors keep them",
    )
    exclude_tokens: tuple[int | str, ...] = _added(
        (), "tokens whose positions are left out of training and metrics, by their text or id"
    )
    exclude_first_positions: Annotated[int, Field(ge=0)] = _added(
        0, "how many positions at the beginning of each row are left out of training and metrics"
    )

    @model_validator(mode="after")
    def _leaves_positions(self) -> Self:
        if self.exclude_first_positions >= self.context_size:
            raise UserError(
                f"corpus.exclude_first_positions={self.exclude_first_positions}: must be less than "
                f"corpus.context_size={self.context_size}"
            )
        return self

    def text_fields(self) -> dict[str, Any]:
        """The fields that determine the tokens on disk."""
        positions = {"exclude_bos", "exclude_tokens", "exclude_first_positions"}
        return self.model_dump(exclude=positions)
