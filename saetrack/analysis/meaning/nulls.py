"""How many concepts there would be without any: thresholds and counts against two nulls.

Both are measured at each checkpoint, on the same text, so that counts can be compared across
checkpoints, chains and layers:

- `random directions`: those that, as features do, fire neither on one token or word nor by the
  token alone. A concept is more coherent than 95 % of them, and than matched random contexts by
  five standard deviations. So many of the features that may be concepts pass by chance.
- `same tokens`: features with each context replaced by a random occurrence of its token
  (`saetrack.analysis.meaning.same_tokens`). So many pass by their tokens alone.

Where fewer than `MIN_DIRECTIONS` directions qualify, as on an LM whose residuals are the tokens',
the first cannot be told; the threshold is then that of all directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.meaning.classes import ABSENT
from saetrack.analysis.meaning.labels import COHERENCE_Z, may_be_concepts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy import ndarray

CONCEPT_QUANTILE = 0.95
# Of fewer a 95 % quantile is hardly more than their largest.
MIN_DIRECTIONS = 20
DIRECTIONS, SAME_TOKENS = "random directions", "same tokens"
NULLS = (DIRECTIONS, SAME_TOKENS)
BOOTSTRAPS, INTERVAL = 2000, (0.025, 0.975)


class Threshold(NamedTuple):
    """What a concept takes at a checkpoint.

    Attributes:
        min_coherence_z: standard deviations above matched random contexts.
        directions: that it was calibrated on.
        is_own: whether these are directions of which the token decides as little as of concepts.
    """

    min_coherence_z: float
    directions: int
    is_own: bool


def calibrate(of_directions: pd.DataFrame) -> Threshold:
    """The threshold by directions' labels (`saetrack.analysis.meaning.labels.classify`)."""
    own = of_directions.loc[may_be_concepts(of_directions), "coherence_z"].dropna()
    is_own = len(own) >= MIN_DIRECTIONS
    reached = own if is_own else of_directions["coherence_z"].dropna()
    highest = float(reached.quantile(CONCEPT_QUANTILE)) if len(reached) else COHERENCE_Z
    return Threshold(max(COHERENCE_Z, highest), len(own), is_own)


def against_nulls(
    labels: pd.DataFrame,
    of_directions: pd.DataFrame,
    threshold: Threshold,
    by_tokens: pd.Series[float],
    seed: int,
) -> pd.DataFrame:
    """The concepts of a checkpoint beside those that each null expects.

    Args:
        labels: of features, with the threshold.
        of_directions: of directions, with the threshold.
        threshold: of the checkpoint.
        by_tokens: of features that may be concepts, or are the paper's, or of a sample of them, the
            share of draws of the same tokens that pass, indexed by feature.
        seed: of the bootstrap.

    Returns:
        One row per null: `null`, `min_coherence_z`, `judged` (features with a class), `candidates`
        (features that likeness alone decides about), `concepts`, `measured` (directions, or
        features whose tokens were drawn), `surviving_share` (of concepts, how often they still are
        one on random occurrences of the same tokens; of `same tokens` only),
        `paper_surviving_share` (the same of the paper's concepts), `expected` (concepts),
        `excess`, `excess_low`, `excess_high`, `false_discovery_rate`, `rate_low`, `rate_high`
        (of concepts, at most 1), with 95 % intervals from candidates and directions drawn anew. NaN
        where it cannot be told.
    """
    candidate, is_concept = may_be_concepts(labels), (labels["label"] == "concept").to_numpy()
    generator = np.random.default_rng(seed)
    by_directions = _draws_of_directions(is_concept[candidate], of_directions, threshold, generator)
    chosen, drawn = by_tokens.index.to_numpy(np.int64), by_tokens.to_numpy(float)
    of_paper = drawn[(labels["paper_label"] == "concept").to_numpy()[chosen]]
    sampled, drawn = is_concept[chosen[candidate[chosen]]], drawn[candidate[chosen]]
    of_tokens = _draws_of_tokens(is_concept[candidate], sampled, drawn, generator)
    concepts = int(is_concept.sum())
    common = {
        "min_coherence_z": threshold.min_coherence_z,
        "judged": int((~labels["label"].isin(ABSENT)).sum()),
        "candidates": int(candidate.sum()),
        "concepts": concepts,
    }
    surviving = {DIRECTIONS: (np.nan,) * 2, SAME_TOKENS: (_mean(drawn[sampled]), _mean(of_paper))}
    measured = {DIRECTIONS: threshold.directions, SAME_TOKENS: len(drawn)}
    rows = [
        {"null": null, **common, "measured": measured[null]}
        | dict(zip(("surviving_share", "paper_surviving_share"), surviving[null], strict=True))
        | _beside(concepts, draws)
        for null, draws in zip(NULLS, (by_directions, of_tokens), strict=True)
    ]
    return pd.DataFrame(rows)


def _mean(values: Float[ndarray, " values"]) -> float:
    return float(values.mean()) if len(values) else np.nan


class _Draws(NamedTuple):
    """Of the data, and of the same drawn anew: expected concepts, and concepts."""

    expected: float
    expected_anew: Float[ndarray, " draws"]
    concepts_anew: Float[ndarray, " draws"]


def _draws_of_directions(
    concept: Bool[ndarray, " candidates"],
    of_directions: pd.DataFrame,
    threshold: Threshold,
    generator: np.random.Generator,
) -> _Draws:
    n, directions = len(concept), threshold.directions
    if not threshold.is_own:
        return _Draws(np.nan, np.full(BOOTSTRAPS, np.nan), np.full(BOOTSTRAPS, np.nan))
    passed = int((of_directions["label"] == "concept").sum())
    # As of a permutation test: one that passes is added, so that no share is 0.
    share = (passed + 1) / (directions + 1)
    anew = (generator.binomial(directions, passed / directions, BOOTSTRAPS) + 1) / (directions + 1)
    concepts = generator.binomial(n, concept.mean() if n else 0, BOOTSTRAPS)
    return _Draws(n * share, n * anew, concepts.astype(float))


def _draws_of_tokens(
    concept: Bool[ndarray, " candidates"],
    sampled: Bool[ndarray, " sampled"],
    passes: Float[ndarray, " sampled"],
    generator: np.random.Generator,
) -> _Draws:
    """Features are drawn anew, each with its draws."""
    n, measured = len(concept), len(passes)
    if not measured:
        nothing = np.zeros(BOOTSTRAPS)
        return _Draws(0.0, nothing, nothing)
    kinds = np.stack([passes, sampled.astype(float)], axis=1)
    anew = np.empty((BOOTSTRAPS, 2))
    for number in range(BOOTSTRAPS):
        times = np.bincount(generator.integers(measured, size=measured), minlength=measured)
        anew[number] = times @ kinds / measured
    return _Draws(n * float(passes.mean()), n * anew[:, 0], n * anew[:, 1])


def _beside(concepts: int, draws: _Draws) -> dict[str, float]:
    """What there is beyond a null, and which share of concepts the null accounts for."""
    excess = draws.concepts_anew - draws.expected_anew
    rate = np.divide(
        draws.expected_anew,
        draws.concepts_anew,
        out=np.where(draws.expected_anew > 0, 1.0, np.nan),
        where=draws.concepts_anew > 0,
    )
    rate_low, rate_high = np.quantile(rate.clip(max=1), INTERVAL)
    low, high = np.quantile(excess, INTERVAL)
    return {
        "expected": draws.expected,
        "excess": concepts - draws.expected,
        "excess_low": float(low),
        "excess_high": float(high),
        "false_discovery_rate": min(draws.expected / concepts, 1.0) if concepts else np.nan,
        "rate_low": float(rate_low),
        "rate_high": float(rate_high),
    }
