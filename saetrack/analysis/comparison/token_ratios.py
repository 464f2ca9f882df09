"""Do links save tokens? Each link beside a conventionally trained SAE of its checkpoint.

The paper trains a link on 1/20 of the tokens of a conventional SAE and shows that the two end alike
(appendix I.1, figures 7 to 11). Here the tokens that the same quality takes are measured, both ways
round. Quality is `explained_variance_at_l0`: of two SAEs that keep equally many activations per
token. Without that, the denser SAE would win. It is fair only between SAEs that have as many active
features as are kept: look at `l0` beside it.

The table that everything starts from, `curves`, has one row per held-out evaluation of one SAE
while it trained:

| column | meaning |
|---|---|
| `kind` | `link` or `conventional` |
| `lm_step`, `checkpoint_index`, `seed` | with `kind`, which SAE |
| `tokens` | training tokens of this SAE so far; 0 is before training |
| `train_s` | seconds of training so far |
| those of `METRICS` | held-out (`saetrack.sae.metrics.Evaluation`); NaN if not measured |

Tokens and seconds of a link are its own: the chain before it is not counted, as in the paper.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# 15 M tokens for a link, 300 M for a conventional SAE.
PAPER_RATIO = 1 / 20

QUALITY = "explained_variance_at_l0"
METRICS = [
    *("loss", "mse", "explained_variance", QUALITY, "l0", "dead"),
    *("ce_loss_recovered", "nats_lost"),
]
WHICH_SAE = ["kind", "lm_step", "seed"]
COLUMNS = [*WHICH_SAE, "checkpoint_index", "tokens", "train_s", *METRICS]


class Crossing(NamedTuple):
    """Where a curve first reaches a value; NaN where it never does.

    Attributes:
        tokens: training tokens until then; 0 when it is there before training.
        train_s: seconds of training until then.
    """

    tokens: float
    train_s: float


def check_curves(curves: pd.DataFrame) -> None:
    """Refuse a table that the functions of this file would misread.

    Raises:
        ValueError: a column is missing, an SAE has two rows for one count of tokens or none before
            training, or a conventional SAE has no link of its checkpoint and seed.
    """
    if missing := [name for name in COLUMNS if name not in curves]:
        raise ValueError(f"curves lack the columns {', '.join(missing)}")
    if curves.duplicated([*WHICH_SAE, "tokens"]).any():
        raise ValueError("curves have two rows of one SAE at one count of tokens")
    if (curves.groupby(WHICH_SAE)["tokens"].min() != 0).any():
        raise ValueError("curves of every SAE must begin at tokens=0, before training")
    kinds = curves.groupby(["lm_step", "seed"])["kind"].agg(set)
    if alone := list(kinds[kinds == {"conventional"}].index):
        raise ValueError(f"no link beside the conventional SAEs at (lm_step, seed) {alone}")


def crossing(curve: pd.DataFrame, value: float) -> Crossing:
    """Tokens and seconds at which a curve's quality first reaches `value`.

    Between evaluations quality is taken to rise linearly in log tokens, as curves of training do;
    before the first one linearly in tokens, which have no logarithm at 0. Seconds grow linearly
    with tokens.
    """
    curve = curve.sort_values("tokens")
    tokens, quality = curve["tokens"].to_numpy(float), curve[QUALITY].to_numpy(float)
    reached = np.flatnonzero(quality >= value)
    if not len(reached):
        return Crossing(np.nan, np.nan)
    after = reached[0]
    if after == 0:
        return Crossing(0.0, 0.0)
    around = slice(after - 1, after + 1)
    log = tokens[after - 1] > 0
    scale = np.log(tokens[around]) if log else tokens[around]
    at = float(np.interp(value, quality[around], scale))
    needed = float(np.exp(at)) if log else at
    return Crossing(needed, float(np.interp(needed, tokens, curve["train_s"])))


def quality_at(curve: pd.DataFrame, tokens: float) -> float:
    """The inverse of `crossing`: a curve's quality after so many training tokens."""
    curve = curve.sort_values("tokens")
    first = curve["tokens"].iloc[1]
    if tokens <= first:
        return float(np.interp(tokens, curve["tokens"], curve[QUALITY]))
    trained = curve.iloc[1:]
    return float(np.interp(np.log(tokens), np.log(trained["tokens"]), trained[QUALITY]))


def compare(curves: pd.DataFrame) -> pd.DataFrame:
    """Hold each conventional SAE against the link of its checkpoint and seed.

    Args:
        curves: see the top of this file; links without a conventional SAE are left out.

    Returns:
        One row per (lm_step, seed), sorted by them, with the columns

        - `lm_step`, `seed`, `checkpoint_index`;
        - `own_yardstick`: the two curves are the same. The chain's first link IS a conventional
          SAE: it has nothing to be held against. All from `budget_ratio` on is NaN;
        - `link_X` and `conventional_X`: `tokens` and `train_s` are the budgets, the names of
          `METRICS` the final values;
        - `budget_ratio`: the link's tokens / the conventional SAE's;
        - `link_tokens_needed`, `link_train_s_needed`: until the link has the conventional SAE's
          final quality, NaN if it never does; `token_ratio`, `train_s_ratio`: these / the
          conventional budget. `token_ratio` is what the paper says is 1/20;
        - `conventional_tokens_needed`, `conventional_train_s_needed`: until the conventional SAE
          has the link's final quality; `reverse_token_ratio`, `reverse_train_s_ratio`: the link's
          budget / these;
        - `equal_quality_token_ratio`, `equal_quality_train_s_ratio`: the first ratio where the
          link gets there, else the reverse one, at the link's lower quality. One of both always
          exists, so that no pair drops out of a mean because it failed;
        - `cold_X` with X = explained_variance_at_l0: of the conventional SAE after the link's
          budget: a cold start on the same tokens; `gap_to_cold`: the link's less that;
        - `gap_to_conventional`: the link's final quality less the conventional SAE's.

    Raises:
        ValueError: see `check_curves`.
    """
    check_curves(curves)
    saes: dict[Any, pd.DataFrame] = dict(list(curves.sort_values("tokens").groupby(WHICH_SAE)))
    cells = [(lm_step, seed) for kind, lm_step, seed in saes if kind == "conventional"]
    pairs = pd.DataFrame(
        [_compare_pair(saes["link", *cell], saes["conventional", *cell]) for cell in cells]
    )
    pairs["budget_ratio"] = pairs["link_tokens"] / pairs["conventional_tokens"]
    pairs["gap_to_cold"] = pairs[f"link_{QUALITY}"] - pairs[f"cold_{QUALITY}"]
    pairs["gap_to_conventional"] = pairs[f"link_{QUALITY}"] - pairs[f"conventional_{QUALITY}"]
    for ratio, unit in (("token_ratio", "tokens"), ("train_s_ratio", "train_s")):
        there = pairs[f"link_{unit}_needed"] / pairs[f"conventional_{unit}"]
        back = pairs[f"link_{unit}"] / pairs[f"conventional_{unit}_needed"]
        pairs[ratio] = there
        pairs[f"reverse_{ratio}"] = back
        pairs[f"equal_quality_{ratio}"] = there.fillna(back)
    compared = pairs.filter(regex="_ratio$|_needed$|^gap_|^cold_").columns
    pairs.loc[pairs["own_yardstick"], compared] = np.nan
    return pairs


def _compare_pair(link: pd.DataFrame, conventional: pd.DataFrame) -> dict[str, float]:
    """Final values of two curves, and where each reaches the other's final quality."""
    curves = {"link": link, "conventional": conventional}
    ends = {kind: curve.iloc[-1] for kind, curve in curves.items()}
    measured = ["tokens", *METRICS]  # and not seconds: the same SAE may have been timed twice
    row: dict[str, float] = {
        **{name: int(ends["link"][name]) for name in ("lm_step", "seed", "checkpoint_index")},
        "own_yardstick": np.array_equal(
            link[measured].to_numpy(float), conventional[measured].to_numpy(float), equal_nan=True
        ),
        f"cold_{QUALITY}": quality_at(conventional, ends["link"]["tokens"]),
    }
    for kind, other in (("link", "conventional"), ("conventional", "link")):
        needed = crossing(curves[kind], ends[other][QUALITY])
        for name in ("tokens", "train_s", *METRICS):
            row[f"{kind}_{name}"] = float(ends[kind][name])
        for name, amount in needed._asdict().items():
            row[f"{kind}_{name}_needed"] = amount
    return row


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Means and spread over seeds, of each checkpoint and of all but the chain's first.

    With three seeds the spread is given as minimum and maximum: a standard error of three values
    promises more than it knows.

    Returns:
        One row per `lm_step` and a last one, whose `lm_step` is missing, over all checkpoints that
        are not their own yardstick: there each seed's mean over checkpoints comes first, then mean
        and spread of these over seeds. Columns:

        - `lm_step`, `seeds`; `pairs`: (seed, checkpoint) pairs that have ratios;
        - `link_never`: pairs whose link never reaches the conventional SAE's final quality,
          `conventional_never`: the other way; `within_paper_ratio`: pairs with a `token_ratio` of
          at most 1/20, which is the paper's claim for a pair;
        - `X_mean`, `X_min`, `X_max` of each measured column X of `compare`. Those of `token_ratio`
          and `reverse_token_ratio` are over the pairs that get there, hence flattering; the number
          to hold against 1/20 is `equal_quality_token_ratio` of the last row.
    """
    rows = [_spread(lm_step, rows, rows) for lm_step, rows in pairs.groupby("lm_step")]
    held_against = pairs[~pairs["own_yardstick"]]
    if len(held_against):
        rows.append(_spread(pd.NA, held_against, held_against.groupby("seed").mean()))
    return pd.DataFrame(rows).astype({"lm_step": "Int64"})


def _spread(lm_step: object, pairs: pd.DataFrame, per_seed: pd.DataFrame) -> dict[str, object]:
    """One row of `summarise`: counts over `pairs`, spread over the rows of `per_seed`."""
    with_ratio = pairs[~pairs["own_yardstick"]]
    row: dict[str, object] = {
        "lm_step": lm_step,
        "seeds": pairs["seed"].nunique(),
        "pairs": len(with_ratio),
        "link_never": int(with_ratio["token_ratio"].isna().sum()),
        "conventional_never": int(with_ratio["reverse_token_ratio"].isna().sum()),
        "within_paper_ratio": int((with_ratio["token_ratio"] <= PAPER_RATIO).sum()),
    }
    for name in pairs.columns.drop(["lm_step", "seed", "checkpoint_index", "own_yardstick"]):
        for statistic in ("mean", "min", "max"):
            row[f"{name}_{statistic}"] = float(per_seed[name].agg(statistic))
    return row


def comparison_metrics(summary: pd.DataFrame) -> dict[str, float]:
    """The numbers of the row over all checkpoints, by name, without those that do not exist.

    Empty when every checkpoint is its own yardstick.
    """
    overall = summary[summary["lm_step"].isna()].drop(columns="lm_step")
    numbers = overall.melt().dropna()
    return dict(zip(numbers["variable"], numbers["value"].astype(float), strict=True))
