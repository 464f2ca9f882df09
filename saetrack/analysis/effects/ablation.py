"""True ablation of a few features, which attribution is held against.

A feature is taken out of a whole row at once, the LM runs again, and the losses of the row and the
distributions of its next tokens are compared with those of the LM as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.sae.kernels.sparse import ActivePairs

# Rows that a feature is taken out of, the first in which it fires.
ROWS = 2
BOOTSTRAPS = 1000
COLUMNS = ("feature", "fires", "attribution", "ablation", "kl")


@dataclass(frozen=True)
class Ablation:
    """One feature in one row of a batch.

    Attributes:
        feature: that is taken out.
        row: of the batch.
        positions: where it fires.
        feature_acts: there.
        attribution: its summed effect there, nats.
    """

    feature: int
    row: int
    positions: Int[Tensor, " fires"]
    feature_acts: Float[Tensor, " fires"]
    attribution: float


class AblationSample:
    """Chooses what is ablated, and keeps what comes of it."""

    def __init__(self, features: Iterable[int], rows: int = ROWS) -> None:
        """Nothing is ablated yet.

        Args:
            features: that may be.
            rows: of each feature.
        """
        self._left = dict.fromkeys(map(int, features), rows)
        self._found: list[tuple[Any, ...]] = []

    def of_batch(
        self, pairs: ActivePairs, effects: Float[Tensor, " pairs"], context_size: int
    ) -> Iterator[Ablation]:
        """What is to be ablated in a batch of rows.

        Args:
            pairs: that take part.
            effects: of each pair, by attribution.
            context_size: tokens of a row.
        """
        wanted = [feature for feature, left in self._left.items() if left]
        offsets = pairs.offsets.cpu() if wanted else pairs.offsets  # once: a host waits for a GPU
        for feature in wanted:
            first, last = offsets[feature : feature + 2].tolist()
            tokens, acts = pairs.tokens[first:last], pairs.feature_acts[first:last]
            rows = tokens // context_size
            for row in rows.unique().tolist()[: self._left[feature]]:
                here = rows == row
                self._left[feature] -= 1
                yield Ablation(
                    feature,
                    row,
                    tokens[here] % context_size,
                    acts[here],
                    float(effects[first:last][here].double().sum()),
                )

    def keep(self, ablation: Ablation, loss: float, kl: float) -> None:
        """Take in what an ablation did to a row.

        Args:
            ablation: that was made.
            loss: by how much the row's summed loss rose, nats.
            kl: summed over its positions, nats.
        """
        of = ablation
        self._found.append((of.feature, len(of.positions), of.attribution, loss, kl))

    def table(self) -> pd.DataFrame:
        """One row per feature and row of text.

        `feature`, `fires` (tokens on which it was taken out), and in nats, summed over the row,
        `attribution`, `ablation` (by how much the loss rose) and `kl`.
        """
        return pd.DataFrame(self._found, columns=list(COLUMNS))


def taken_out(
    ablations: list[Ablation], decoder: Float[Tensor, "d_sae d_in"], context_size: int
) -> Float[Tensor, "ablations context d_in"]:
    """What is subtracted from the activations of each ablation's row."""
    found = decoder.new_zeros(len(ablations), context_size, decoder.shape[1])
    for number, of in enumerate(ablations):
        found[number, of.positions] = of.feature_acts[:, None] * decoder[of.feature].detach()
    return found


def kl_from(
    log_p: Float[Tensor, "rows context vocabulary"],
    p: Float[Tensor, "rows context vocabulary"],
    log_q: Float[Tensor, "rows context vocabulary"],
) -> Float[Tensor, "rows context"]:
    """KL divergence of next-token distributions q from p, those of the LM as it is, nats."""
    kl: Tensor = torch.linalg.vecdot(p, log_p - log_q)
    return kl


def calibration(ablations: pd.DataFrame, seed: int) -> dict[str, float]:
    """How well attribution foretells ablation, over rows of text.

    Args:
        ablations: as `AblationSample.table` gives them.
        seed: of the bootstrap.

    Returns:
        `features`, `rows`, `pearson`, `spearman`, `spearman_of_sizes`, `slope` (of ablation on
        attribution by least squares, 1 if attribution is right), `slope_low`, `slope_high` (95 %
        of a bootstrap over features), `median_kl` (nats per token on which the feature fired). NaN
        of fewer than 3 rows or of equal attributions.
    """
    x, y = (ablations[name].to_numpy(float) for name in ("attribution", "ablation"))
    names = ("pearson", "spearman", "spearman_of_sizes", "slope", "slope_low", "slope_high")
    found = dict.fromkeys(names, np.nan)
    if len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
        low, high = _slopes_of_draws(ablations, np.random.default_rng(seed))
        found = {
            "pearson": float(stats.pearsonr(x, y).statistic),
            "spearman": float(stats.spearmanr(x, y).statistic),
            "spearman_of_sizes": float(stats.spearmanr(np.abs(x), np.abs(y)).statistic),
            "slope": float(stats.linregress(x, y).slope),
            "slope_low": low,
            "slope_high": high,
        }
    per_token = ablations["kl"] / ablations["fires"]
    features = ablations["feature"].nunique()
    return {"features": features, "rows": len(x), **found, "median_kl": float(per_token.median())}


def _slopes_of_draws(
    ablations: pd.DataFrame, generator: np.random.Generator
) -> tuple[float, float]:
    """The interval of the slope when features are drawn again, each with all its rows."""
    x, y = ablations["attribution"], ablations["ablation"]
    terms = pd.DataFrame({"n": 1.0, "x": x, "y": y, "xx": x * x, "xy": x * y})
    by_feature = terms.groupby(ablations["feature"]).sum().to_numpy()
    n_features = len(by_feature)
    drawn = generator.multinomial(n_features, [1 / n_features] * n_features, BOOTSTRAPS)
    n, x_sum, y_sum, xx, xy = (drawn @ by_feature).T
    spread = xx - x_sum**2 / n
    slopes = (xy - x_sum * y_sum / n)[spread > 0] / spread[spread > 0]
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)
