"""How many features follow which pattern, beside chains that show what is no doing of training.

A pattern is read off the two ends of a chain. A chain over an LM that stands still has features
that "change" too: the SAE settles, and features near a threshold cross it. A jump from the first
checkpoint to the last has the ends without the way between. What exceeds these is a finding.

The same feature of a replicate need not follow the same pattern: `pattern_agreement` says how far
a statement about a single feature can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.meaning.classes import LABELS
from saetrack.utils.intervals import difference_interval, share_interval

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray

CHAIN = "chain"
ALL = "all"
DRAWS = 2_000
INTERVAL = (0.025, 0.975)
# Below so many pairs a kappa says nothing.
MIN_PAIRS = 10
AGREEMENT_COLUMNS = [
    *("other", "role", "first_label", "pairs", "agreement", "chance"),
    *("kappa", "kappa_low", "kappa_high", "median_score"),
]


class PatternsOf(NamedTuple):
    """The patterns of a chain.

    Attributes:
        role: `chain` of the analysed one, else the control's.
        patterns: of each feature, in order, with the columns `first_label` and `pattern`.
        live: features that are analysed: live at the last link, ascending.
    """

    role: str
    patterns: pd.DataFrame
    live: Int[ndarray, " live"]


def pattern_shares(chains: Mapping[str, PatternsOf], known: Iterable[str] = ()) -> pd.DataFrame:
    """Shares of patterns among the live features of a chain and of its controls.

    Intervals are 95 % for another choice of features of the same SAEs (Wilson's, and Newcombe's of
    a difference), not for another chain, which takes replicates.

    Args:
        chains: by name; the one that is analysed is called `chain`.
        known: patterns that have a row though nobody has them, so that replicates can be averaged.

    Returns:
        One row per chain and pattern that is known or that any of them has: `chain`, `role`,
        `pattern`, `features`, `share`, `low`, `high`; and of a control `excess`, the analysed
        chain's share less its own, with `excess_low` and `excess_high`; NaN of the chain itself.
    """
    of_live = {name: found.patterns["pattern"].iloc[found.live] for name, found in chains.items()}
    names = sorted(set(known).union(*of_live.values()))
    counts = {
        name: patterns.value_counts().reindex(names, fill_value=0).to_numpy()
        for name, patterns in of_live.items()
    }
    total = {name: int(count.sum()) for name, count in counts.items()}
    share = {name: count / max(1, total[name]) for name, count in counts.items()}
    tables = []
    for name, found in chains.items():
        table = pd.DataFrame({"pattern": names, "features": counts[name], "share": share[name]})
        table["low"], table["high"] = share_interval(share[name], total[name])
        table[["excess", "excess_low", "excess_high"]] = np.nan
        if name != CHAIN:
            table["excess"] = share[CHAIN] - share[name]
            table["excess_low"], table["excess_high"] = difference_interval(
                share[CHAIN], total[CHAIN], share[name], total[name]
            )
        table.insert(0, "chain", name)
        table.insert(1, "role", found.role)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def end_labels(chains: Mapping[str, PatternsOf]) -> pd.DataFrame:
    """What the live features of a chain and of its controls are at the first and the last link.

    Args:
        chains: by name, with `final_label` among the columns of their patterns.

    Returns:
        One row per chain and label, those that no feature has among them: `chain`, `role`, `label`,
        `first` and `final` (shares of the features that are live at the last link).
    """
    ends = {"first": "first_label", "final": "final_label"}
    live = {name: found.patterns.iloc[found.live] for name, found in chains.items()}
    had = {label for of in live.values() for end in ends.values() for label in of[end]}
    labels = sorted(had | set(LABELS))
    tables = []
    for name, found in chains.items():
        table = pd.DataFrame({"chain": name, "role": found.role, "label": labels})
        for end, column in ends.items():
            counts = live[name][column].value_counts().reindex(labels, fill_value=0)
            table[end] = counts.to_numpy() / max(1, len(live[name]))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def pattern_agreement(
    chains: Mapping[str, PatternsOf], pairs: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Whether a feature and the one that it is matched with in another chain share a pattern.

    Args:
        chains: by name; the one that is analysed is called `chain`.
        pairs: features matched one to one at the last link of both: `other` (the name of the
            chain), `left` (feature of the analysed one), `right`, `score` (cosine).
        seed: of the draws of pairs with replacement, which make the intervals.

    Returns:
        One row per other chain and label of the feature at the first link, and of `all`: `other`,
        `role`, `first_label`, `pairs`, `agreement`, `chance` (the agreement of independent
        patterns with the same shares), `kappa` (Cohen's: 0 is chance, 1 perfect), `kappa_low`,
        `kappa_high`, `median_score`. Kappa is NaN of fewer than 10 pairs, or where both sides know
        one pattern only.
    """
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    own = chains[CHAIN]
    for name, matched in pairs.groupby("other", sort=False) if len(pairs) else ():
        left, right = (matched[side].to_numpy() for side in ("left", "right"))
        both = pd.DataFrame(
            {
                "first_label": own.patterns["first_label"].to_numpy()[left],
                "own": own.patterns["pattern"].to_numpy()[left],
                "others": chains[str(name)].patterns["pattern"].to_numpy()[right],
                "score": matched["score"].to_numpy(),
            }
        )[np.isin(left, own.live)]
        groups = {ALL: both, **{str(label): of for label, of in both.groupby("first_label")}}
        for label, group in groups.items():
            row = {"other": name, "role": chains[str(name)].role, "first_label": label}
            rows.append(row | _agreement(group, generator))
    return pd.DataFrame(rows, columns=AGREEMENT_COLUMNS)


def _agreement(both: pd.DataFrame, generator: np.random.Generator) -> dict[str, Any]:
    """The columns of `pattern_agreement` from `pairs` on."""
    names = sorted(set(both["own"]) | set(both["others"]))
    confusion = (
        pd.crosstab(both["own"], both["others"])
        .reindex(index=names, columns=names, fill_value=0)
        .to_numpy()
    )
    total = int(confusion.sum())
    found: dict[str, Any] = {"pairs": total, "median_score": both["score"].median()}
    found |= dict.fromkeys(("agreement", "chance", "kappa", "kappa_low", "kappa_high"), np.nan)
    if not total:
        return found
    agreement, chance, kappa = (float(of[0]) for of in _kappa(confusion[None] / total))
    found |= {"agreement": agreement, "chance": chance}
    if total >= MIN_PAIRS and chance < 1:
        drawn = generator.multinomial(total, confusion.ravel() / total, DRAWS) / total
        kappas = _kappa(drawn.reshape(DRAWS, *confusion.shape))[2]
        low, high = np.nanquantile(kappas, INTERVAL)
        found |= {"kappa": kappa, "kappa_low": float(low), "kappa_high": float(high)}
    return found


def _kappa(
    shares: Float[ndarray, "draws patterns patterns"],
) -> tuple[Float[ndarray, " draws"], Float[ndarray, " draws"], Float[ndarray, " draws"]]:
    """Agreement, that of chance, and Cohen's kappa (NaN where chance alone agrees always)."""
    agreement = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(chance < 1, (agreement - chance) / (1 - chance), np.nan)
    return agreement, chance, kappa


def kappa_of_features(
    agreement: pd.DataFrame, first_labels: pd.Series[str]
) -> Float[ndarray, " features"]:
    """How far each feature's pattern can be trusted: kappa in the first replicate there is.

    Args:
        agreement: as `pattern_agreement` gives it.
        first_labels: of each feature at the first link.

    Returns:
        Of the features with the same first label, by which kappa differs most; NaN without a
        replicate.
    """
    of_replicates = agreement[agreement["role"] == "replicate"]
    if of_replicates.empty:
        return np.full(len(first_labels), np.nan)
    first = of_replicates[of_replicates["other"] == of_replicates["other"].iloc[0]]
    kappas = first.set_index("first_label")["kappa"]
    return first_labels.map(kappas).to_numpy(float)
