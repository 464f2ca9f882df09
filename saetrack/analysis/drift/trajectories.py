"""The paths of single features in the plane where they move most (section 5.2, figure 6).

PCA of unit decoder rows over links, one plane for all: features share axes and can be compared, but
the plane is mostly that in which they differ from each other. The paper fits a plane to each, and
its panels have nothing in common.

A smooth arc in such a plane is no finding: a random walk of many steps in many dimensions shows
one too (arXiv 1806.08805).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from saetrack.analysis.geometry.inputs import DecoderLink


def choose_features(
    eligible: Bool[np.ndarray, " d_sae"], count: int, seed: int
) -> Int[np.ndarray, " chosen"]:
    """Features to show, drawn without replacement, ascending; all if there are not more."""
    among = np.flatnonzero(eligible)
    count = min(count, len(among))
    return np.sort(np.random.default_rng(seed).choice(among, size=count, replace=False))


@torch.no_grad()
def collect_rows(
    links: Iterable[DecoderLink], features: Sequence[int] | Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, "chosen links d_in"]:
    """The unit decoder rows of chosen features along a chain (Definition 5.1), float64."""
    chosen = torch.tensor(np.array(features))
    rows = [
        normalize(link.W_dec[chosen.to(link.W_dec.device)].double(), dim=1).cpu() for link in links
    ]
    return torch.stack(rows, dim=1).numpy()


def trajectory_table(
    rows: Float[np.ndarray, "chosen links d_in"],
    features: Sequence[int] | Int[np.ndarray, " chosen"],
    lm_steps: Sequence[int] | Int[np.ndarray, " links"],
    checkpoint_indices: Sequence[int] | Int[np.ndarray, " links"],
    formation_link: Sequence[int] | Int[np.ndarray, " chosen"],
) -> pd.DataFrame:
    """Where each chosen feature is at each link, in two principal components.

    Args:
        rows: as `collect_rows` gives them, (chosen, links, d_in).
        features: their indices in the dictionary, (chosen,).
        lm_steps: of the links, (links,).
        checkpoint_indices: of the links, (links,).
        formation_link: from which on each of them is formed (Definition 5.2); negative for never.

    Returns:
        One row per feature and link, with the columns

        - `feature`, `link`, `lm_step`, `checkpoint_index`, `fit`;
        - `pc1`, `pc2`;
        - `formed`: at this link, hence also the segment from here to the next one;
        - `explained_pc1`, `explained_pc2`: shares of the variance that went into the fit;
        - `feature_explained`: share of this feature's own movement about its mean that the plane
          shows, often little.

    Raises:
        ValueError: fewer than three links.
    """
    chosen, links, _ = rows.shape
    if links < 3:
        raise ValueError(f"{links} links: a plane through them shows nothing")
    of_links: dict[str, Any] = {
        "link": np.arange(links),
        "lm_step": np.asarray(lm_steps),
        "checkpoint_index": np.asarray(checkpoint_indices),
        "fit": "joint",
    }
    plane = PCA(n_components=2, svd_solver="full").fit(rows.reshape(-1, rows.shape[-1]))
    parts = []
    for member in range(chosen):
        start = int(formation_link[member])
        formed = (np.arange(links) >= start) & (start >= 0)
        table = _in_plane(plane, rows[member])
        parts.append(table.assign(feature=int(features[member]), **of_links, formed=formed))
    return pd.concat(parts, ignore_index=True)


def _in_plane(plane: PCA, rows: Float[np.ndarray, "links d_in"]) -> pd.DataFrame:
    """One trajectory's points, and how much the plane shows of all and of this one."""
    points = plane.transform(rows)
    total = rows.var(axis=0).sum()
    return pd.DataFrame(points, columns=["pc1", "pc2"]).assign(
        explained_pc1=float(plane.explained_variance_ratio_[0]),
        explained_pc2=float(plane.explained_variance_ratio_[1]),
        # NaN where the feature stands still.
        feature_explained=float(points.var(axis=0).sum() / total) if total > 0 else np.nan,
    )
