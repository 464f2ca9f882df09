"""Which kind of SAE tracks best: what chains of several kinds keep from link to link.

A chain is useful if feature *i* of one link is feature *i* of the next. Of two links of one chain,
each feature that is alive in both is compared with itself:

| column | meaning |
|---|---|
| `angle_rad` | median angle between its two decoder rows |
| `keeps_index` | share whose nearest decoder row of the later link is their own |
| `keeps_meaning` | share whose activations on the same tokens correlate by 0.7 or more |
| `shuffled_keeps_meaning` | the same of each feature with another, drawn at random: chance |
| `features` | alive in both links |

Links are compared with the next one (`span` is `next`) and the first with the last (`ends`). A
frozen control, whose LM stands still, shows what of all this the training does by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from saetrack.analysis.comparison.token_ratios import QUALITY, compare
from saetrack.analysis.drift.measure import angles_between
from saetrack.analysis.matching.activation_matching import FeatureActs
from saetrack.analysis.matching.matching import SIMILAR
from saetrack.analysis.matching.scores import ProductScores, blocks

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MOVED = ("angle_rad", "keeps_index", "keeps_meaning", "shuffled_keeps_meaning")
METRICS = ("explained_variance", QUALITY, "ce_loss_recovered", "nats_lost", "dead", "l0")
RATIO = "equal_quality_token_ratio"


class FollowedLink(NamedTuple):
    """One link, as far as it is compared.

    Attributes:
        number: of the link in its chain.
        lm_step: of its checkpoint.
        W_dec: decoder rows, (d_sae, d_in).
        acts: activations on tokens that are the same for all links.
    """

    number: int
    lm_step: int
    W_dec: Float[Tensor, "d_sae d_in"]
    acts: FeatureActs


def kept_table(links: Iterable[FollowedLink], seed: int) -> pd.DataFrame:
    """Each link beside the next one, and the first beside the last.

    Args:
        links: of one chain, two at least; three are in memory at a time.
        seed: of the features that are drawn for chance.

    Returns:
        One row per two links: `span`, `link` and `lm_step` (of the later one), and the columns of
        the table at the top of this file; NaN where no feature is alive in both.
    """
    rows: list[dict[str, Any]] = []
    first = previous = None
    for link in links:
        if first is None or previous is None:
            first = previous = link
            continue
        rows.append(_row("next", previous, link, seed))
        previous = link
    if first is None or previous is None:
        raise ValueError("a chain without links")
    return pd.DataFrame([*rows, _row("ends", first, previous, seed)])


def _row(span: str, earlier: FollowedLink, later: FollowedLink, seed: int) -> dict[str, Any]:
    at = {"span": span, "link": later.number, "lm_step": later.lm_step}
    return {**at, **kept(earlier, later, seed)}


@torch.no_grad()
def kept(earlier: FollowedLink, later: FollowedLink, seed: int) -> dict[str, float]:
    """What the features that are alive in two links keep; see the top of this file."""
    alive = np.intersect1d(earlier.acts.side.live, later.acts.side.live)
    if not len(alive):
        return {"features": 0, **dict.fromkeys(MOVED, np.nan)}
    features = torch.from_numpy(alive).to(earlier.W_dec.device)
    rows = earlier.W_dec[features]
    # A feature may have come to life meanwhile: it counts among those that are nearest.
    candidates = torch.from_numpy(later.acts.side.live).to(rows.device)
    nearest = candidates[_nearest(rows, later.W_dec[candidates])]
    angles = angles_between(rows, later.W_dec[features])
    order = np.random.default_rng(seed).permutation(alive)
    another = np.empty_like(alive)
    another[np.searchsorted(alive, order)] = np.roll(order, 1)
    correlations = _correlations(earlier.acts, later.acts, alive, alive)
    shuffled = _correlations(earlier.acts, later.acts, alive, another)
    return {
        "features": len(alive),
        "angle_rad": float(angles.nanmedian()),
        "keeps_index": float((nearest == features).double().mean()),
        "keeps_meaning": float((correlations >= SIMILAR).mean()),
        "shuffled_keeps_meaning": float((shuffled >= SIMILAR).mean()),
    }


def _nearest(
    rows: Float[Tensor, "rows d_in"], others: Float[Tensor, "others d_in"]
) -> Int[Tensor, " rows"]:
    """Of each row, the other with the highest cosine."""
    unit = (normalize(side.double(), dim=1) for side in (rows, others))
    return torch.cat([cosines.argmax(dim=1) for _, cosines in blocks(ProductScores(*unit))])


def _correlations(
    left: FeatureActs,
    right: FeatureActs,
    left_features: Int[np.ndarray, " pairs"],
    right_features: Int[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    """Pearson correlations of pairs of features over all tokens."""
    at = np.searchsorted(left.side.live, left_features)
    beside = np.searchsorted(right.side.live, right_features)
    products = left.acts[at].multiply(right.acts[beside]).sum(axis=1)
    tokens = left.acts.shape[1]
    mean = left.mean.numpy()[at] * right.mean.numpy()[beside]
    sd = left.sd.numpy()[at] * right.sd.numpy()[beside]
    found: Float[np.ndarray, " pairs"] = (np.asarray(products).ravel() / tokens - mean) / sd
    return found


def token_ratios(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each kind beside the first one: training tokens to equal quality, link by link.

    Quality is the explained variance at equal L0. The ratio is the tokens that the kind needs to
    where the reference ends over the reference's budget; of a kind that does not get there, its
    budget over the tokens that the reference needs to where the kind ends. Below 1 it is faster.

    Args:
        curves: by kind, the reference first: the columns of
            `saetrack.analysis.comparison.token_ratios`, without `kind`.

    Returns:
        `architecture`, `lm_step`, `seed`, `equal_quality_token_ratio`; 1 of the reference.
    """
    reference, *others = curves
    yardstick = curves[reference].assign(kind="conventional")
    columns = ["lm_step", "seed", RATIO]
    own = yardstick[["lm_step", "seed"]].drop_duplicates().assign(**{RATIO: 1.0})
    tables = [own.assign(architecture=reference)]
    for name in others:
        pairs = compare(pd.concat([curves[name].assign(kind="link"), yardstick]))
        tables.append(pairs[columns].assign(architecture=name))
    return pd.concat(tables, ignore_index=True)[["architecture", *columns]]


def per_seed(links: pd.DataFrame, kept: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """One row per kind and seed, over the links that have a parent.

    Args:
        links: final metrics: `architecture`, `seed`, `link`, `lm_step` and those of `METRICS`.
        kept: `architecture`, `seed`, `chain` (`chain` or `frozen`) and the columns of `kept_table`.
        ratios: as `token_ratios` gives them.

    Returns:
        `architecture`, `seed`; means of `METRICS`; `X` of `MOVED` from link to link, `ends_X` from
        first to last, `frozen_X` and `frozen_ends_X` of the control; the median ratio of tokens,
        which may be infinite at single links.
    """
    by = ["architecture", "seed"]
    table = links[links["link"] > 0].groupby(by, sort=False)[list(METRICS)].mean()
    for (chain, span), rows in kept.groupby(["chain", "span"]):
        prefix = ("" if chain == "chain" else "frozen_") + ("" if span == "next" else "ends_")
        table = table.join(rows.groupby(by)[list(MOVED)].mean().add_prefix(prefix))
    later = ratios.merge(links.loc[links["link"] > 0, [*by, "lm_step"]], on=[*by, "lm_step"])
    return table.join(later.groupby(by)[RATIO].median()).reset_index()


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind: `X_mean`, `X_min`, `X_max` of each column X of `per_seed`, and `seeds`."""
    rows: list[dict[str, Any]] = []
    for name, of_kind in table.groupby("architecture", sort=False):
        row: dict[str, Any] = {"architecture": name, "seeds": len(of_kind)}
        for column in of_kind.columns.drop(["architecture", "seed"]):
            for statistic in ("mean", "min", "max"):
                row[f"{column}_{statistic}"] = float(of_kind[column].agg(statistic))
        rows.append(row)
    return pd.DataFrame(rows)
