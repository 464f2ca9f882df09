"""Do all activations point the same way at some checkpoint? (appendix L, figure 43)

The mean cosine between random residuals is the baseline of the progress measure (Eq 9): where it
bursts, the measure has no room left and its curves show a dent that no feature made. Centred
residuals, less their mean over tokens, have no common direction: what remains there is not the
common mean's doing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.analysis.geometry.inputs import Residuals


# A checkpoint counts as collapsed if the raw mean cosine over draws is at least `SEVERE`, whatever
# the others have (0.95: GPT-2-small-a's glitch), or higher by `RISE` than at the first and than at
# the last checkpoint, both: a burst that came and went.
SEVERE, RISE = 0.95, 0.3
COLLAPSE_IN_WORDS = (
    f"raw mean cosine >= {SEVERE:g}, or {RISE:g} above the first and the last checkpoint"
)


def mean_pairwise_cosine(x: Float[Tensor, "points d_in"]) -> float:
    """Mean cosine over all ordered pairs of different points (Eq 8, 9); a zero vector's is 0.

    The sum over all pairs is the squared norm of the sum of unit vectors u; those of a point with
    itself are taken off:  (||sum u||^2 - sum ||u||^2) / (n (n - 1)).
    """
    if len(x) < 2:
        return float("nan")
    unit = normalize(x.double(), dim=1)
    with_itself = unit.square().sum()
    return float((unit.sum(dim=0).square().sum() - with_itself) / (len(x) * (len(x) - 1)))


def draw_positions(
    tokens: int, sample: int, draws: int, seed: int
) -> Int[np.ndarray, "draws sample"]:
    """Seeded samples of token positions, each without replacement; the same for every checkpoint.

    Raises:
        ValueError: there are fewer tokens than a sample has.
    """
    if tokens < sample:
        raise ValueError(f"{tokens} tokens, fewer than a sample of {sample}")
    random = np.random.default_rng(seed)
    return np.stack([random.choice(tokens, size=sample, replace=False) for _ in range(draws)])


@torch.no_grad()
def collapse_table(
    residuals: Iterable[Residuals],
    sample: int = 100,
    draws: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean pairwise cosine of random residuals at each checkpoint, raw and centred.

    Args:
        residuals: of each checkpoint, on the same tokens, ascending; for samples from different
            sequences, as in the paper, pass one token of each.
        sample: residuals per draw; the paper has 100.
        draws: how often; the paper has one.
        seed: of the draws.

    Returns:
        One row per checkpoint, with the columns

        - `lm_step`, `checkpoint_index`, `tokens`, `sample`, `draws`;
        - `raw_X` and `centred_X` with X of `mean`, `sd` (of one draw, n - 1), `min`, `max`, over
          draws; centred is less the mean over all the tokens given;
        - `raw_all`, `centred_all`: over all tokens instead of samples of them;
        - `severe`, `collapsed`: see `SEVERE`.
    """
    positions = None
    rows = []
    for checkpoint in residuals:
        x = checkpoint.x.double()
        if positions is None:
            positions = torch.from_numpy(draw_positions(len(x), sample, draws, seed))
        row: dict[str, float] = {
            "lm_step": checkpoint.lm_step,
            "checkpoint_index": checkpoint.checkpoint_index,
            "tokens": len(x),
            "sample": sample,
            "draws": draws,
        }
        for form, points in (("raw", x), ("centred", x - x.mean(dim=0))):
            found = np.array([mean_pairwise_cosine(points[draw]) for draw in positions])
            row[f"{form}_mean"], row[f"{form}_sd"] = found.mean(), found.std(ddof=1)
            row[f"{form}_min"], row[f"{form}_max"] = found.min(), found.max()
            row[f"{form}_all"] = mean_pairwise_cosine(points)
        rows.append(row)
    table = pd.DataFrame(rows)
    level = table["raw_mean"]
    severe = level >= SEVERE
    burst = level >= max(level.iloc[0], level.iloc[-1]) + RISE
    return table.assign(severe=severe, collapsed=severe | burst)
