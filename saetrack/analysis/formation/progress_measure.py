"""How far features are formed at each checkpoint: the progress measure (section 4.2, Eq 7, 19).

    M_i(t) = S(A_i(t)) - S(R(t))

A_i: a feature's datapoints, chosen at one checkpoint and followed through all; R: random contexts,
drawn several times. That a curve rises is no finding by itself: a set that was chosen at the final
checkpoint is one whose members are alike there. Two controls say how much of a rise this makes:
datapoints of random directions chosen at the final checkpoint, and the features' datapoints chosen
at the first one. The name of each kind of set is kept in the column `chosen`:

| `chosen` | sets | at |
|---|---|---|
| `final` | the features' top contexts (Eq 6) | the final checkpoint |
| `random_directions` | the top contexts of random directions: control | the final checkpoint |
| `first` | the features' top contexts: control | the first checkpoint |

Two tables carry everything, one piece per checkpoint, to be joined by `pandas.concat`:

- `progress`: `checkpoint_index`, `lm_step`, `chosen`, `feature`, and one column per measure;
- `baseline`: `checkpoint_index`, `lm_step`, `draw`, and one column per measure: S(R) of each draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.geometry.similarity import cosine, jaccard, sparse_cosine

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from scipy import sparse
    from torch import Tensor

MEASURES = (
    "activation_cosine",
    "activation_cosine_centred",
    "feature_cosine",
    "feature_cosine_centred",
    "feature_jaccard",
    "feature_weighted_jaccard",
)
# What curves, phases and formation points are read from: raw cosines share a common direction.
MEASURE = "activation_cosine_centred"
MIN_DRAWS = 5
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class PointActivations(NamedTuple):
    """What one checkpoint makes of the union of all datapoints (`datapoints.unite`).

    Attributes:
        lm_step: of the checkpoint.
        checkpoint_index: of the same in the LM's list.
        x: residuals as the SAE gets them, (points, d_in).
        feature_acts: of this checkpoint's SAE, (points, d_sae); None leaves feature space out.
    """

    lm_step: int
    checkpoint_index: int
    x: Float[Tensor, "points d_in"]
    feature_acts: sparse.csr_array | None


class FollowedSets(NamedTuple):
    """Sets of datapoints of one kind.

    Attributes:
        features: indices, (sets,); of random directions simply their numbers.
        points: indices in the union, (sets, k); -1 fills up.
    """

    features: Int[ndarray, " sets"]
    points: Int[ndarray, "sets k"]


def measure_progress(
    activations: PointActivations,
    sets: Mapping[str, FollowedSets],
    baseline: Int[ndarray, "draws size"],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of one checkpoint.

    Centred measures take away the mean over all points of the baseline.

    Returns:
        Rows of `progress` (one per set) and of `baseline` (one per draw).

    Raises:
        ValueError: the baseline was drawn fewer than five times.
    """
    if len(baseline) < MIN_DRAWS:
        raise ValueError(f"{len(baseline)} draws of the baseline, fewer than {MIN_DRAWS}")
    which = {
        "checkpoint_index": activations.checkpoint_index,
        "lm_step": activations.lm_step,
    }
    random = similarities(activations, baseline, baseline)
    parts = []
    for chosen, followed in sets.items():
        found = similarities(activations, followed.points, baseline) - random.mean()
        parts.append(found.assign(chosen=chosen, feature=followed.features, **which))
    order = [*which, "chosen", "feature", *random.columns]
    progress = pd.concat(parts, ignore_index=True)[order]
    random = random.assign(draw=np.arange(len(baseline)), **which)
    return progress, random[[*which, "draw", *order[4:]]]


def similarities(
    activations: PointActivations,
    sets: Int[ndarray, "sets k"],
    baseline: Int[ndarray, "draws size"],
) -> pd.DataFrame:
    """Mean pairwise similarity of each set: one row per set, one column per measure, float32."""
    points = np.unique(baseline)
    x = activations.x
    centre = x[torch.from_numpy(points).to(x.device)].float().mean(dim=0)
    columns: dict[str, Float[ndarray, " sets"]] = {
        "activation_cosine": cosine(x, sets),
        "activation_cosine_centred": cosine(x, sets, centre),
    }
    acts = activations.feature_acts
    if acts is not None:
        mean = np.asarray(acts[points].mean(axis=0), dtype=np.float64).reshape(-1)
        columns["feature_cosine"] = sparse_cosine(acts, sets)
        columns["feature_cosine_centred"] = sparse_cosine(acts, sets, mean)
        columns["feature_jaccard"], columns["feature_weighted_jaccard"] = jaccard(acts, sets)
    return pd.DataFrame(columns).astype(np.float32)


def class_curves(
    progress: pd.DataFrame,
    classes: Mapping[str, pd.Series[Any]],
    measures: Sequence[str],
    quantiles: Sequence[float] = QUANTILES,
) -> pd.DataFrame:
    """Curves by class of feature, with their bands.

    Args:
        progress: see the top of this file.
        classes: for each value of `chosen` the class of each feature, indexed by feature; what is
            not in it is left out. A kind of set that is missing here is one class, its own name.
        measures: columns of `progress`.
        quantiles: of the features of a class.

    Returns:
        One row per (`measure`, `chosen`, `class`, `checkpoint_index`, `lm_step`): `features` (how
        many have a value), `mean`, and `q0.5` and the like.
    """
    parts = []
    for chosen, rows in progress.groupby("chosen", sort=False):
        of_feature = classes.get(str(chosen))
        label: Any = str(chosen) if of_feature is None else rows["feature"].map(of_feature)
        long = rows.assign(**{"class": label}).melt(
            ["chosen", "class", "checkpoint_index", "lm_step"], list(measures), "measure"
        )
        parts.append(long.dropna(subset=["class", "value"]))
    keys = ["measure", "chosen", "class", "checkpoint_index", "lm_step"]
    grouped = pd.concat(parts).groupby(keys, sort=True)["value"]
    curves = grouped.agg(features="count", mean="mean")
    for quantile in quantiles:
        curves[f"q{quantile:g}"] = grouped.quantile(quantile)
    return curves.reset_index()


def baseline_spread(baseline: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """S(R) over its draws.

    Returns:
        One row per (`measure`, `checkpoint_index`, `lm_step`): `draws`, `mean`, `std`, `min`,
        `max`.
    """
    keys = ["measure", "checkpoint_index", "lm_step"]
    long = baseline.melt(keys[1:], list(measures), "measure")
    spread = long.groupby(keys)["value"].agg(["count", "mean", "std", "min", "max"])
    return spread.rename(columns={"count": "draws"}).reset_index()
