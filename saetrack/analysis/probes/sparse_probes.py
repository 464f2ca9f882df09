"""Probes of one task at one checkpoint: of few features, of the LM's activations, and controls.

As sae-probes has it: features are chosen by the difference of their class means among the training
examples, each feature first divided by its mean activation where it fires; a logistic regression
then sees these features alone. Here columns are standardised before a fit, since the scale of
activations grows over an LM's training, and a penalty would mean another thing at each checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.probes.logistic import auc, scores_of_few, scores_of_many
from saetrack.analysis.probes.pools import Pool, Split, drawn_features, shuffled, split

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray
    from scipy import sparse

KS = (1, 2, 5)
FEATURES, RANDOM, SHUFFLED = "features", "random features", "shuffled labels"
RESIDUAL, MAJORITY = "residual", "majority class"
COLUMNS = (
    *("lm_step", "task", "probe", "k", "seed", "tested_on", "accuracy", "auc"),
    *("n_train", "n_test", "features"),
)


class Examples(NamedTuple):
    """What a checkpoint makes of the examples of a pool.

    Attributes:
        x: activations at the hook as the SAE gets them, (examples, d_in).
        feature_acts: of its SAE, (examples, d_sae).
    """

    x: Float[ndarray, "examples d_in"]
    feature_acts: sparse.csr_array


class _Scored(NamedTuple):
    """Of one probe: its name, columns, and the log-odds of all tests' examples, one after another.

    `k` is 0 for a probe that is not of features; `labels` are those that it is asked for, of all
    examples.
    """

    probe: str
    k: int
    scores: Float[ndarray, " tests"]
    labels: Bool[ndarray, " examples"]
    features: str = ""


def probe_table(
    pool: Pool,
    examples: Examples,
    live: Int[ndarray, " live"],
    seeds: Sequence[int],
    lm_step: int,
) -> pd.DataFrame:
    """How well each probe tells the classes of a task, for each split and test.

    Args:
        pool: of the task.
        examples: at a checkpoint.
        live: features of which the control draws.
        seeds: of the splits.
        lm_step: of the checkpoint.

    Returns:
        A row per probe, seed and test: `COLUMNS`. `features` are those of the probe, the strongest
        first, parted by blanks.
    """
    rows = []
    for seed in seeds:
        of_seed = split(pool, seed)
        tests = np.concatenate(list(of_seed.tests.values()))
        bounds = np.cumsum([0, *(len(part) for part in of_seed.tests.values())])
        found = _scored(pool, examples, live, of_seed, tests, seed)
        for probe, k, scores, labels, features in found:
            for number, tested_on in enumerate(of_seed.tests):
                part = slice(bounds[number], bounds[number + 1])
                truth = labels[tests[part]]
                accuracy = float(((scores[part] > 0) == truth).mean())
                of_test = accuracy, auc(scores[part], truth)
                sizes = len(of_seed.train), len(truth)
                rows.append(
                    (lm_step, pool.task, probe, k, seed, tested_on, *of_test, *sizes, features)
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def chosen_features(
    feature_acts: sparse.csr_array, labels: Bool[ndarray, " n"], count: int
) -> Int[ndarray, " count"]:
    """The features with the largest differences of class means, each divided by its mean where it
    fires; of equals the lower index.
    """
    sign = np.where(labels, 1 / max(labels.sum(), 1), -1 / max((~labels).sum(), 1))
    fires = np.bincount(feature_acts.indices, minlength=feature_acts.shape[1])
    means = np.asarray(feature_acts.sum(axis=0)).reshape(-1) / np.maximum(fires, 1)
    differences = np.asarray(feature_acts.T @ sign) / np.where(means > 0, means, np.inf)
    return np.argsort(-np.abs(differences), kind="stable")[:count]


def _scored(
    pool: Pool,
    examples: Examples,
    live: Int[ndarray, " live"],
    of_seed: Split,
    tests: Int[ndarray, " tests"],
    seed: int,
) -> Iterator[_Scored]:
    """Every probe of one split."""
    train, acts, labels = of_seed.train, examples.feature_acts, pool.labels
    wrong = shuffled(pool, of_seed, seed)
    sets = {
        FEATURES: (chosen_features(acts[train], labels[train], max(KS)), labels),
        RANDOM: (drawn_features(live, acts.shape[1], max(KS), pool.task, seed), labels),
        SHUFFLED: (chosen_features(acts[train], wrong[train], max(KS)), wrong),
    }
    by_column = acts.tocsc()
    for probe, (features, asked) in sets.items():
        columns = by_column[:, features].toarray()
        for k in KS:
            scores = scores_of_few(columns[train, :k], asked[train], columns[tests, :k])
            yield _Scored(probe, k, scores, asked, " ".join(map(str, features[:k])))
    x = examples.x
    yield _Scored(RESIDUAL, 0, scores_of_many(x[train], labels[train], x[tests], seed), labels)
    # Classes are equally many: whichever is named, half is right.
    yield _Scored(MAJORITY, 0, np.zeros(len(tests)), labels)
