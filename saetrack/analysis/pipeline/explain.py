"""Explanations of an analysed chain's features: a life store in, tables and a figure out."""

from __future__ import annotations

import gzip
import json
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from saetrack.analysis.explanations.asking import Asker
from saetrack.analysis.explanations.cache import AnswerCache
from saetrack.analysis.explanations.cost import Cost, cost_of
from saetrack.analysis.explanations.directions import paired_directions
from saetrack.analysis.explanations.holding import curves, with_held
from saetrack.analysis.explanations.model import Meter
from saetrack.analysis.explanations.questions import MESSAGES_VERSION, SYSTEM
from saetrack.analysis.explanations.run import ExplanationRun
from saetrack.analysis.figures.analysis_page import FIGURES, TABLES
from saetrack.analysis.figures.explanations import explanations_figure
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.analysis.meaning.labelling import read_sheet
from saetrack.analysis.pipeline.explanation_tables import (
    agreement_table,
    direction_table,
    explanation_metrics,
    explanation_table,
    said_of,
    some_of,
)
from saetrack.analysis.pipeline.table_files import save_tables
from saetrack.registry import Registry
from saetrack.registry.explanations import KIND
from saetrack.utils.errors import UserError
from saetrack.utils.extras import require_extra
from saetrack.utils.figures.steps import Setting
from saetrack.utils.files import content_hash

if TYPE_CHECKING:
    from saetrack.analysis.explanations.config import ExplainConfig
    from saetrack.analysis.explanations.model import Model
    from saetrack.analysis.explanations.targets import Target
    from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Raise when scores, tables or the figure change: the same is then explained again.
EXPLANATIONS_VERSION = 4
ANSWERS_FILE, SYSTEM_FILE = "answers.jsonl.gz", "system.json"
BY_HAND = "labels_by_hand.csv"  # of the analysis, once a sheet was read back


@dataclass(frozen=True)
class Explaining:
    """A run that is ready to begin.

    Attributes:
        config: of it.
        registry: that keeps it.
        chain_name: of the chain.
        analysis_run: id of the analysis whose life store is read.
        by_hand: labels that a person gave, by feature; None if there are none.
        lives: the store.
        work: its questions about features.
        directions: those about random directions; None if none are explained.
        paired: by direction the feature that it stands beside.
        asker: of the model.
        meter: of what is sent.
    """

    config: ExplainConfig
    registry: Registry
    chain_name: str
    analysis_run: str
    by_hand: pd.Series[str] | None
    lives: LifeStore
    work: ExplanationRun
    directions: ExplanationRun | None
    paired: dict[Target, Target]
    asker: Asker
    meter: Meter

    @property
    def title(self) -> str:
        """The name of its run in MLflow."""
        return f"explain · {self.chain_name} · {self.asker.model.name}"

    @property
    def identity(self) -> str:
        """The hash of all that it is made from."""
        versions = [EXPLANATIONS_VERSION, MESSAGES_VERSION]
        made_from = [self.analysis_run, self.config.choices(), self.asker.model.identity]
        return content_hash([versions, made_from])

    def is_finished(self) -> bool:
        """Whether the registry holds it: the same is not explained twice."""
        return self.registry.reports.has(self.lives.manifest.lm, self.identity)

    def cost(self) -> Cost:
        """What is still to be sent, or asked of rules, which take no tokens. Sends nothing."""
        cost = cost_of(self.work, self.asker)
        if self.directions is not None:
            cost += cost_of(self.directions, self.asker)
        is_sent = not self.asker.model.is_rules
        return cost if is_sent else replace(cost, tokens_in=0, tokens_out=0)

    def lines_of(self, cost: Cost) -> list[str]:
        """What it costs, as a person reads it."""
        if self.asker.model.is_rules:
            return [cost.line_of_rules()]
        return cost.lines(self.config.prices, is_priced=self.config.model_folder is None)

    def run(self) -> str:
        """Explain, judge, and register tables, the figure, questions and answers.

        A run that is broken off goes on from the answers that it had. A finished one is not made
        again.

        Returns:
            What was done, in a line.

        Raises:
            UserError: no answers are to be had, the budget is used up, or the registry is a copy,
                whose files would go to the first one.
        """
        if self.is_finished():
            return f"{self.title}: was explained before, {self._where()}"
        self.registry.require_files(self.lives.manifest.lm, writes=True)
        if not self.asker.model.is_rules:
            cost = self.cost()
            for line in self.lines_of(cost):
                log.info("%s", line)
            cost.require_within(self.config.budget, self.config.prices)
        with tempfile.TemporaryDirectory() as draft:
            folder = Path(draft)
            with gzip.open(folder / ANSWERS_FILE, "wt", encoding="utf-8") as records:
                tables = self._tables(records)
            self._write(tables, folder)
            self.registry.reports.log(
                self.lives.manifest.lm,
                self.title,
                folder,
                metrics=explanation_metrics(tables),
                facts=self._facts(),
            )
        for line in some_of(tables["explanations"]):
            log.info("%s", line)
        return f"{self.title}: {said_of(tables)}; {self._where()}"

    @property
    def run_id(self) -> str:
        """Its run in MLflow, once it is finished."""
        return self.registry.reports.run_of(self.lives.manifest.lm, self.identity).run_id

    def _where(self) -> str:
        """Where it is looked at, once it is finished."""
        where = self.registry.reports.where(self.lives.manifest.lm, self.identity)
        return f"{where}; look at it: saetrack explore {self.chain_name}"

    def _tables(self, records: Any) -> dict[str, pd.DataFrame]:
        """Ask for all explanations and verdicts, of features and of directions."""
        explainer, seed = self.asker.model.name, self.config.seed
        explained = self.work.explain(self.asker, records)
        scores = with_held(self.work.judge(self.asker, explained, records))
        table = explanation_table(explained, scores, self.lives, explainer)
        tables = {
            "explanations": table,
            "explanation_scores": scores,
            "explanation_agreement": agreement_table(table, self.by_hand),
        }
        their_scores = None
        if (work := self.directions) is not None:
            theirs = work.explain(self.asker, records)
            # What holds is beyond shuffled explanations of features, for both.
            their_scores = with_held(work.judge(self.asker, theirs, records), by=scores)
            table = explanation_table(theirs, their_scores, work.store, explainer)
            tables["direction_explanations"] = direction_table(
                table, self.paired, work.store, self.lives
            )
            tables["direction_scores"] = their_scores.rename(columns={"feature": "direction"})
        tables["explanation_curves"] = curves(scores, seed, their_scores)
        return tables

    def _write(self, tables: dict[str, pd.DataFrame], folder: Path) -> None:
        save_tables(tables, folder / TABLES)
        (folder / SYSTEM_FILE).write_text(json.dumps(SYSTEM, indent=2, ensure_ascii=False))
        (folder / FIGURES).mkdir()
        manifest = self.lives.manifest
        setting = Setting(
            f"{manifest.lm} {manifest.hook}: since when explanations hold",
            manifest.name,
            {name: (start, end) for name, (start, end) in manifest.phases.items()},
            [link.lm_step for link in manifest.links if link.collapsed],
        )
        name = self.asker.model.name
        explanations_figure(
            tables["explanation_curves"], name, setting, folder / FIGURES / "explanations"
        )

    def _facts(self) -> dict[str, Any]:
        meter = self.meter
        return {
            "kind": KIND,
            "identity": self.identity,
            "chain": self.chain_name,
            "analysis_run": self.analysis_run,
            "explainer": self.asker.model.name,
            "requests": meter.requests,
            "tokens_in": meter.tokens_in,
            "tokens_out": meter.tokens_out,
            **({} if meter.money is None else {"money": round(meter.money, 4)}),
        }


def open_explaining(config: ExplainConfig, settings: Settings) -> Explaining:
    """Find the chain, its life store and the model. Sends nothing; an LM of a folder is loaded.

    Raises:
        UserError: the chain was not analysed, a setting of the endpoint is missing or wrong, or
            there is nothing to explain.
    """
    require_extra("analysis")
    registry = Registry.existing(settings)
    name = registry.find_chain(config.chain)
    with registry.reports.of_chain(name) as (analysis_run, folder):
        by_hand = read_sheet(folder / BY_HAND) if (folder / BY_HAND).exists() else None
    lives = LifeStore(registry.reports.lives_folder(name))
    work = ExplanationRun(config, lives)
    meter = Meter(config.budget, config.prices)
    model = _model(config, settings, lives, meter)
    cache = None if model.is_rules else AnswerCache(settings.cache_dir, model.identity)
    asker = Asker(model, lives.vocabulary, cache)
    directions, paired = _directions(config, work, registry.reports.direction_lives_folder(name))
    return Explaining(
        *(config, registry, name, analysis_run, by_hand, lives, work, directions, paired),
        *(asker, meter),
    )


def _directions(
    config: ExplainConfig, work: ExplanationRun, folder: Path | None
) -> tuple[ExplanationRun | None, dict[Target, Target]]:
    """The questions about random directions, and the feature beside each; None if there are none.

    Args:
        config: of the run.
        work: the questions about features.
        folder: the store of directions; None where the analysis kept none.
    """
    if not config.directions:
        return None, {}
    if folder is None:
        log.info("random directions are not explained: the analysis is of an earlier release")
        return None, {}
    store = LifeStore(folder)
    paired = paired_directions(list(work.explaining), work.store, store, config.directions)
    places = len({target.place for target in paired})
    if len(paired) < config.directions * places:
        log.info(
            "directions=%d: at %d place%s there are %d in all, each beside a feature of its own",
            *(config.directions, places, "" if places == 1 else "s", len(paired)),
        )
    found = ExplanationRun(config, store, paired)
    return (found if found.explaining else None), paired


def _model(config: ExplainConfig, settings: Settings, lives: LifeStore, meter: Meter) -> Model:
    """Rules if asked for, an LM of a folder likewise, else the endpoint; rules if none is set."""
    if config.model_folder is not None:
        from saetrack.analysis.explanations.folder_model import FolderModel
        from saetrack.lm.chat import ChatLM
        from saetrack.utils.device import choose_device

        return FolderModel(ChatLM(config.model_folder, choose_device(settings)), meter)
    if settings.explainer_url is None and settings.explainer_model is not None and not config.rules:
        raise UserError(
            "SAETRACK_EXPLAINER_URL: missing beside SAETRACK_EXPLAINER_MODEL; --rules asks nobody"
        )
    if config.rules or settings.explainer_url is None:
        from saetrack.analysis.explanations.rules import Rules

        return Rules(lives.vocabulary)
    if settings.explainer_model is None:
        raise UserError("SAETRACK_EXPLAINER_MODEL: missing beside SAETRACK_EXPLAINER_URL")
    from saetrack.analysis.explanations.endpoint import Endpoint

    return Endpoint(
        settings.explainer_url,
        settings.explainer_model,
        settings.explainer_api_key,
        meter,
        at_once=config.at_once,
        timeout_s=config.timeout_s,
    )
