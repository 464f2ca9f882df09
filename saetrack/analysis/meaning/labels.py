"""What a feature means at one checkpoint, by its top contexts and by what its token explains.

The authors read contexts and decide by hand (definitions 3.1, 3.2, appendix F). Here thresholds
decide, tried in this order:

| label | when |
|---|---|
| `dead`, `ultra_low` | see `saetrack.analysis.contexts.liveness` |
| `insufficient` | it has fewer contexts than a judgement needs, or its activation does not vary |
| `token` | most contexts have one and the same token, blanks and case aside |
| `weak_concept` | most have one stem, or begin alike: forms of one word |
| `several_tokens` | the token alone explains most of its activation (`determinism`) |
| `concept` | several stems, and contexts more alike than those of random directions (`nulls`) |
| `contextual` | none of these |

The paper's own classes stand beside them, as `paper_label`: `token` and `weak_concept` as above, a
`concept` whether the token explains it or not, and `noise` for what is left.

How well this agrees with a reader is measured by `saetrack.analysis.meaning.labelling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.token_purity import VocabularyForms, mapped, purity
from saetrack.analysis.meaning.classes import ABSENT, LABELS, PAPER_CLASSES
from saetrack.analysis.meaning.determinism import TOKEN_DETERMINISM

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray

# Shares of contexts with the commonest normalised token, for `token`, and with the commonest stem
# or common beginning, for `weak_concept`; the stems that a concept has at least, and its standard
# deviations above matched random contexts.
TOKEN_PURITY, STEM_PURITY, DISTINCT_STEMS, COHERENCE_Z = 0.8, 0.8, 3, 5.0


class Meanings(NamedTuple):
    """What all features mean at one checkpoint.

    Attributes:
        lm_step: of the checkpoint.
        checkpoint_index: of the same in the LM's list.
        labels: as `classify` gives it, one row per feature.
        text_ids: normalised texts of the top contexts' tokens; -1 fills up, (features, k).
    """

    lm_step: int
    checkpoint_index: int
    labels: pd.DataFrame
    text_ids: Int[ndarray, "features k"]


def classify(
    token_ids: Int[ndarray, "features k"],
    forms: VocabularyForms,
    status: pd.Series[str],
    determinism: Float[ndarray, " features"],
    coherence: pd.DataFrame,
    min_contexts: int,
    min_coherence_z: float = COHERENCE_Z,
) -> pd.DataFrame:
    """Label every feature at one checkpoint by the tokens of its top contexts; -1 fills up.

    Contexts must be without repeated texts, or else boilerplate looks coherent. A label takes at
    least `min_contexts`, a concept a coherence of at least `min_coherence_z`.

    Args:
        token_ids: of the top contexts.
        forms: of the vocabulary.
        status: of each feature (`saetrack.analysis.contexts.liveness`).
        determinism: share of each feature's variance that the token explains; NaN if it has none.
        coherence: of each feature's contexts (`saetrack.analysis.meaning.coherence`).
        min_contexts: that a label takes.
        min_coherence_z: that a concept takes (`saetrack.analysis.meaning.nulls`).

    Returns:
        One row per feature: `feature`, `label`, `paper_label`, `contexts`, `exact_purity` (of token
        ids), `token_purity`, `stem_purity`, `distinct_tokens`, `distinct_stems`, `top_text` (the
        commonest normalised token), `top_stem` (the number of the commonest stem), `determinism`
        and the columns of `coherence`.
    """
    table = _of_tokens(token_ids, forms).assign(determinism=determinism)
    table = pd.concat([table, coherence.reset_index(drop=True)], axis=1)
    concept = table["distinct_stems"] >= DISTINCT_STEMS
    concept &= table["coherence_z"] >= min_coherence_z
    few = table["contexts"] < min_contexts
    # Of either list the first rule that holds.
    rules = {
        "dead": status.to_numpy() == "dead",
        "ultra_low": status.to_numpy() == "ultra_low",
        "insufficient": few | table["determinism"].isna(),
        "token": table["token_purity"] >= TOKEN_PURITY,
        "weak_concept": table["stem_purity"] >= STEM_PURITY,
        "several_tokens": table["determinism"] >= TOKEN_DETERMINISM,
        "concept": concept,
    }
    of_paper = {name: rule for name, rule in rules.items() if name != "several_tokens"}
    of_paper["insufficient"] = few
    table.insert(1, "label", _first_that_holds(rules, "contextual"))
    table.insert(2, "paper_label", _first_that_holds(of_paper, "noise"))
    return table


def _of_tokens(token_ids: Int[ndarray, "features k"], forms: VocabularyForms) -> pd.DataFrame:
    """How pure each feature's tokens are, and which is the commonest."""
    texts = purity(mapped(token_ids, forms.text_ids))
    stems = purity(mapped(token_ids, forms.stem_ids))
    beginnings = purity(mapped(token_ids, forms.prefix_ids))
    return pd.DataFrame(
        {
            "feature": np.arange(len(token_ids)),
            "contexts": (token_ids >= 0).sum(axis=1),
            "exact_purity": purity(token_ids).share,
            "token_purity": texts.share,
            "stem_purity": np.fmax(stems.share, beginnings.share),
            "distinct_tokens": texts.distinct,
            "distinct_stems": stems.distinct,
            "top_text": [forms.texts[text] if text >= 0 else "" for text in texts.commonest],
            "top_stem": stems.commonest,
        }
    )


def _first_that_holds(rules: dict[str, Bool[ndarray, " features"]], otherwise: str) -> ndarray:
    return np.select([np.asarray(rule) for rule in rules.values()], list(rules), otherwise)


def may_be_concepts(labels: pd.DataFrame) -> Bool[ndarray, " features"]:
    """Which features, or directions, likeness alone decides about: contextual, of several stems."""
    is_contextual = labels["label"].isin(("concept", "contextual"))
    found: Bool[ndarray, " features"]
    found = (is_contextual & (labels["distinct_stems"] >= DISTINCT_STEMS)).to_numpy()
    return found


def label_counts(meanings: Sequence[Meanings]) -> pd.DataFrame:
    """How many features mean what at each checkpoint.

    Returns:
        One row per checkpoint and label: `checkpoint_index`, `lm_step`, `label`, `features`,
        `share` (of those with a label other than dead, ultra-low, insufficient; NaN for these).
    """
    return _counts(meanings, "label", LABELS)


def paper_counts(meanings: Sequence[Meanings]) -> pd.DataFrame:
    """The same by the paper's classes (`paper_label`)."""
    return _counts(meanings, "paper_label", (*PAPER_CLASSES, *ABSENT))


def _counts(meanings: Sequence[Meanings], column: str, names: Sequence[str]) -> pd.DataFrame:
    rows = []
    for meaning in meanings:
        counts = meaning.labels[column].value_counts().reindex(list(names), fill_value=0)
        judged = counts.drop(list(ABSENT))
        shares = (judged / max(judged.sum(), 1)).reindex(list(names))
        rows.append(
            pd.DataFrame(
                {
                    "checkpoint_index": meaning.checkpoint_index,
                    "lm_step": meaning.lm_step,
                    "label": list(names),
                    "features": counts.to_numpy(),
                    "share": shares.to_numpy(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def sample_features(
    features: Int[ndarray, " live"], size: int, seed: int
) -> Int[ndarray, " sampled"]:
    """A random sample of features, ascending; all of them if there are no more (paper: 256)."""
    chosen = np.random.default_rng(seed).permutation(len(features))[:size]
    return np.sort(features[chosen])
