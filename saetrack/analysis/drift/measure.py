"""How far feature directions travel along a chain (paper, section 5, figure 5).

Feature i of every link is one feature: its trajectory is its sequence of decoder rows (Definition
5.1, Eq 10), here always normalised. Of each row, at each link:

| quantity | meaning | at its ends |
|---|---|---|
| `cosine_to_final` | cosine to its direction at the final link (figure 5) | final: 1 |
| `cosine_to_first` | to that at the first link | first: 1 |
| `cosine_to_previous` | to that at the link before | first: NaN |
| `path_length` | summed angles between links so far, radians | first: 0 |

A feature that no longer fires gets no gradient: its row stands still, and its cosine to the final
direction is 1 from its death on, which looks like convergence. A row is therefore excluded at links
where it is dead, and everywhere if it is dead at the final link. The paper's code excludes nothing.

That the cosine to the final direction ends at 1, and mostly rises, is true of any walk. What it
says about the LM only the controls tell (`saetrack.analysis.drift.controls`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from saetrack.analysis.drift.own_index import IndexFollower, OwnIndex

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.analysis.geometry.inputs import DecoderLink

QUANTITIES = ["cosine_to_final", "cosine_to_first", "cosine_to_previous", "path_length"]
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
SHARES_ABOVE = (0.9, 0.99)
ALL = "all"

# Rows whose angles are computed at a time in float64.
BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Drift:
    """The quantities of every feature at every link; 120 MB for 46 links of 65,536 features.

    Attributes:
        lm_steps: of the links, along the chain, (links,).
        checkpoint_indices: of the links, (links,).
        cosine_to_final: see the top of this file, (links, d_sae).
        cosine_to_first: (links, d_sae).
        cosine_to_previous: (links, d_sae); NaN at the first link.
        cosine_over_two: to the link before the previous one, (links, d_sae); NaN at the first two.
        path_length: radians, (links, d_sae).
        unmoved: the row points exactly where it did at the link before, (links, d_sae).
        feature_density: share of the link's held-out tokens on which the feature fires,
            (links, d_sae).
        own_index: whether features are still nearest to their own index.
    """

    lm_steps: Int[np.ndarray, " links"]
    checkpoint_indices: Int[np.ndarray, " links"]
    cosine_to_final: Float[np.ndarray, "links d_sae"]
    cosine_to_first: Float[np.ndarray, "links d_sae"]
    cosine_to_previous: Float[np.ndarray, "links d_sae"]
    cosine_over_two: Float[np.ndarray, "links d_sae"]
    path_length: Float[np.ndarray, "links d_sae"]
    unmoved: Bool[np.ndarray, "links d_sae"]
    feature_density: Float[np.ndarray, "links d_sae"]
    own_index: OwnIndex

    @property
    def dead(self) -> Bool[np.ndarray, "links d_sae"]:
        """The feature fires on no held-out token of this link."""
        dead: Bool[np.ndarray, "links d_sae"] = self.feature_density == 0
        return dead

    @property
    def excluded(self) -> Bool[np.ndarray, "links d_sae"]:
        """Dead at this link, or at the final one."""
        excluded: Bool[np.ndarray, "links d_sae"] = self.dead | self.dead[-1]
        return excluded

    @property
    def always_alive(self) -> Bool[np.ndarray, " d_sae"]:
        """Alive at every link: single features to be shown are chosen among these."""
        return np.logical_not(self.dead.any(axis=0))


@torch.no_grad()
def measure_drift(links: Iterable[DecoderLink], final: DecoderLink) -> Drift:
    """Follow the decoder rows of a chain, one link at a time.

    In memory are the rows of the first, the final, this and the two links before, whatever the
    chain's length. Angles are taken in float64 from differences and sums of unit rows: the arc
    cosine would give 4e-4 radians to a float32 row that did not move.

    Args:
        links: the chain, in ascending order of LM steps, also of a reverse chain.
        final: the last of `links`, known in advance.

    Raises:
        ValueError: no link, links of different shapes, or `final` is not the last one.
    """
    names = ("final", "first", "previous", "earlier")
    angles: dict[str, list[Tensor]] = {name: [] for name in names}
    steps, densities, index = [], [], IndexFollower(final)
    first = previous = earlier = None
    for link in links:
        if link.W_dec.shape != final.W_dec.shape:
            raise ValueError(f"rows of {tuple(link.W_dec.shape)} and {tuple(final.W_dec.shape)}")
        index.add(link)
        first = link if first is None else first
        previous = link if previous is None else previous
        earlier = previous if earlier is None else earlier
        for name, other in zip(names, (final, first, previous, earlier), strict=True):
            angles[name].append(angles_between(link.W_dec, other.W_dec).cpu())
        earlier, previous = previous, link
        steps.append((link.lm_step, link.checkpoint_index))
        densities.append(link.feature_density.cpu())
    if not steps:
        raise ValueError("a chain without links")
    if float(angles["final"][-1].nan_to_num().max()) > 0:
        raise ValueError("the final link is not the last of the chain")
    stacked = {name: torch.stack(of_links).numpy() for name, of_links in angles.items()}
    return _as_drift(stacked, np.array(steps), torch.stack(densities).numpy(), index.result())


def _as_drift(
    angles: dict[str, Float[np.ndarray, "links d_sae"]],
    steps: Int[np.ndarray, "links 2"],
    feature_density: Float[np.ndarray, "links d_sae"],
    own_index: OwnIndex,
) -> Drift:
    """Angles as cosines and paths; there is no previous link at the first."""
    cosines = {name: np.cos(angle).astype(np.float32) for name, angle in angles.items()}
    cosines["previous"][0] = cosines["earlier"][:2] = np.nan
    return Drift(
        lm_steps=steps[:, 0],
        checkpoint_indices=steps[:, 1],
        cosine_to_final=cosines["final"],
        cosine_to_first=cosines["first"],
        cosine_to_previous=cosines["previous"],
        cosine_over_two=cosines["earlier"],
        path_length=angles["previous"].cumsum(axis=0).astype(np.float32),
        unmoved=(angles["previous"] == 0) & (np.arange(len(steps)) > 0)[:, None],
        feature_density=feature_density,
        own_index=own_index,
    )


def angles_between(
    rows: Float[Tensor, "d_sae d_in"], others: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, " d_sae"]:
    """The angle of each row with the other's, radians in [0, pi]; NaN where one is zero."""
    found = []
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        u = rows[block].double()
        v = others[block].to(u.device).double()
        zero = (u.norm(dim=1) == 0) | (v.norm(dim=1) == 0)
        u, v = normalize(u, dim=1), normalize(v, dim=1)
        angle = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))
        found.append(angle.masked_fill(zero, torch.nan))
    return torch.cat(found)


def quantile_table(
    drift: Drift, feature_class: Sequence[str] | None = None, chain: str = "chain"
) -> pd.DataFrame:
    """The distributions of figure 5a: quantiles over features, per link.

    Args:
        drift: of a chain.
        feature_class: a label per feature, (d_sae,); beside all features, each class gets its rows.
        chain: the name that the rows carry.

    Returns:
        One row per quantity, class and link, with the columns

        - `chain`, `quantity`, `feature_class` (`all` for all), `link` (0 is the first), `lm_step`,
          `checkpoint_index`;
        - `features`: that went in; `excluded`: that did not, because they are dead here or at the
          final link, or have no direction; `unmoved`: of those that went in, rows that point
          exactly where they did at the previous link;
        - `mean`, `q05`, `q25`, `q50`, `q75`, `q95`, `share_above_0.9`, `share_above_0.99`: over the
          features that went in; NaN if there are none. Shares are of cosines: NaN for path lengths.
    """
    classes = {ALL: np.ones(drift.dead.shape[1], dtype=bool)}
    if feature_class is not None:
        labels = np.asarray(feature_class)
        classes |= {str(label): labels == label for label in sorted(set(labels))}
    rows = []
    for quantity in QUANTITIES:
        values = getattr(drift, quantity)
        for name, members in classes.items():
            for link, excluded in enumerate(drift.excluded):
                kept = members & ~excluded & ~np.isnan(drift.cosine_to_final[link])
                row: dict[str, object] = {
                    "chain": chain,
                    "quantity": quantity,
                    "feature_class": name,
                    "link": link,
                    "lm_step": int(drift.lm_steps[link]),
                    "checkpoint_index": int(drift.checkpoint_indices[link]),
                    "features": int(kept.sum()),
                    "excluded": int((members & ~kept).sum()),
                    "unmoved": int((kept & drift.unmoved[link]).sum()),
                }
                rows.append(row | _distribution(values[link][kept], cosines=quantity[0] == "c"))
    return pd.DataFrame(rows)


def _distribution(values: Float[np.ndarray, " features"], *, cosines: bool) -> dict[str, float]:
    """The columns of `quantile_table` from `mean` on."""
    values = values[~np.isnan(values)].astype(float)
    if not len(values):
        names = ["mean", *QUANTILES, *(f"share_above_{mark}" for mark in SHARES_ABOVE)]
        return dict.fromkeys(names, np.nan)
    quantiles = np.quantile(values, list(QUANTILES.values()))
    return {
        "mean": float(values.mean()),
        **dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        **{
            f"share_above_{mark}": float((values > mark).mean()) if cosines else np.nan
            for mark in SHARES_ABOVE
        },
    }


def feature_table(drift: Drift, features: Sequence[int]) -> pd.DataFrame:
    """Single features at every link, for figure 5b.

    Columns: `feature`, `link`, `lm_step`, `checkpoint_index`, those of `QUANTITIES`, `excluded`.
    """
    chosen = np.asarray(features, dtype=int)
    links = np.arange(len(drift.lm_steps))
    return pd.DataFrame(
        {
            "feature": np.repeat(chosen, len(links)),
            "link": np.tile(links, len(chosen)),
            "lm_step": np.tile(drift.lm_steps, len(chosen)),
            "checkpoint_index": np.tile(drift.checkpoint_indices, len(chosen)),
            **{name: getattr(drift, name)[:, chosen].T.reshape(-1) for name in QUANTITIES},
            "excluded": drift.excluded[:, chosen].T.reshape(-1),
        }
    )


def histogram_table(drift: Drift, bins: int = 40) -> pd.DataFrame:
    """Cosines to the final direction in equal bins from -1 to 1, the same for every chain.

    Returns:
        One row per link and bin: `link` (0 is the first), `lm_step`, `checkpoint_index`,
        `quantity`, `low`, `high` (of the bin), `features` (in it), `share` (of those that are not
        excluded; NaN if all are), `excluded` (at this link: dead here or at the final link, or
        without a direction).
    """
    edges = np.linspace(-1, 1, bins + 1)
    rows = []
    for link, cosines in enumerate(drift.cosine_to_final):
        kept = cosines[~drift.excluded[link] & ~np.isnan(cosines)]
        # Rounding may leave a cosine outside of its range, and of all bins.
        counts, _ = np.histogram(kept.clip(-1, 1), edges)
        rows.append(
            pd.DataFrame(
                {
                    "link": link,
                    "lm_step": int(drift.lm_steps[link]),
                    "checkpoint_index": int(drift.checkpoint_indices[link]),
                    "quantity": "cosine_to_final",
                    "low": edges[:-1],
                    "high": edges[1:],
                    "features": counts,
                    "share": counts / len(kept) if len(kept) else np.nan,
                    "excluded": len(cosines) - len(kept),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
