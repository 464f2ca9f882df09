"""Which checkpoints a chain visits, by index or by LM step, and on how many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from saetrack.chain.budget import Budget
from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen

# A registered schedule, which anyone may have written, must not fill the memory.
MAX_LINKS = 1_000_000
Direction = Literal["forward", "reverse", "conventional", "frozen", "jump", "permuted"]
Position = Annotated[int, Field(ge=0, le=10**12)]


class Piece(Frozen):
    """A part of a schedule: checkpoints from `first` to `last`, by their index or by LM step.

    If `last` is before `first`, it runs backward.

    Example:
        >>> Piece(first=20, last=60, every=20, tokens=1000).checkpoint_indices([0, 20, 40, 60])
        [1, 2, 3]
    """

    first: Position = Field(
        description="the first checkpoint: its index from 0, or with every its LM step"
    )
    last: Position | None = Field(
        description="null: for as long as a live folder grows; only in the last piece"
    )
    stride: Annotated[int, Field(gt=0)] = Field(
        default=1, description="how many checkpoints on the next one is"
    )
    every: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="how many LM steps on the next one is, in place of stride: first and last are "
        "then LM steps (first: 20, last: 140, every: 20); null: they are indices, from 0",
    )
    tokens: Budget = Field(
        description="training budget of each link of this piece: a number, or as many as it takes, "
        "such as {max: 60000, until: plateau, within: 0.01}"
    )
    repeat: Annotated[int, Field(gt=0, le=10_000)] = Field(
        default=1,
        description="links at each checkpoint: a chain over one checkpoint shows how far training "
        "alone moves its features",
    )
    order_seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="visit the checkpoints of this piece in the random order of this seed: a "
        "control that shows what does not depend on their order; null: from first to last",
        # A piece in order says nothing of it: names of chains, which hash it, stay the same.
        exclude_if=lambda value: value is None,
    )

    @property
    def distance(self) -> int:
        """From one position to the next, in the unit of `first` and `last`."""
        return self.stride if self.every is None else self.every

    @model_validator(mode="after")
    def _has_one_unit(self) -> Self:
        if self.every is not None and self.stride != 1:
            raise ValueError(
                f"stride={self.stride}: must be left out beside every={self.every}, which counts "
                "LM steps"
            )
        return self

    @model_validator(mode="after")
    def _permuted_has_an_end(self) -> Self:
        if self.order_seed is not None and self.last is None:
            raise ValueError(
                f"order_seed={self.order_seed}: must be left out beside last=null: checkpoints "
                "that are still to come have no random order"
            )
        return self

    @model_validator(mode="after")
    def _ends_meet(self) -> Self:
        unit = "stride" if self.every is None else "every"
        if self.last is not None and (self.last - self.first) % self.distance:
            raise ValueError(
                f"last={self.last} must be first={self.first} plus or minus a multiple of "
                f"{unit}={self.distance}"
            )
        if len(self.positions()) * self.repeat > MAX_LINKS:
            raise ValueError(f"last={self.last}: makes more than {MAX_LINKS:,} links")
        return self

    def positions(self, newest: int = 0) -> range:
        """First to last in the unit of the piece: indices, or LM steps.

        Args:
            newest: position of the LM's newest checkpoint: where a piece without end stops.
        """
        last = max(self.first, newest) if self.last is None else self.last
        onward = 1 if last >= self.first else -1
        return range(self.first, last + onward, onward * self.distance)

    def checkpoint_indices(self, lm_steps: Sequence[int]) -> list[int]:
        """The checkpoints of this piece that there are, in the order in which they are visited.

        Args:
            lm_steps: of all checkpoints that the LM has, ascending.
        """
        if self.every is None:
            n_checkpoints = len(lm_steps)
            there = [i for i in self.positions(n_checkpoints - 1) if i < n_checkpoints]
            return self.in_order(there)
        index_of = {lm_step: index for index, lm_step in enumerate(lm_steps)}
        wanted = self.positions(lm_steps[-1] if lm_steps else 0)
        return self.in_order([index_of[lm_step] for lm_step in wanted if lm_step in index_of])

    def in_order(self, checkpoints: Sequence[int]) -> list[int]:
        """Checkpoints from first to last, as this piece visits them."""
        if self.order_seed is None:
            return list(checkpoints)
        order = np.random.default_rng(self.order_seed).permutation(len(checkpoints))
        return [checkpoints[number] for number in order]

    def absent(self, lm_steps: Sequence[int]) -> list[int]:
        """Positions of this piece at which the LM has no checkpoint; of no end, none."""
        if self.last is None:
            return []
        there = range(len(lm_steps)) if self.every is None else set(lm_steps)
        return [position for position in self.positions() if position not in there]


def direction_of(pieces: Sequence[Piece], *, from_scratch: bool) -> Direction:
    """How a chain over these pieces runs through its LM's training; without pieces, forward.

    Args:
        pieces: of a schedule.
        from_scratch: whether its first link starts from no other SAE.
    """
    if not pieces:
        return "forward"
    if any(piece.order_seed is not None for piece in pieces):
        return "permuted"
    if pieces[0].first == pieces[-1].last:
        is_one_link = len(pieces) == pieces[0].repeat == 1
        return "conventional" if is_one_link and from_scratch else "frozen"
    if sum(len(piece.positions()) for piece in pieces) == 2 and pieces[-1].repeat > 1:
        return "jump"
    return "reverse" if _is_backward(pieces) else "forward"


def require_one_direction(pieces: Sequence[Piece]) -> None:
    """Check that pieces follow each other; a piece may permute the checkpoints within it.

    Raises:
        UserError: one goes on without end before the last, they count in different units, or
            checkpoints go forth and back.
    """
    for piece in pieces[:-1]:
        if piece.last is None:
            raise UserError("schedule: only the last piece may go on without end (last=null)")
    if len({piece.every is None for piece in pieces}) > 1:
        raise UserError(
            "schedule: every (LM steps) must stand in all pieces or in none: the others count "
            "checkpoints by their index"
        )
    positions = (i for piece in pieces for i in piece.positions())
    is_frozen = bool(pieces) and pieces[0].first == pieces[-1].last
    for earlier, later in pairwise(positions):
        if is_frozen:
            is_in_order = later == earlier
        else:
            is_in_order = later < earlier if _is_backward(pieces) else later > earlier
        if not is_in_order:
            unit = "checkpoint" if pieces[0].every is None else "LM step"
            raise UserError(
                f"schedule: {unit} {later} comes after {earlier}; must ascend throughout, or "
                "descend throughout (order_seed permutes the checkpoints of a piece)"
            )


def _is_backward(pieces: Sequence[Piece]) -> bool:
    last = pieces[-1].last
    return last is not None and last < pieces[0].first


class Adaptive(Frozen):
    """Checkpoints by how far activations move: chosen once, before the first link is trained.

    Of the LM's checkpoints from the first to the last those are chosen between which activations
    move as evenly as can be, so that warm starts lose equally (`saetrack.chain.adaptive`).

    Example:
        >>> schedule = Adaptive(adaptive=2, first_tokens=400_000, tokens=60_000)
        >>> [(piece.first, piece.tokens) for piece in schedule.pieces([0, 512])]
        [(0, 400000), (512, 60000)]
    """

    adaptive: Annotated[int, Field(ge=2, le=10_000)] = Field(
        description="how many checkpoints, the first and the last among them"
    )
    first_tokens: Budget = Field(description="training budget of the first link, as of a piece")
    tokens: Budget = Field(description="training budget of each later link, as of a piece")
    stride: Annotated[int, Field(gt=0)] = Field(
        default=1,
        description="how many checkpoints on the next candidate is; every candidate is downloaded "
        "and run once",
    )

    def candidates(self, n_checkpoints: int) -> list[int]:
        """Indices among which is chosen; the last checkpoint is one of them."""
        return sorted({*range(0, n_checkpoints, self.stride), n_checkpoints - 1})

    def pieces(self, lm_steps: Sequence[int]) -> tuple[Piece, ...]:
        """The schedule, once the checkpoints are chosen."""
        return tuple(
            Piece(
                first=lm_step,
                last=lm_step,
                every=1,
                tokens=self.tokens if number else self.first_tokens,
            )
            for number, lm_step in enumerate(lm_steps)
        )


def describe(lm_steps: Sequence[int], shown: int = 8) -> str:
    """The checkpoints that an LM has, as a message names them."""
    if not lm_steps:
        return "no checkpoint yet"
    n = len(lm_steps)
    if n <= shown:
        listed = ", ".join(map(str, lm_steps))
    else:
        listed = f"{', '.join(map(str, lm_steps[:3]))}, ..., {lm_steps[-1]}"
    return f"indices 0 to {n - 1}, which are LM steps {listed}"
