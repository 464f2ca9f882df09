"""Explains and judges by rules, without any model: the same questions, answers that cost nothing.

An explanation is the rule that tells marked tokens from the others best, by balanced accuracy: some
tokens, a stem, a beginning, tokens that stand before, a kind of token, a place in the row. It is
written so that it can be read back: an explanation is judged by what it says alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from saetrack.analysis.contexts.token_purity import PREFIX_LETTERS, vocabulary_forms
from saetrack.analysis.explanations.examples import Text
from saetrack.analysis.explanations.model import Reply
from saetrack.analysis.explanations.questions import NOTHING_FOUND, Explanation, Messages, Question

if TYPE_CHECKING:
    from jaxtyping import Bool
    from numpy import ndarray

# Raise when a rule changes.
RULES_VERSION = 3

NOTHING = "nothing in common"
# Balanced accuracy on the tokens of the examples that a rule needs, and by how much a later rule
# must be better than those before it.
MIN_ACCURACY, BETTER_BY = 0.7, 0.02
COMMON = (1, 2, 3, 5)  # how many tokens a rule lists
BEGINNING_OF_ROW = 4  # positions

TOKENS, STEM, BEGINNING, AFTER = "tokens ", "stem of ", "beginning ", "after "
ROW = "first tokens of a row"
# Kinds of tokens, by the text of each.
KINDS: dict[str, Callable[[str], bool]] = {
    "line breaks": lambda text: "\n" in text,
    "blanks": lambda text: bool(text) and not text.strip() and "\n" not in text,
    "digits": lambda text: text.strip().isdigit(),
    "capital letters": lambda text: text.strip().isalpha() and text.isupper(),
    "capitalised words": lambda text: text.strip().istitle() and len(text.strip()) > 1,
    "punctuation": lambda text: bool(re.fullmatch(r"[^\w\s]+", text.strip())),
    "insides of words": lambda text: text.isalpha(),
    "beginnings of words": lambda text: text[:1] == " " and text[1:].isalpha(),
}


# The class that a rule says by its beginning; one that lists tokens says it by what it lists. Rules
# see no meaning, so none says that there is a concept.
LABEL_OF = {
    NOTHING: NOTHING_FOUND,
    **dict.fromkeys(KINDS, "several_tokens"),  # the token alone says whether it is of the kind
    **dict.fromkeys((STEM, BEGINNING), "weak_concept"),
    **dict.fromkeys((AFTER, ROW), "contextual"),  # not the token, but where it stands
}


class _Rule(NamedTuple):
    """Which tokens match: by their ids, or by those before them; None: by their place."""

    ids: Bool[ndarray, " vocabulary"] | None
    is_before: bool


class Rules:
    """See `saetrack.analysis.explanations.model.Model`."""

    name = "rules"
    at_once = 1
    is_rules = True

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """For the tokens of an LM."""
        self._vocabulary = vocabulary
        self._rule = lru_cache(maxsize=10_000)(self._read)

    @property
    def identity(self) -> dict[str, Any]:
        """Of the rules."""
        return {"rules": RULES_VERSION}

    def give_up(self) -> None:
        """See `Model`: there is nothing that could go on."""

    def answer(self, question: Question, messages: Messages) -> Reply:
        """The answer, in the form that a model is asked for."""
        del messages  # they say the same as the question
        if question.kind == "explain":
            return Reply(json.dumps(_as_answer(self.explain(question.texts))), 0, 0)
        judge = self._fires if question.kind == "detection" else self._is_marked_right
        verdicts = [int(judge(question.explanation, text)) for text in question.texts]
        return Reply(json.dumps({"answers": verdicts}), 0, 0)

    def explain(self, texts: Sequence[Text]) -> Explanation:
        """The rule that tells the marked tokens of some texts best from the others."""
        marks = np.concatenate([text.marks for text in texts]).astype(bool)
        best, accuracy = NOTHING, MIN_ACCURACY
        for rule in self._candidates(texts):
            matches = np.concatenate([self.matches(rule, text) for text in texts])
            found = _balanced(matches, marks)
            if found > accuracy + (0 if best == NOTHING else BETTER_BY):
                best, accuracy = rule, found
        return Explanation(best, self.label_of(best))

    def matches(self, rule: str, text: Text) -> Bool[ndarray, " tokens"]:
        """Which tokens of a text a rule names; none if it is no rule."""
        ids = np.asarray(text.ids)
        found = self._rule(rule)
        if found is None:
            return np.zeros(len(ids), bool)
        if found.ids is None:
            return np.arange(text.first, text.first + len(ids)) < BEGINNING_OF_ROW
        if found.is_before:
            return np.concatenate([[False], found.ids[ids[:-1]]])
        named: Bool[ndarray, " tokens"] = found.ids[ids]
        return named

    def _fires(self, rule: str, text: Text) -> bool:
        return bool(self.matches(rule, text).any())

    def _is_marked_right(self, rule: str, text: Text) -> bool:
        """Whether most marked tokens match."""
        matches = self.matches(rule, text)[np.asarray(text.marks)]
        return bool(2 * matches.sum() > len(matches))

    def _candidates(self, texts: Sequence[Text]) -> Iterator[str]:
        """Rules that may hold, those that say most first."""
        yield from self._listed(TOKENS, map(_marked_ids, texts))
        marked = [token for text in texts for token in _marked_ids(text)]
        commonest = Counter(map(self._text, marked)).most_common(1)[0][0]
        yield STEM + json.dumps(commonest, ensure_ascii=False)
        if commonest.isalpha():
            beginning = commonest[:PREFIX_LETTERS]
            yield BEGINNING + json.dumps(beginning, ensure_ascii=False)
        yield from self._listed(AFTER, map(_ids_before, texts))
        yield from KINDS
        yield ROW

    def _listed(self, kind: str, of_texts: Iterable[Sequence[int]]) -> Iterator[str]:
        """A rule that lists the commonest token, and those that list more; all in two texts."""
        counts = Counter(text for ids in of_texts for text in set(map(self._text, ids)))
        ordered = [text for text, count in counts.most_common(COMMON[-1]) if count > 1]
        for count in COMMON:
            if len(ordered) >= count:
                yield kind + json.dumps(ordered[:count], ensure_ascii=False)[1:-1]

    def label_of(self, rule: str) -> str:
        """The class that a rule says: the rule alone decides it, so that both say the same."""
        for beginning, label in LABEL_OF.items():
            if rule.startswith(beginning):
                return label
        found = self._rule(rule)
        assert found is not None, "a rule that was written here"
        texts, stems, beginnings = (
            len({*ids[found.ids].tolist()})
            for ids in (self._forms.text_ids, self._forms.stem_ids, self._forms.prefix_ids)
        )
        if texts == 1:
            return "token"
        return "weak_concept" if 1 in (stems, beginnings) else "several_tokens"

    def _read(self, rule: str) -> _Rule | None:
        """A rule as it is written."""
        if rule == ROW:
            return _Rule(None, is_before=False)
        if rule in KINDS:
            fits = KINDS[rule]
            return _Rule(np.array([fits(text) for text in self._vocabulary]), is_before=False)
        for kind in (TOKENS, STEM, BEGINNING, AFTER):
            if rule.startswith(kind):
                try:
                    named = json.loads(f"[{rule.removeprefix(kind)}]")
                except ValueError:  # an explanation that was cut
                    return None
                return _Rule(self._ids_of(kind, named), is_before=kind == AFTER)
        return None

    def _ids_of(self, kind: str, named: Sequence[str]) -> Bool[ndarray, " vocabulary"]:
        forms = self._forms
        if kind == BEGINNING:
            fits = np.array([text.startswith(named[0]) for text in forms.texts])
        else:
            fits = np.isin(np.array(forms.texts, dtype=object), named)
        found: Bool[ndarray, " vocabulary"] = fits[forms.text_ids]
        if kind == STEM:
            found = np.isin(forms.stem_ids, forms.stem_ids[found])
        return found

    def _text(self, token_id: int) -> str:
        return str(self._forms.texts[self._forms.text_ids[token_id]])

    @cached_property
    def _forms(self) -> Any:
        return vocabulary_forms(self._vocabulary)


def _as_answer(explanation: Explanation) -> dict[str, str]:
    return {"explanation": explanation.text, "label": explanation.label}


def _marked_ids(text: Text) -> list[int]:
    return [token for token, mark in zip(text.ids, text.marks, strict=True) if mark]


def _ids_before(text: Text) -> list[int]:
    pairs = zip(text.ids, text.marks[1:], strict=False)
    return [token for token, mark in pairs if mark]


def _balanced(matches: Bool[ndarray, " tokens"], marks: Bool[ndarray, " tokens"]) -> float:
    """Balanced accuracy; 0 where there is nothing to tell apart."""
    if marks.all() or not marks.any():
        return 0.0
    return float((matches[marks].mean() + (~matches[~marks]).mean()) / 2)
