"""What a track IS: every number that determines the weights of its SAEs, validated."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from saetrack.catalog import find_model
from saetrack.errors import UserError, one_line
from saetrack.sae.objective import Objective
from saetrack.sae.training import Carry, Optimiser, Revival

# Names of corpora on the hub; `mini` is the embedded text, anything else a local file or folder.
HUB_DATASETS = {
    "pile": "EleutherAI/the_pile_deduplicated",
    "openwebtext": "Skylion007/openwebtext",
}

Tokens = Annotated[int, Field(gt=0)]
Index = Annotated[int, Field(ge=0)]
Direction = Literal["forward", "reverse", "conventional"]


class Frozen(BaseModel):
    """Immutable, and strict about names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value != "mini" and value not in HUB_DATASETS and not Path(value).expanduser().exists():
            known = ", ".join(["mini", *HUB_DATASETS])
            raise ValueError(f"unknown dataset; must be {known}, or a path that exists")
        return value

    def text_fields(self) -> dict[str, Any]:
        """The fields that determine the tokens on disk."""
        return self.model_dump(exclude={"exclude_bos"})


class Piece(Frozen):
    """One straight piece of a schedule: every `stride`-th checkpoint from `first` to `last`.

    A `last` before `first` runs backward.
    """

    first: Index
    last: Index
    stride: Annotated[int, Field(gt=0)] = 1
    tokens: Tokens = Field(description="training budget of each link of this piece")

    @model_validator(mode="after")
    def _ends_meet(self) -> Self:
        if (self.last - self.first) % self.stride:
            raise ValueError(
                f"last={self.last} must be first={self.first} plus a multiple of "
                f"stride={self.stride}, or less one"
            )
        return self

    def checkpoint_indices(self) -> range:
        """The checkpoints of this piece, in order."""
        onward = 1 if self.last >= self.first else -1
        return range(self.first, self.last + onward, onward * self.stride)


class TrackConfig(Frozen):
    """One track: an LM, a hook, a dictionary, and the chain of SAEs over the LM's checkpoints."""

    model: str = Field(description="a name of the catalogue, such as pythia-410m-deduped")
    layer: Index = Field(description="of blocks.{layer}.hook_resid_pre")
    d_sae: Annotated[int, Field(gt=0)] = Field(description="features of the dictionary")
    schedule: Annotated[tuple[Piece, ...], Field(min_length=1)]
    corpus: CorpusConfig = CorpusConfig()
    convention: Literal["centred", "raw"] = Field(
        default="centred",
        description="residual as in the paper (writing weights centred), or as the LM has it",
    )
    lm_precision: Literal["float32", "bfloat16"] = "float32"
    objective: Objective = Objective()
    first_link: Optimiser = Optimiser(learning_rate=4e-4, warmup_steps=5000)
    later_links: Optimiser = Optimiser(learning_rate=4e-5, warmup_steps=3)
    carry: Carry = Carry()
    revival: Revival = Revival()
    batch_tokens: Tokens = 4096
    buffer_tokens: Tokens = 524_288
    seed: Index = 0

    @model_validator(mode="after")
    def _fits_the_model(self) -> Self:
        spec = find_model(self.model)
        if self.layer >= spec.n_layers:
            raise UserError(f"layer={self.layer}: {self.model} has layers 0 to {spec.n_layers - 1}")
        if self.corpus.context_size > spec.max_context:
            raise UserError(
                f"corpus.context_size={self.corpus.context_size}: {self.model} takes at most "
                f"{spec.max_context}"
            )
        last = max(max(piece.first, piece.last) for piece in self.schedule)
        if last >= len(spec.lm_steps):
            raise UserError(
                f"schedule: checkpoint {last} is beyond {self.model}'s last, "
                f"{len(spec.lm_steps) - 1}"
            )
        return self

    @property
    def budgets(self) -> dict[int, int]:
        """Training tokens of each link, by checkpoint index, in the chain's order."""
        return {
            index: piece.tokens for piece in self.schedule for index in piece.checkpoint_indices()
        }

    @property
    def direction(self) -> Direction:
        """Through the LM's training, `reverse` as in appendix I.2; one link is `conventional`."""
        first, last = self.schedule[0].first, self.schedule[-1].last
        if first == last:
            return "conventional"
        return "forward" if first < last else "reverse"

    @model_validator(mode="after")
    def _runs_one_way(self) -> Self:
        indices = [index for piece in self.schedule for index in piece.checkpoint_indices()]
        for earlier, later in pairwise(indices):
            one_way = later < earlier if self.direction == "reverse" else later > earlier
            if not one_way:
                raise UserError(
                    f"schedule: checkpoint {later} comes after {earlier}; must ascend throughout, "
                    "or descend throughout"
                )
        return self

    @model_validator(mode="after")
    def _buffer_mixes(self) -> Self:
        if self.buffer_tokens < 2 * self.batch_tokens:
            raise UserError(
                f"buffer_tokens={self.buffer_tokens}: must be at least twice "
                f"batch_tokens={self.batch_tokens}"
            )
        return self

    @property
    def hook_name(self) -> str:
        """TransformerLens' name of the hook."""
        return f"blocks.{self.layer}.hook_resid_pre"


def load_config(values: dict[str, Any]) -> TrackConfig:
    """Validate a track's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    try:
        return TrackConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(one_line(error)) from None
