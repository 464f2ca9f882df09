"""The manifest of a life store: what is in it, and what its numbers mean."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from saetrack.analysis.life_store.layout import PROMOTED, Shape, required_arrays
from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen, Index

# Raise when the layout changes: older stores are then refused.
STORE_VERSION: Literal[1] = 1

Dtype = Literal["u1", "u2", "u4", "i2", "i4", "f2", "f4"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]  # it names a file
Count = Annotated[int, Field(ge=1)]


class Strict(Frozen):
    """No value is converted: a store is written by a program."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ControlBand(Strict):
    """Between which values a control lies at each link; null where it has none."""

    title: str
    low: list[float | None]
    high: list[float | None]


class Column(Strict):
    """One value per feature, at each link or of the chain."""

    name: Name
    title: str
    unit: str
    description: str
    dtype: Dtype
    per_link: bool
    curve: bool
    scale: Literal["linear", "log"] = "linear"
    range: list[float] | None = None
    control: ControlBand | None = None


class LinkFacts(Strict):
    """A link of the chain, with its metrics on held-out tokens."""

    lm_step: Index
    version: Index
    collapsed: bool
    explained_variance: float | None
    l0: float | None
    dead: float | None


class Window(Strict):
    """How many tokens a context shows before and behind its own."""

    before: Index
    after: Index


class MatchedChain(Strict):
    """Another chain, with whose features those of this one are matched at one checkpoint."""

    chain: str
    name: str
    role: str
    lm_step: Index
    text: str


class ArrayFacts(Strict):
    """An array's dtype and shape."""

    dtype: Dtype
    shape: list[Index]


class Arrays(Strict):
    """The arrays of each link, and of the chain."""

    links: dict[Name, ArrayFacts]
    of_chain: dict[Name, ArrayFacts]


class Manifest(Strict):
    """`chain.json`."""

    analysed: Literal[True] = True
    version: Literal[1] = STORE_VERSION
    name: str
    lm: str
    hook: str
    architecture: str
    d_in: Count
    d_sae: Count
    direction: str
    seed: int
    tokens: ArrayFacts
    vocabulary: Count
    links: Annotated[list[LinkFacts], Field(min_length=1)]
    labels: list[str]
    patterns: list[str]
    context_groups: list[str]
    contexts: Count
    judged_contexts: Count | None = None  # earlier releases did not say it
    window: Window
    histogram_bins: Count
    columns: list[Column]
    phases: dict[str, list[float]]
    live: list[Index]
    matches: list[MatchedChain]
    notes: list[str]
    of_concepts: str = ""  # a line: how many there would be by chance
    of_patterns: str = ""  # a line: how far a single feature's can be trusted
    # How many random directions have each of `labels`, at each link; earlier releases kept none.
    labels_of_directions: list[list[Index]] | None = None
    arrays: Arrays

    @property
    def width(self) -> int:
        """Tokens of a window."""
        return self.window.before + 1 + self.window.after

    @model_validator(mode="after")
    def _names_the_arrays_that_it_needs(self) -> Self:
        needed = required_arrays(
            self.d_sae, self.contexts, self.width, self.histogram_bins, len(self.matches)
        )
        columns = {True: self.arrays.links, False: self.arrays.of_chain}
        for column in self.columns:
            needed[not column.per_link][column.name] = Shape(column.dtype, (self.d_sae,))
        for where, named in (("links", columns[True]), ("of_chain", columns[False])):
            for name, shape in needed[where == "of_chain"].items():
                if name not in named:
                    raise UserError(f"arrays.{where}.{name}: missing")
                if (named[name].dtype, tuple(named[name].shape)) != shape:
                    raise UserError(
                        f"arrays.{where}.{name}={named[name].dtype}{named[name].shape}: must be "
                        f"{shape.dtype}{list(shape.shape)}"
                    )
        self._has_a_value_per_link()
        self._has_logits_of_tokens()
        return self

    def _has_logits_of_tokens(self) -> None:
        """Tokens that are promoted have a logit each; earlier releases kept neither."""
        for kind in PROMOTED:
            tokens, logits = (self.arrays.links.get(f"{kind}_{of}") for of in ("tokens", "logits"))
            if tokens is None and logits is None:
                continue
            shape = [self.d_sae, tokens.shape[-1] if tokens and tokens.shape else 1]
            wanted = ArrayFacts(dtype="i4", shape=shape), ArrayFacts(dtype="f4", shape=shape)
            if (tokens, logits) != wanted:
                raise UserError(
                    f"arrays.links.{kind}_tokens: must be i4, {kind}_logits f4, {self.d_sae} rows"
                )

    def _has_a_value_per_link(self) -> None:
        bands = [column.control for column in self.columns if column.control is not None]
        lengths = {len(self.live)}
        lengths |= {len(bound) for band in bands for bound in (band.low, band.high)}
        if wrong := lengths - {len(self.links)}:
            raise UserError(f"links: {len(self.links)} links, but {wrong.pop()} values of them")
        counts = self.labels_of_directions
        if counts is not None and [len(at) for at in counts] != [len(self.labels)] * len(
            self.links
        ):
            raise UserError(
                f"labels_of_directions: must have {len(self.labels)} counts at each of "
                f"{len(self.links)} links"
            )
        if len(self.tokens.shape) != 2:
            raise UserError(f"tokens={self.tokens.shape}: must be rows and context_size")
