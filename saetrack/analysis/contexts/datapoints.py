"""Datapoints: positions in rows of text, pooled over all analyses and read as text.

All sets of datapoints (top contexts, random contexts, controls) are pooled, so that one pass of an
LM and one of its SAE give what every analysis of that checkpoint needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

Decode = Callable[[list[int]], str]

# Put around the datapoint's own token where its context is text.
MARKS = ("⟦", "⟧")


@dataclass(frozen=True)
class Datapoints:
    """The union of some sets, each datapoint once.

    Attributes:
        rows: of each point, ascending, (points,).
        positions: of each point, ascending within a row, (points,).
        sets: by name, indices in the union, of the shape of what was given; -1 where that had -1.
    """

    rows: Int[ndarray, " points"]
    positions: Int[ndarray, " points"]
    sets: dict[str, Int[ndarray, "..."]]

    def in_rows(
        self, row_numbers: Int[ndarray, " batch_rows"], context_size: int
    ) -> tuple[Int[ndarray, " found"], Int[ndarray, " found"]]:
        """Which points lie in a batch of rows, and where.

        Returns:
            The points (indices in the union), and their indices in the flattened batch.
        """
        index = np.searchsorted(row_numbers, self.rows)
        inside = index < len(row_numbers)
        inside[inside] = row_numbers[index[inside]] == self.rows[inside]
        points = np.flatnonzero(inside)
        return points, index[points] * context_size + self.positions[points]


def unite(
    sets: Mapping[str, tuple[Int[ndarray, "..."], Int[ndarray, "..."]]],
) -> Datapoints:
    """Pool sets of datapoints.

    Args:
        sets: by name the rows and the positions, arrays of one shape; a row of -1 is no datapoint.
    """
    shift = 1 + max((int(positions.max(initial=0)) for _, positions in sets.values()), default=0)
    codes = {name: rows.astype(np.int64) * shift + at for name, (rows, at) in sets.items()}
    all_codes = [code[sets[name][0] >= 0] for name, code in codes.items()]
    union = np.unique(np.concatenate([*all_codes, np.empty(0, np.int64)]))
    indices = {
        name: np.where(sets[name][0] >= 0, np.searchsorted(union, code), -1)
        for name, code in codes.items()
    }
    rows, positions = np.divmod(union, shift)
    return Datapoints(rows, positions, indices)


def random_contexts(
    token_rows: Int[ndarray, "rows context"],
    draws: int,
    size: int,
    seed: int,
    excluded: Excluded = NOTHING,
) -> tuple[Int[ndarray, "draws size"], Int[ndarray, "draws size"]]:
    """Random datapoints, the baseline of Eq 9: in each draw one position of each of `size` rows.

    Args:
        token_rows: rows of the corpus split.
        draws: how many sets; the spread between them is the baseline's.
        size: datapoints per set (the authors: 150 in activation space, 100 in feature space).
        seed: of the draws.
        excluded: positions that are never drawn.

    Returns:
        Rows and positions.

    Raises:
        ValueError: fewer rows than `size` have a position that may be drawn.
    """
    eligible = np.flatnonzero(excluded.kept_in(token_rows).any(axis=1))
    if len(eligible) < size:
        raise ValueError(f"{len(eligible)} rows, fewer than a random set's {size}")
    generator = np.random.default_rng(seed)
    rows = np.stack([eligible[generator.permutation(len(eligible))[:size]] for _ in range(draws)])
    chance = generator.random((draws, size, token_rows.shape[1]))
    for draw, of_draw in zip(chance, rows, strict=True):
        draw[~excluded.kept_in(token_rows[of_draw])] = -1
    return rows, chance.argmax(axis=-1)


def random_directions(directions: int, d_in: int, seed: int) -> Float[Tensor, "directions d_in"]:
    """Unit vectors for the control: their datapoints are chosen as a feature's are.

    A direction's activation is `relu((x - b_dec) @ direction)`, with the SAE's `b_dec`; pairs for
    `TopContexts` are its `nonzero`.
    """
    import torch

    gaussian = np.random.default_rng(seed).normal(size=(directions, d_in))
    return torch.from_numpy(gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)).float()


def token_ids_at(
    token_rows: Int[ndarray, "rows context"],
    rows: Int[ndarray, "..."],
    positions: Int[ndarray, "..."],
) -> Int[ndarray, "..."]:
    """The token of each datapoint; -1 where there is none (a row of -1)."""
    return np.where(rows >= 0, np.asarray(token_rows[rows, positions], np.int64), -1)


def read_windows(
    token_rows: Int[ndarray, "rows context"],
    rows: Int[ndarray, " points"],
    positions: Int[ndarray, " points"],
    decode: Decode,
    window: tuple[int, int] = (10, 5),
) -> list[str]:
    """Datapoints as text: the tokens around each, on one line, its own token marked."""
    texts = []
    for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
        if row < 0:
            texts.append("")
            continue
        ids = token_rows[row].tolist()
        before = decode(ids[max(position - window[0], 0) : position])
        after = decode(ids[position + 1 : position + 1 + window[1]])
        token = decode([ids[position]])
        # Blanks stay outside of the marks; a token of blanks alone is shown as it is written.
        bare = token.strip() or repr(token)[1:-1]
        lead = token[: len(token) - len(token.lstrip())] if token.strip() else ""
        text = f"{before}{lead}{MARKS[0]}{bare}{MARKS[1]}{after}"
        texts.append(" ".join(text.split()))
    return texts
