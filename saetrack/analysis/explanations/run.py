"""Explanations of features, each judged at every link of the chain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.explanations.examples import (
    MIN_TEXTS,
    Judged,
    LinkContexts,
    Text,
    judged_texts,
    wrongly_marked,
)
from saetrack.analysis.explanations.questions import Explanation, Kind, Question
from saetrack.analysis.explanations.scores import NO_SCORE, Score, balanced_accuracy
from saetrack.analysis.explanations.targets import Target, targets_of
from saetrack.utils.errors import UserError
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from saetrack.analysis.explanations.asking import Answered, Asker
    from saetrack.analysis.explanations.config import ExplainConfig
    from saetrack.analysis.life_store.reader import LifeStore

log = logging.getLogger(__name__)

JUDGED_BY: tuple[Kind, ...] = ("detection", "fuzzing")


@dataclass(frozen=True)
class Explained:
    """A feature with its explanation.

    Attributes:
        target: the feature, and the link where it was explained.
        explanation: of it.
        seen: rows of text that were shown for it.
        texts: how many were shown.
        other: another feature's explanation, the control; empty if there is no other.
    """

    target: Target
    explanation: Explanation
    seen: frozenset[int]
    texts: int
    other: str = ""


class ExplanationRun:
    """The questions of a run in their order, and the tables of its answers.

    Attributes:
        store: the lives of the chain's features, or of random directions.
        are_directions: whether directions are explained.
        targets: what is explained.
        explaining: a question for each of them that has enough contexts.
    """

    def __init__(
        self,
        config: ExplainConfig,
        store: LifeStore,
        directions: Iterable[Target] | None = None,
    ) -> None:
        """Choose what is explained, and read the contexts that are shown.

        Args:
            config: of the run.
            store: of the features or directions.
            directions: that are explained; None: features are.

        Raises:
            UserError: there is no such feature or link, or none has enough contexts.
        """
        self.store = store
        self._seed = config.seed
        self.are_directions = directions is not None
        self.targets = targets_of(config, store) if directions is None else list(directions)
        self.explaining = dict(self._explaining())
        if left_out := len(self.targets) - len(self.explaining):
            log.info("%d %s are left out: too few contexts there", left_out, self._what)
        if not self.explaining and not self.are_directions:
            raise UserError("no feature has enough contexts where it is to be explained")

    def _explaining(self) -> Iterator[tuple[Target, Question]]:
        for target in self.targets:
            texts = LinkContexts(self.store, target.feature, target.link).explaining()
            if len(texts) >= MIN_TEXTS:
                where = target.feature, target.link, target.link
                yield target, Question("explain", *where, texts)

    @property
    def _what(self) -> str:
        return "directions" if self.are_directions else "explanations"

    def explain(self, asker: Asker, records: Any) -> list[Explained]:
        """Ask for all explanations.

        Args:
            asker: of a model.
            records: a text file, which takes a line of JSON for each answer.

        Raises:
            UserError: no answers are to be had (`Asker.ask_all`).
        """
        progress = Progress("explain", len(self.explaining), self._what)
        found: dict[Target, Explanation] = {}
        answers = asker.ask_all(self.explaining.values())
        for target, answered in zip(self.explaining, answers, strict=True):
            records.write(_record(answered, is_direction=self.are_directions))
            progress.advance(1)
            if answered.explanation is not None:
                found[target] = answered.explanation
        if not found:
            raise UserError(f"{asker.model.name}: none of its answers is an explanation")
        return self.with_others(found)

    def with_others(self, explanations: dict[Target, Explanation]) -> list[Explained]:
        """Each explanation beside one of another feature of the same place."""
        others: dict[Target, str] = {}
        for place in dict.fromkeys(target.place for target in explanations):
            of_place = [target for target in explanations if target.place == place]
            order = np.random.default_rng(self._seed).permutation(len(of_place))
            if len(of_place) > 1:
                for one, other in zip(order, np.roll(order, 1), strict=True):
                    others[of_place[one]] = explanations[of_place[other]].text
        return [
            Explained(
                target,
                explanation,
                frozenset(text.row for text in self.explaining[target].texts),
                len(self.explaining[target].texts),
                others.get(target, ""),
            )
            for target, explanation in explanations.items()
        ]

    def judge(self, asker: Asker, explained: list[Explained], records: Any) -> pd.DataFrame:
        """Ask for all verdicts.

        Returns:
            One row per explanation and link: `place`, `feature`, `explained_at`, `link`, `lm_step`,
            `detection` with `_low`, `_high` and `_texts`, `fuzzing` likewise, `score` (the mean of
            both), `unknown_silent` (share of the silent texts that are not known to be), and
            `shuffled_detection`, `shuffled_fuzzing`, `shuffled_score` of another feature's
            explanation on the same texts.

        Raises:
            UserError: as `explain`.
        """
        links = len(self.store.manifest.links)
        progress = Progress("judge", len(explained), self._what)
        questions = _Noted(self, explained)
        scores: dict[tuple[Target, int, str], Score] = {}
        for number, answered in enumerate(asker.ask_all(questions)):
            records.write(_record(answered, is_direction=self.are_directions))
            asked = answered.question
            target = questions.target_of[number]
            name = f"{'shuffled_' if asked.is_control else ''}{asked.kind}"
            if answered.verdicts is not None:
                scores[target, asked.link, name] = balanced_accuracy(answered.verdicts, asked.truth)
            progress.show(questions.place_of[target])
        rows = [
            self._row(one.target, link, scores, questions.unknown.get((one.target, link)))
            for one in explained
            for link in range(links)
        ]
        return pd.DataFrame(rows)

    def _row(
        self,
        target: Target,
        link: int,
        scores: dict[tuple[Target, int, str], Score],
        unknown: float | None,
    ) -> dict[str, Any]:
        lm_steps = [one.lm_step for one in self.store.manifest.links]
        row: dict[str, Any] = {
            "place": target.place,
            "feature": target.feature,
            "explained_at": lm_steps[target.link],
            "link": link,
            "lm_step": lm_steps[link],
        }
        for prefix in ("", "shuffled_"):
            both = [scores.get((target, link, prefix + kind), NO_SCORE) for kind in JUDGED_BY]
            for kind, score in zip(JUDGED_BY, both, strict=True):
                row[prefix + kind] = score.value
                if not prefix:
                    row |= {f"{kind}_low": score.low, f"{kind}_high": score.high}
                    row[f"{kind}_texts"] = score.texts
            row[f"{prefix}score"] = sum(score.value for score in both) / len(both)
        row["unknown_silent"] = np.nan if unknown is None else unknown
        return row

    def judged(self, one: Explained, link: int) -> Judged:
        """The texts by which an explanation is judged at a link."""
        feature = one.target.feature
        generator = np.random.default_rng([self._seed, feature])
        others = generator.integers(0, self.store.manifest.d_sae, 64).tolist()
        return judged_texts(self.store, feature, link, one.seen, others)

    def judging(self, one: Explained, link: int, judged: Judged) -> Iterator[Question]:
        """The questions about an explanation at one link, and the same of another feature's."""
        feature, at = one.target.feature, one.target.link
        for number, kind in enumerate(JUDGED_BY):
            seed = [self._seed, feature, link, number]
            texts = _unmarked(judged) if kind == "detection" else _marked(judged, seed)
            if not texts:
                continue
            order = np.random.default_rng(seed).permutation(len(texts))
            shown = tuple(texts[index][0] for index in order)
            truth = tuple(texts[index][1] for index in order)
            for control, said in ((False, one.explanation.text), (True, one.other)):
                if said:
                    yield Question(kind, feature, at, link, shown, truth, said, control)


class _Noted:
    """The questions of a run, made one after another, and what of them its tables need.

    Attributes:
        target_of: the target of each question that was made so far.
        place_of: how many explanations were begun when a target's came.
        unknown: share of silent texts that are not known to be, by target and link.
    """

    def __init__(self, run: ExplanationRun, explained: list[Explained]) -> None:
        self._run = run
        self._explained = explained
        self.target_of: list[Target] = []
        self.place_of = {one.target: number for number, one in enumerate(explained)}
        self.unknown: dict[tuple[Target, int], float] = {}

    def __iter__(self) -> Iterator[Question]:
        for one in self._explained:
            for link in range(len(self._run.store.manifest.links)):
                judged = self._run.judged(one, link)
                if judged.silent:
                    self.unknown[one.target, link] = judged.unknown / len(judged.silent)
                for question in self._run.judging(one, link, judged):
                    self.target_of.append(one.target)
                    yield question


def _unmarked(judged: Judged) -> list[tuple[Text, bool]]:
    """Texts of both kinds, without marks, and whether the feature fires on each."""
    firing = [(text.marked([False] * len(text.ids)), True) for text in judged.firing]
    return [*firing, *((text, False) for text in judged.silent)]


def _marked(judged: Judged, seed: list[int]) -> list[tuple[Text, bool]]:
    """Texts on which it fires, each with the right marks and with others."""
    found = []
    for number, text in enumerate(judged.firing):
        wrong = wrongly_marked(text, [*seed, number])
        if wrong is not None:
            found += [(text, True), (wrong, False)]
    return found if len(found) >= 2 * MIN_TEXTS else []


def _record(answered: Answered, *, is_direction: bool) -> str:
    """An answer with its question, as a line of JSON."""
    question = answered.question
    line = {
        "kind": question.kind,
        "direction" if is_direction else "feature": question.feature,
        "explained_at_link": question.explained_at,
        "link": question.link,
        "shuffled": question.is_control,
        "places": [[text.row, text.first] for text in question.texts],
        "asked": answered.messages[-1]["content"],
        "truth": [int(one) for one in question.truth],
        "answer": answered.reply.text,
        "problem": answered.problem,
    }
    return json.dumps(line, ensure_ascii=False) + "\n"
