"""The paths of single features in the plane where they move most (section 5.2, figure 6).

PCA of unit decoder rows over links. Fitted jointly, features share axes and can be compared, but
the plane is mostly that in which the features differ from each other; fitted for each feature, as
in the paper, it is the plane of that feature's movement, and panels have nothing in common.

A smooth arc in such a plane is no finding: a random walk of many steps in many dimensions shows
one too (arXiv 1806.08805). Its components explain 6 / (pi k)^2 of the variance, 61 % and 15 % for
k = 1, 2: where each feature has its own plane, the chance level of `feature_explained` is 76 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from saetrack.analysis.geometry.inputs import DecoderLink

Fit = Literal["joint", "each"]

RANDOM_WALK_EXPLAINED = (6 / np.pi**2, 6 / (2 * np.pi) ** 2)


def choose_features(
    eligible: Bool[np.ndarray, " d_sae"], count: int, seed: int
) -> Int[np.ndarray, " chosen"]:
    """Features to show, drawn without replacement, ascending; all if there are not more.

    Args:
        eligible: may be drawn, such as `Drift.always_alive`, (d_sae,).
        count: how many.
        seed: of the draw.
    """
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
    fit: Fit = "joint",
) -> pd.DataFrame:
    """Where each chosen feature is at each link, in two principal components.

    Args:
        rows: as `collect_rows` gives them, (chosen, links, d_in).
        features: their indices in the dictionary, (chosen,).
        lm_steps: of the links, (links,).
        checkpoint_indices: of the links, (links,).
        formation_link: from which on each of them is formed (Definition 5.2); negative for never.
        fit: one plane for all (`joint`), or one for each feature.

    Returns:
        One row per feature and link, with the columns

        - `feature`, `link`, `lm_step`, `checkpoint_index`, `fit`;
        - `pc1`, `pc2`;
        - `formed`: at this link, hence also the segment from here to the next one;
        - `explained_pc1`, `explained_pc2`: shares of the variance that went into the fit;
        - `feature_explained`: share of this feature's own movement about its mean that the plane
          shows. The same as their sum where each has its own plane; in a joint one often little.

    Raises:
        ValueError: fewer than three links.
    """
    chosen, links, _ = rows.shape
    if links < 3:
        raise ValueError(f"{links} links: a plane through them shows nothing")
    of_links = {
        "link": np.arange(links),
        "lm_step": np.asarray(lm_steps),
        "checkpoint_index": np.asarray(checkpoint_indices),
        "fit": fit,
    }
    parts = []
    for members in [range(chosen)] if fit == "joint" else [[member] for member in range(chosen)]:
        plane = PCA(n_components=2, svd_solver="full")
        plane.fit(rows[members].reshape(-1, rows.shape[-1]))
        for member in members:
            name, formed = int(features[member]), _formed(int(formation_link[member]), links)
            table = _in_plane(plane, rows[member])
            parts.append(table.assign(feature=name, **of_links, formed=formed))
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


def _formed(formation_link: int, links: int) -> Bool[np.ndarray, " links"]:
    return (np.arange(links) >= formation_link) & (formation_link >= 0)
