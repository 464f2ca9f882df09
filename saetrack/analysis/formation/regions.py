"""Feature regions by activation strength (Definition 4.1, Eq 5; figure 3, left).

    Region_i(lo, hi) = { x : lo < f_i(x) <= hi }

with lo and hi as shares of the feature's largest activation. The paper draws that stronger
activations make narrower and purer regions; here this is measured on a random sample of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.contexts.token_purity import purity
from saetrack.analysis.contexts.top_contexts import Contexts, Firings, TokenBatch, TopContexts
from saetrack.analysis.formation.progress_measure import PointActivations, similarities
from saetrack.data.exclusion import NOTHING, Excluded

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt64
    from numpy import ndarray

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class RegionSample:
    """A uniform sample of each region's datapoints, at most one per row, in one pass.

    It is a list of top contexts by a random number that is drawn for each (feature, datapoint).
    """

    def __init__(
        self,
        features: Int[ndarray, " sampled"],
        max_acts: Float[ndarray, " sampled"],
        seed: int,
        size: int = 25,
        edges: Sequence[float] = EDGES,
        excluded: Excluded = NOTHING,
    ) -> None:
        """Empty.

        Args:
            features: whose regions, ascending.
            max_acts: their largest activations, all positive (`Contexts.max_acts`).
            seed: of the sample; it depends on nothing else, not on how rows are batched.
            size: datapoints per region.
            edges: of the regions, ascending, as shares of the largest activation. What exceeds the
                last one (another checkpoint's activations may) belongs to the last region.
            excluded: positions that are left out.
        """
        self.features, self.edges = features, tuple(edges)
        self._max_acts = torch.from_numpy(np.asarray(max_acts, np.float32))
        self._features = torch.from_numpy(np.asarray(features, np.int64))
        self._seed = seed
        self._lists = TopContexts(
            len(features) * self.regions, size, window=None, excluded=excluded
        )

    @property
    def regions(self) -> int:
        """How many each feature has."""
        return len(self.edges) - 1

    def add(self, firings: Firings, batch: TokenBatch) -> None:
        """Take in what fires in one batch of rows."""
        features, tokens, feature_acts = firings
        device = features.device
        sampled = self._features.to(device)
        index = torch.searchsorted(sampled, features).clamp_max(len(sampled) - 1)
        wanted = (sampled[index] == features) & (feature_acts > 0)
        index, tokens = index[wanted], tokens[wanted]
        share = feature_acts[wanted] / self._max_acts.to(device)[index]
        # Left-open regions: the first that begins below the share.
        inner = torch.tensor(self.edges[1:-1], device=device)
        region = torch.bucketize(share, inner)
        above = share > self.edges[0]
        rows, positions = np.divmod(tokens.cpu().numpy(), batch.token_ids.shape[1])
        chances = _chance(self._seed, index.cpu().numpy(), batch.row_numbers[rows], positions)
        chance = torch.from_numpy(chances).to(device)
        lists = (index * self.regions + region)[above]
        self._lists.add(Firings(lists, tokens[above], chance[above]), batch)

    def result(self) -> Contexts:
        """Lists of feature `i`'s region `b` at `i * regions + b`; `feature_acts` means nothing."""
        return self._lists.result()


def region_table(
    features: Int[ndarray, " sampled"],
    lists: Contexts,
    activations: PointActivations,
    points: Int[ndarray, "lists size"],
    baseline: Int[ndarray, "draws size"],
    texts: Int[ndarray, "lists size"],
    edges: Sequence[float] = EDGES,
) -> pd.DataFrame:
    """How narrow and how pure each region is.

    Args:
        features: of the sample, ascending.
        lists: as `RegionSample.result` gives them.
        activations: of the same checkpoint at the union of datapoints.
        points: of the sample's lists, indices in the union; -1 fills up.
        baseline: random datapoints, indices in the union.
        texts: normalised texts of the lists' tokens (`purity.VocabularyForms`); -1 fills up.
        edges: of the regions.

    Returns:
        One row per (`feature`, `region`): `low`, `high` (shares of the largest activation),
        `fires` (tokens in the region), `datapoints` (of the sample), `token_purity`, and of each
        measure the similarity less the mean of the baseline.
    """
    found = similarities(activations, points, baseline)
    found -= similarities(activations, baseline, baseline).mean()
    count = len(edges) - 1
    regions = np.tile(np.arange(count), len(features))
    bounds = np.asarray(edges)
    table = pd.DataFrame(
        {
            "feature": np.repeat(features, count),
            "region": regions,
            "low": bounds[regions],
            "high": bounds[regions + 1],
            "fires": lists.fires,
            "datapoints": lists.counts,
            "token_purity": purity(texts).share,
        }
    )
    return pd.concat([table, found], axis=1)


def _chance(
    seed: int,
    features: Int[ndarray, " pairs"],
    rows: Int[ndarray, " pairs"],
    positions: Int[ndarray, " pairs"],
) -> Float[ndarray, " pairs"]:
    """Random numbers in (0, 1], float32, that depend on seed and arguments alone (splitmix64)."""
    mixed = _mixed(np.full(len(features), seed, np.uint64))
    for part in (features, rows, positions):
        mixed = _mixed(mixed ^ part.astype(np.uint64))
    # The float32 that are as far apart as their rounding allows.
    return (((mixed >> np.uint64(40)) + np.uint64(1)) / np.float64(2**24)).astype(np.float32)


def _mixed(state: UInt64[ndarray, " pairs"]) -> UInt64[ndarray, " pairs"]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
