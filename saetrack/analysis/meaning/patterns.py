"""How a feature's meaning changes over training: the paper's three patterns, and the rest.

The paper names maintaining, shifting and grouping, and calls them exhaustive (section 3). They are
not: a feature may also dissolve, stay noise, begin as a concept, be born late or die. By the labels
at the first and the final checkpoint:

| first | final | pattern |
|---|---|---|
| token | the same token | `maintaining` |
| token | another token, or a (weak) concept | `shifting` |
| noise | token or (weak) concept | `grouping` |
| (weak) concept | (weak) concept on the same tokens | `kept_concept` |
| (weak) concept | (weak) concept on other tokens | `moved_concept` |
| (weak) concept | token | `narrowing` |
| token or (weak) concept | noise | `dissolving` |
| noise | noise | `unformed` |
| dead, ultra-low, insufficient | any of the above | `late_born` |
| any of the above | dead, ultra-low, insufficient | `dying` |
| dead, ultra-low, insufficient | the same | `absent` |

"The same" is an overlap of the token distributions of top contexts of at least a half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from saetrack.analysis.formation.phases import formed_columns
from saetrack.analysis.geometry.similarity import row_sums
from saetrack.analysis.meaning.labels import ABSENT, CONCEPTS, MEANINGFUL, Meanings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

Pattern = Literal[
    "maintaining",
    "shifting",
    "grouping",
    "kept_concept",
    "moved_concept",
    "narrowing",
    "dissolving",
    "unformed",
    "late_born",
    "dying",
    "absent",
]
PATTERNS: tuple[str, ...] = get_args(Pattern)
PAPER_PATTERNS = PATTERNS[:3]
MIN_OVERLAP = 0.5


def text_overlap(
    left: Int[ndarray, "features k"], right: Int[ndarray, "features k"]
) -> Float[ndarray, " features"]:
    """1 - Jensen-Shannon distance (base 2) of the texts of two lists: 1 alike, 0 disjoint.

    NaN where a list is empty.
    """
    texts = max(int(left.max(initial=0)), int(right.max(initial=0))) + 1
    p, q = _distribution(left, texts), _distribution(right, texts)
    divergence = _entropy(sparse.csr_array((p + q) / 2)) - (_entropy(p) + _entropy(q)) / 2
    overlap = 1 - np.sqrt(divergence.clip(0, 1))
    both = (left >= 0).any(axis=1) & (right >= 0).any(axis=1)
    return np.where(both, overlap, np.nan)


def _distribution(ids: Int[ndarray, "features k"], texts: int) -> sparse.csr_array:
    """Shares of texts, (features, texts)."""
    of_feature, _ = np.nonzero(ids >= 0)
    sizes = (ids >= 0).sum(axis=1)
    entries = (1 / sizes[of_feature], (of_feature, ids[ids >= 0]))
    return sparse.csr_array(entries, shape=(len(ids), texts))


def _entropy(shares: sparse.csr_array) -> Float[ndarray, " features"]:
    """In bits."""
    terms = shares.copy()
    terms.data = -terms.data * np.log2(terms.data)
    return row_sums(terms)


def trace_patterns(meanings: Sequence[Meanings], min_overlap: float = MIN_OVERLAP) -> pd.DataFrame:
    """Each feature's pattern, and from when on it is formed (Definition 5.2).

    Formed: the first checkpoint from which on label and texts are those of the final one. A
    maintaining feature is formed from the first, as the paper has it; `steady` says whether its
    meaning indeed held at every checkpoint between.

    Returns:
        One row per feature: `feature`, `first_label`, `final_label`, `overlap` (first to final),
        `pattern`, `same_stem` (the commonest stem is the same: a shifting feature widens),
        `steady`, `formed_checkpoint_index`, `formed_lm_step` (NaN if the final label is no
        meaning).
    """
    first, final = meanings[0], meanings[-1]
    final_label = final.labels["label"].to_numpy()
    overlaps = np.stack(
        [text_overlap(meaning.text_ids, final.text_ids) for meaning in meanings], axis=1
    )
    labels = np.stack([meaning.labels["label"].to_numpy() for meaning in meanings], axis=1)
    kept = (labels == final_label[:, None]) & (overlaps >= min_overlap)
    pattern = _patterns(labels[:, 0], final_label, overlaps[:, 0] >= min_overlap)
    stable = kept & np.isin(final_label, MEANINGFUL)[:, None]
    stable |= (pattern == "maintaining")[:, None]
    checkpoints = pd.DataFrame(
        {
            "checkpoint_index": [meaning.checkpoint_index for meaning in meanings],
            "lm_step": [meaning.lm_step for meaning in meanings],
        }
    )
    stems = [meaning.labels["top_stem"].to_numpy() for meaning in (first, final)]
    return pd.DataFrame(
        {
            "feature": final.labels["feature"].to_numpy(),
            "first_label": labels[:, 0],
            "final_label": final_label,
            "overlap": overlaps[:, 0],
            "pattern": pattern,
            "same_stem": (stems[0] == stems[1]) & (stems[0] >= 0),
            "steady": kept.all(axis=1),
            **formed_columns(stable, checkpoints),
        }
    )


def _patterns(first: Any, final: Any, same: Bool[ndarray, " features"]) -> Any:
    absent_first, absent_final = np.isin(first, ABSENT), np.isin(final, ABSENT)
    was_concept, is_concept = np.isin(first, CONCEPTS), np.isin(final, CONCEPTS)
    rules: dict[str, Bool[ndarray, " features"]] = {
        "absent": absent_first & absent_final,
        "late_born": absent_first,
        "dying": absent_final,
        "unformed": (first == "noise") & (final == "noise"),
        "dissolving": final == "noise",
        "grouping": first == "noise",
        "maintaining": (first == "token") & (final == "token") & same,
        "shifting": first == "token",
        "narrowing": was_concept & (final == "token"),
        "kept_concept": is_concept & same,
        "moved_concept": is_concept,
    }
    return np.select(list(rules.values()), list(rules), "absent")


def pattern_counts(
    patterns: pd.DataFrame, samples: Mapping[str, Int[ndarray, " chosen"]]
) -> pd.DataFrame:
    """How many features follow which pattern (figure 2, right).

    Returns:
        One row per sample, pattern and final label: `sample`, `pattern`, `final_label`,
        `features`, `share` (of the sample).
    """
    rows = []
    for name, features in samples.items():
        chosen = patterns[patterns["feature"].isin(features)]
        counts = chosen.groupby(["pattern", "final_label"]).size().rename("features").reset_index()
        rows.append(counts.assign(sample=name, share=counts["features"] / max(len(chosen), 1)))
    order = ["sample", "pattern", "final_label", "features", "share"]
    return pd.concat(rows, ignore_index=True)[order]
