"""Do activations move little between checkpoints, and do warm starts cost where they do not?

Theorem 2.1 (appendix C): if the gradient's norm is at most G and an activation is K-Lipschitz in
the parameters, a gradient step with learning rate eta moves it by at most eta K G. Real steps are
Adam's, checkpoints lie many steps apart, and the bound says nothing about SAEs. Measured here is
what it is meant to support: how far the same tokens' residuals move between checkpoints,

- per unit of parameter displacement: a lower estimate of K along the way that training took;
- per unit of summed learning rate: a lower estimate of K G;
- relative to their norm and to their spread, which is what an SAE has to bridge;
- and whether warm starts are worse where it is more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray
    from torch import Tensor

    from saetrack.analysis.geometry.inputs import Residuals

# What a warm start's cost is held against.
MOVES = ["relative_displacement", "displacement_over_spread", "mean_shift_share", "cka_distance"]

# Neighbouring links that are resampled together, and how often.
BLOCK_LINKS, BLOCK_DRAWS = 4, 1000

# Of the median displacement, over what.
QUOTIENTS = {
    "displacement_per_parameter": "parameter_displacement",
    "displacement_per_learning_rate": "learning_rate_sum",
}


@torch.no_grad()
def parameter_displacement(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """||theta_{t+1} - theta_t|| over parameters of the same names, such as a `state_dict`'s.

    Raises:
        ValueError: the names differ.
    """
    if before.keys() != after.keys():
        raise ValueError(f"parameters differ: {sorted(before.keys() ^ after.keys())[:3]}")
    squares = [(after[name].double() - before[name].double()).square().sum() for name in before]
    return float(torch.stack([square.cpu() for square in squares]).sum().sqrt())


@torch.no_grad()
def linear_cka(x: Float[Tensor, "tokens d_in"], y: Float[Tensor, "tokens d_in"]) -> float:
    """Linear centred kernel alignment: ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F), columns centred.

    1 for equal, rotated or scaled representations; NaN if one is constant.
    """
    x, y = x.double() - x.double().mean(dim=0), y.double() - y.double().mean(dim=0)
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / scale) if scale > 0 else float("nan")


@torch.no_grad()
def displacement(
    before: Float[Tensor, "tokens d_in"], after: Float[Tensor, "tokens d_in"]
) -> dict[str, float]:
    """How far the residuals of the same tokens moved; the columns from `tokens` on below."""
    x, y = before.double(), after.double()
    moved = y - x
    lengths, norms = moved.norm(dim=1), x.norm(dim=1)
    shift = moved.mean(dim=0)
    squared = float(moved.square().sum(dim=1).mean())
    spreads = [float((z - z.mean(dim=0)).square().sum(dim=1).mean().sqrt()) for z in (x, y)]
    cka = linear_cka(x, y)
    return {
        "tokens": len(x),
        "mean_displacement": float(lengths.mean()),
        "median_displacement": float(lengths.quantile(0.5)),
        "relative_displacement": float((lengths / norms.clamp_min(1e-12)).quantile(0.5)),
        "displacement_over_spread": squared**0.5 / spreads[0] if spreads[0] else np.nan,
        "cosine": float(torch.cosine_similarity(x, y, dim=1).mean()),
        "mean_shift": float(shift.norm()),
        "shape_shift": float((moved - shift).square().sum(dim=1).mean().sqrt()),
        "mean_shift_share": float(shift.square().sum()) / squared if squared else np.nan,
        "spread_growth": spreads[1] / spreads[0] if spreads[0] else np.nan,
        "linear_cka": cka,
        "cka_distance": 1 - cka,
    }


def continuity_table(
    residuals: Iterable[Residuals],
    parameter_displacements: Mapping[int, float] | None = None,
    learning_rate_sums: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Each checkpoint against the one before; two checkpoints are in memory at a time.

    Args:
        residuals: of each checkpoint, on the same tokens, ascending. Beginnings of sequences (BOS)
            have norms of their own: leave them out or pass them apart.
        parameter_displacements: by the LM step that a move ends at, ||theta_{t+1} - theta_t||.
        learning_rate_sums: likewise, learning rates summed over the steps between.

    Returns:
        One row per checkpoint but the first, with the columns

        - `from_step`, `lm_step`, `checkpoint_index`, `tokens`;
        - `mean_displacement`, `median_displacement` over tokens of ||x_{t+1} - x_t||;
        - `relative_displacement`: median of ||x_{t+1} - x_t|| / ||x_t||;
        - `displacement_over_spread`: root mean square of the move over that of the distance of x_t
          from its mean; `spread_growth`: the spread at t+1 over that at t;
        - `cosine`: mean over tokens of cos(x_t, x_{t+1});
        - `mean_shift`: length of the mean move, `shape_shift`: root mean square of the moves about
          it; `mean_shift_share`: of the mean squared move, the part that all tokens share. The two
          squares add up to the mean squared move;
        - `linear_cka`, `cka_distance` (1 less that);
        - `parameter_displacement`, `learning_rate_sum`: NaN where not given;
          `displacement_per_parameter`, `displacement_per_learning_rate`: the median displacement
          over them.

    Raises:
        ValueError: fewer than two checkpoints.
    """
    rows = []
    for before, after in pairwise(residuals):
        checkpoint = {"lm_step": after.lm_step, "checkpoint_index": after.checkpoint_index}
        rows.append({"from_step": before.lm_step, **checkpoint, **displacement(before.x, after.x)})
    if not rows:
        raise ValueError("fewer than two checkpoints: nothing moves")
    table = pd.DataFrame(rows)
    table["parameter_displacement"] = table["lm_step"].map(parameter_displacements or {})
    table["learning_rate_sum"] = table["lm_step"].map(learning_rate_sums or {})
    for quotient, path in QUOTIENTS.items():
        table[path] = table[path].astype(float)
        table[quotient] = table["median_displacement"] / table[path].replace(0, np.nan)
    return table


def with_warm_starts(continuity: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    """The moves beside what they cost the links that had to follow them.

    Args:
        continuity: as `continuity_table` gives it.
        links: one row per link: `lm_step`, `start_explained_variance` (before training),
            `explained_variance`, `tokens` (that it trained on).

    Returns:
        The moves that end at a link, with `start_explained_variance`, `explained_variance`,
        `link_tokens`, and `warm_start_cost`: the explained variance that the link had to regain.
    """
    wanted = ["lm_step", "start_explained_variance", "explained_variance", "tokens"]
    joined = continuity.merge(
        links[wanted].rename(columns={"tokens": "link_tokens"}), on="lm_step", validate="1:1"
    )
    cost = joined["explained_variance"] - joined["start_explained_variance"]
    return joined.assign(warm_start_cost=cost)


def warm_start_correlations(joined: pd.DataFrame) -> pd.DataFrame:
    """Are warm starts worse where residuals moved further?

    Neighbouring links are alike, so a p-value that takes them for independent would be far too
    small. An interval comes from resampled blocks of neighbours instead. Both columns also change
    steadily along a chain, which alone makes a correlation: that of their changes from link to link
    stands beside it as a control.

    Returns:
        One row per measure of the move: `measure`, `spearman` (with `warm_start_cost`),
        `spearman_low`, `spearman_high` (95 % of resampled chains; NaN with fewer than three
        blocks), `spearman_of_changes`, `links`.
    """
    rows = []
    for measure in MOVES:
        pairs = joined[[measure, "warm_start_cost"]].dropna().to_numpy()
        low, high = _spearman_interval(pairs)
        rows.append(
            {
                "measure": measure,
                "spearman": _spearman(pairs),
                "spearman_low": low,
                "spearman_high": high,
                "spearman_of_changes": _spearman(np.diff(pairs, axis=0)),
                "links": len(pairs),
            }
        )
    return pd.DataFrame(rows)


def _spearman(pairs: Float[ndarray, "links 2"]) -> float:
    """NaN for fewer than three links, or a column that does not vary."""
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return float("nan")
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def _spearman_interval(pairs: Float[ndarray, "links 2"]) -> tuple[float, float]:
    """Ends of the 95 % interval of a bootstrap of moving blocks."""
    if len(pairs) < 3 * BLOCK_LINKS:
        return float("nan"), float("nan")
    generator = np.random.default_rng(0)
    blocks = -(-len(pairs) // BLOCK_LINKS)
    starts = generator.integers(len(pairs) - BLOCK_LINKS + 1, size=(BLOCK_DRAWS, blocks, 1))
    drawn = (starts + np.arange(BLOCK_LINKS)).reshape(BLOCK_DRAWS, -1)[:, : len(pairs)]
    low, high = np.nanquantile([_spearman(pairs[chosen]) for chosen in drawn], [0.025, 0.975])
    return float(low), float(high)
