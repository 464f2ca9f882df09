"""Logistic regression of standardised columns, its penalty weak or chosen.

It is that of scikit-learn, whose solver this is; called directly it takes a fifth of the time, and
an analysis fits thousands of probes of some hundred examples each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy import ndarray

# Inverse strengths of the penalty on weights, as scikit-learn's C: for few columns, and to choose
# from, ascending.
WEAK = 100.0
CHOICES = (0.001, 0.01, 0.1, 1.0)
# The last part of the training examples, in random order, on which the penalty is chosen.
VALIDATION_SHARE = 0.2
MAX_STEPS, TOLERANCE = 200, 1e-4  # of the gradient of the mean loss


def scores_of_few(
    train: Float[ndarray, "n columns"],
    labels: Bool[ndarray, " n"],
    test: Float[ndarray, "m columns"],
) -> Float[ndarray, " m"]:
    """Log-odds of test examples by a probe of few columns, standardised by the training examples.

    A column that is constant among these has no weight.
    """
    train, test = standardised(train, test)
    weights = _fitted(train, labels, WEAK, np.zeros(train.shape[1] + 1))
    return _scores(test, weights)


def scores_of_many(
    train: Float[ndarray, "n columns"],
    labels: Bool[ndarray, " n"],
    test: Float[ndarray, "m columns"],
    seed: int,
) -> Float[ndarray, " m"]:
    """Log-odds of test examples by a probe of many columns, standardised by the training examples.

    Of some strengths of the penalty that one is taken with which a part of the training examples is
    told best (AUC) by a probe of the others; the probe is then fitted to all.
    """
    train, test = standardised(train, test)
    order = np.random.default_rng(seed).permutation(len(train))
    x, y = train[order], labels[order]
    n_fitted = round((1 - VALIDATION_SHARE) * len(x))
    weights, best = np.zeros(x.shape[1] + 1), (-1.0, WEAK, np.zeros(0))
    for c in CHOICES:
        weights = _fitted(x[:n_fitted], y[:n_fitted], c, weights)
        told = auc(_scores(x[n_fitted:], weights), y[n_fitted:])
        best = max(best, (told, c, weights), key=lambda of: of[0])
    _, c, weights = best
    return _scores(test, _fitted(x, y, c, weights))


def standardised(
    train: Float[ndarray, "n columns"], test: Float[ndarray, "m columns"]
) -> tuple[Float[ndarray, "n columns"], Float[ndarray, "m columns"]]:
    """Both with means and standard deviations of the first; 0 where a column is constant there."""
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 0, scale, np.inf)
    return (train - mean) / scale, (test - mean) / scale


def auc(scores: Float[ndarray, " n"], labels: Bool[ndarray, " n"]) -> float:
    """Probability that an example of the class has the larger score, ties counting half."""
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _fitted(
    x: Float[ndarray, "n columns"],
    labels: Bool[ndarray, " n"],
    c: float,
    start: Float[ndarray, " columns_1"],
) -> Float[ndarray, " columns_1"]:
    """Weights, and last the intercept, which has no penalty."""
    y, strength = labels.astype(np.float64), 1 / (c * len(x))

    def loss(weights: Float[ndarray, " columns_1"]) -> tuple[float, Float[ndarray, " columns_1"]]:
        z = _scores(x, weights)
        wrong = (expit(z) - y) / len(x)
        penalised = strength * weights[:-1]
        value = (np.logaddexp(0, z) - y * z).mean() + penalised @ weights[:-1] / 2
        return float(value), np.append(x.T @ wrong + penalised, wrong.sum())

    options: Any = {"maxiter": MAX_STEPS, "gtol": TOLERANCE, "ftol": 0.0}
    found: Any = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return np.asarray(found)


def _scores(
    x: Float[ndarray, "m columns"], weights: Float[ndarray, " columns_1"]
) -> Float[ndarray, " m"]:
    scores: Float[ndarray, " m"] = x @ weights[:-1] + weights[-1]
    return scores
