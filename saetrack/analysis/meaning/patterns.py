"""How a feature's meaning changes over training: from the first checkpoint to the final one.

The paper names maintaining, shifting and grouping, and calls them exhaustive (section 3). They are
not: a feature may also dissolve, never form, begin as a concept, be born late or die. `PATTERNS`
says in a sentence what each is. By the labels at the first and the final checkpoint:

| first | final | pattern |
|---|---|---|
| one or several tokens | the same | `maintaining` |
| one token | several tokens, that one and others which had features of their own | `merging` |
| one token | several tokens, that one and others | `widening` |
| several tokens | one of them | `narrowing` |
| a (weak) concept | one or several tokens | `narrowing` |
| one or several tokens | other tokens, or a (weak) concept | `shifting` |
| contextual, not coherent | tokens or a (weak) concept | `grouping` |
| a (weak) concept | a (weak) concept on the same tokens | `kept_concept` |
| a (weak) concept | a (weak) concept on other tokens | `moved_concept` |
| tokens or a (weak) concept | contextual, not coherent | `dissolving` |
| contextual, not coherent | the same | `unformed` |
| dead, ultra-low, insufficient | any of the above | `late_born` |
| any of the above | dead, ultra-low, insufficient | `dying` |
| dead, ultra-low, insufficient | the same | `absent` |

"The same" is an overlap of the token distributions of top contexts of at least a half; a token is
among several if a tenth of the contexts have it. The paper's patterns by its own classes stand
beside them, as `paper_pattern`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from saetrack.analysis.contexts.token_purity import purity
from saetrack.analysis.formation.phases import formed_columns
from saetrack.analysis.geometry.similarity import row_sums
from saetrack.analysis.meaning.classes import ABSENT, CONCEPTS, CONTEXTUAL, MEANINGFUL, TOKENS
from saetrack.analysis.meaning.labels import Meanings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

PATTERN_MEANINGS = {
    "maintaining": "The same token, or the same several tokens, at the first LM step and at the "
    "last.",
    "shifting": "One or several tokens become other tokens, or a concept.",
    "grouping": "What was contextual and not coherent becomes tokens or a concept.",
    "merging": "One token becomes several: others join it that had features of their own at first.",
    "widening": "One token becomes several: others join it that had no feature of their own.",
    "narrowing": "Several tokens become one of them, or a concept becomes one or several tokens.",
    "kept_concept": "A concept stays on the same tokens.",
    "moved_concept": "A concept moves to other tokens.",
    "dissolving": "Tokens or a concept become contextual and not coherent.",
    "unformed": "Contextual and not coherent at the first LM step and at the last.",
    "late_born": "Dead or too rare at first, alive at the end.",
    "dying": "Alive at first, dead or too rare at the end.",
    "absent": "Dead or too rare at both ends.",
}
PATTERNS = tuple(PATTERN_MEANINGS)
PAPER_PATTERNS, NO_PATTERN = PATTERNS[:3], "none of them"
MIN_OVERLAP = 0.5
# Of several tokens a feature has those that so many of its contexts have.
AMONG = 0.1


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
        `pattern`, `paper_pattern` (by the paper's classes; None if none of its three), `same_stem`
        (the commonest stem is the same: a shifting feature widens), `steady`,
        `formed_checkpoint_index`, `formed_lm_step` (NaN if the final label is no meaning).
    """
    first, final = meanings[0], meanings[-1]
    final_label = final.labels["label"].to_numpy()
    overlaps = np.stack(
        [text_overlap(meaning.text_ids, final.text_ids) for meaning in meanings], axis=1
    )
    labels = np.stack([meaning.labels["label"].to_numpy() for meaning in meanings], axis=1)
    kept = (labels == final_label[:, None]) & (overlaps >= min_overlap)
    same = overlaps[:, 0] >= min_overlap
    pattern = _patterns(first, final, same)
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
            "paper_pattern": _paper_patterns(first, final, same),
            "same_stem": (stems[0] == stems[1]) & (stems[0] >= 0),
            "steady": kept.all(axis=1),
            **formed_columns(stable, checkpoints),
        }
    )


def _patterns(first: Meanings, final: Meanings, same: Bool[ndarray, " features"]) -> Any:
    """The first rule that holds."""
    was, now = (meaning.labels["label"].to_numpy() for meaning in (first, final))
    absent_first, absent_final = np.isin(was, ABSENT), np.isin(now, ABSENT)
    was_tokens, is_tokens = np.isin(was, TOKENS), np.isin(now, TOKENS)
    is_concept = np.isin(now, CONCEPTS)
    one_before, one_after = was == "token", now == "token"
    keeps, joined = _joined(first, final)
    narrows = (was == "several_tokens") & one_after & _has(first.text_ids, _commonest(final))
    rules: dict[str, Bool[ndarray, " features"]] = {
        "absent": absent_first & absent_final,
        "late_born": absent_first,
        "dying": absent_final,
        "unformed": (was == CONTEXTUAL) & (now == CONTEXTUAL),
        "dissolving": now == CONTEXTUAL,
        "grouping": was == CONTEXTUAL,
        "merging": one_before & (now == "several_tokens") & keeps & joined,
        "widening": one_before & (now == "several_tokens") & keeps,
        "narrowing": narrows | (np.isin(was, CONCEPTS) & is_tokens),
        "maintaining": was_tokens & (was == now) & same,
        "shifting": was_tokens,
        "kept_concept": is_concept & same,
        "moved_concept": is_concept,
    }
    return np.select(list(rules.values()), list(rules), "absent")


def _joined(
    first: Meanings, final: Meanings
) -> tuple[Bool[ndarray, " features"], Bool[ndarray, " features"]]:
    """Whether a feature's final tokens have its first one, and others that were one of a feature.

    The others were, at the first checkpoint, the one token of some feature.
    """
    own = _commonest(first)
    one_token = first.labels["label"].to_numpy() == "token"
    ids = final.text_ids
    known = np.unique(own[one_token & (own >= 0)])
    others = np.where(np.isin(ids, known) & (ids != own[:, None]), ids, -1)
    return _has(ids, own), _has(ids, purity(others).commonest)


def _commonest(meaning: Meanings) -> Int[ndarray, " features"]:
    """The commonest text of each feature's contexts; -1 for none."""
    return purity(meaning.text_ids).commonest


def _has(
    text_ids: Int[ndarray, "features k"], text: Int[ndarray, " features"]
) -> Bool[ndarray, " features"]:
    """Whether enough of each feature's contexts have a text."""
    has = ((text_ids == text[:, None]) & (text_ids >= 0)).sum(axis=1)
    found: Bool[ndarray, " features"] = has >= np.maximum(AMONG * (text_ids >= 0).sum(axis=1), 1)
    return found


def _paper_patterns(first: Meanings, final: Meanings, same: Bool[ndarray, " features"]) -> Any:
    """Maintaining, shifting, grouping by the paper's classes; None for the rest."""
    was, now = (meaning.labels["paper_label"].to_numpy() for meaning in (first, final))
    means = np.isin(now, ("token", *CONCEPTS))
    rules: list[Bool[ndarray, " features"]] = [
        (was == "token") & (now == "token") & same,
        (was == "token") & means,
        (was == "noise") & means,
    ]
    found = np.select(rules, PAPER_PATTERNS, "")
    return np.where(found == "", None, found)  # type: ignore[call-overload]


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


def paper_pattern_counts(
    patterns: pd.DataFrame, samples: Mapping[str, Int[ndarray, " chosen"]]
) -> pd.DataFrame:
    """How many features follow the paper's three patterns, by its own classes.

    Returns:
        One row per sample and pattern, `none of them` last: `sample`, `pattern`, `features`,
        `share` (of the sample).
    """
    rows = []
    for name, features in samples.items():
        chosen = patterns.loc[patterns["feature"].isin(features), "paper_pattern"]
        counts = chosen.fillna(NO_PATTERN).value_counts()
        counts = counts.reindex([*PAPER_PATTERNS, NO_PATTERN], fill_value=0)
        table = counts.rename("features").rename_axis("pattern").reset_index()
        share = table["features"] / max(len(chosen), 1)
        rows.append(table.assign(sample=name, share=share))
    return pd.concat(rows, ignore_index=True)[["sample", "pattern", "features", "share"]]
