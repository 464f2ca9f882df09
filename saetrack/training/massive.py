"""Massive activations: a few residuals so long that metrics speak of them alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from saetrack.lm.token_texts import text_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.training.activations_store import ActivationsStore

log = logging.getLogger(__name__)

# A position is massive if its residual is so many times as long as the median (Sun et al. 2024,
# arXiv 2402.17762, speak of activations far above it).
TIMES_THE_MEDIAN = 10
# Of the squared length of all residuals; with less, most of what metrics say is about the others.
TOLD_SHARE = 0.5
SHOWN_TOKENS, FEW_POSITIONS = 5, 8


@dataclass(frozen=True)
class Massive:
    """Positions that carry more than half of the residuals' squared length.

    Attributes:
        share: of the squared length that they carry.
        of_positions: share of all positions.
        times: the longest residual over the median.
        counts: how many positions each token has, the most frequent first.
        first_positions: all are among so many at the beginning of their rows.
    """

    share: float
    of_positions: float
    times: float
    counts: dict[int, int]
    first_positions: int


def find_massive(
    resid: Float[Tensor, "tokens d_in"],
    token_ids: Int[Tensor, " tokens"],
    positions: Int[Tensor, " tokens"],
) -> Massive | None:
    """The massive positions among residuals, if they carry more than half of the squared length.

    Args:
        resid: of some positions.
        token_ids: that stand there.
        positions: within their rows, from 0.
    """
    norms = torch.linalg.vector_norm(resid, dim=1).double().cpu()
    median = norms.median()
    is_massive = norms > TIMES_THE_MEDIAN * median
    share = float(norms[is_massive].square().sum() / norms.square().sum())
    if not share > TOLD_SHARE:
        return None
    ids, counts = token_ids[is_massive].unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return Massive(
        share,
        float(is_massive.double().mean()),
        float(norms.max() / median),
        dict(zip(ids[order].tolist(), counts[order].tolist(), strict=True)),
        int(positions[is_massive].max()) + 1,
    )


def warn_of_massive(
    label: str, resid: Float[Tensor, "tokens d_in"], store: ActivationsStore
) -> tuple[str, ...]:
    """Log a warning that names the tokens, once for each chain and set of tokens.

    Args:
        label: of the chain.
        resid: of the held-out split at one layer.
        store: that gave them.

    Returns:
        The warning, for the link's page; nothing where there is none.
    """
    found = find_massive(resid, *store.held_out_positions())
    if found is None:
        return ()
    tokenizer = store.corpus.tokenizer
    names = [
        repr(text_of(tokenizer, [token_id])) if tokenizer is not None else str(token_id)
        for token_id in list(found.counts)[:SHOWN_TOKENS]
    ]
    if len(found.counts) > SHOWN_TOKENS:
        names.append(f"{len(found.counts) - SHOWN_TOKENS} more tokens")
    first = found.first_positions
    where = f", all among the first {first} of their rows" if first <= FEW_POSITIONS else ""
    tokens = ", ".join(names) + where
    line = _line(tokens, found)
    if (label, tokens) not in _warned:
        _warned.add((label, tokens))
        log.warning("%s: %s", label, line)
    return (line,)


_warned: set[tuple[str, str]] = set()


def _line(tokens: str, found: Massive) -> str:
    return (
        f"massive activations: {100 * found.of_positions:.1f} % of the positions ({tokens}), up to "
        f"{found.times:,.0f} times as long as the median, carry {100 * found.share:.1f} % of the "
        "residuals' squared length: explained variance speaks of them alone, and features of the "
        "other tokens may die; corpus.exclude_tokens, exclude_bos and exclude_first_positions "
        "leave positions out"
    )
