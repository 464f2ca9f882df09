"""A registered chain in, the paper's tables and figures out.

Whoever runs an analysis loops over what it yields:

    for analysis in chain_analyses(config, settings):
        for pending in checkpoints_to_read(analysis):
            pending.read()
        finish_analysis(analysis)

`analyze_chains` is that loop, here and now; the flow of the same name wraps each `read` in a task.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.contexts.examples import context_table
from saetrack.analysis.drift.controls import ControlDrift, Role
from saetrack.analysis.drift.measure import Drift
from saetrack.analysis.drift.residual_turns import ResidualTurns
from saetrack.analysis.figures.all_figures import FigureInputs, draw
from saetrack.analysis.figures.analysis_page import FIGURES, PAGE_FILE, TABLES, write_analysis_page
from saetrack.analysis.meaning.labelling import SHEET_FILE, write_sheet
from saetrack.analysis.pipeline.analysis_metrics import analysis_metrics
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.chain_analysis import (
    ChainAnalysis,
    chain_analyses,
    replicate_analyses,
)
from saetrack.analysis.pipeline.chain_reader import ChainReader
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.context_rule_tables import context_rule_tables
from saetrack.analysis.pipeline.control_ends import ControlEnds, control_ends
from saetrack.analysis.pipeline.drift_tables import (
    chain_drift,
    drift_tables,
    formation_links,
    turns_of,
)
from saetrack.analysis.pipeline.effect_tables import (
    effect_tables,
    measured_effects,
    moment_tables,
)
from saetrack.analysis.pipeline.formation_tables import (
    concept_phases,
    formation_tables,
    projection_tables,
)
from saetrack.analysis.pipeline.geometry_tables import geometry_tables
from saetrack.analysis.pipeline.lives import Found, write_lives
from saetrack.analysis.pipeline.logit_tables import chain_logits, logit_tables
from saetrack.analysis.pipeline.meaning_tables import (
    Meaning,
    checkpoint_contexts,
    meaning_tables,
    polysemy_tables,
)
from saetrack.analysis.pipeline.pattern_tables import pattern_tables
from saetrack.analysis.pipeline.probe_tables import probe_tables
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.analysis.pipeline.replicates import headline_of
from saetrack.analysis.pipeline.several_chains import are_whole, lines_of_several
from saetrack.analysis.pipeline.table_files import joined_matchings, save_tables
from saetrack.chain.plan import Link
from saetrack.registry.lives import DIRECTION_LIVES, LIVES
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Of each feature on the sheet that is labelled by hand (`saetrack sheet`).
SHEET_CONTEXTS = 10


@dataclass(frozen=True)
class Analyses:
    """All analyses that a config asks for, ready to begin.

    Attributes:
        chains: of each chain that it names; several are laid side by side.
        replicates: of these headline numbers are averaged with those of the chains.
    """

    chains: list[ChainAnalysis]
    replicates: list[ChainAnalysis]

    def run(self) -> list[str]:
        """Read, and register, what the registry lacks, here and now.

        Returns:
            What was done, a line for each chain and one for all.
        """
        lines = []
        for analysis in [*self.chains, *self.replicates]:
            for pending in checkpoints_to_read(analysis):
                pending.read()
            lines.append(finish_analysis(analysis))
        return lines + lines_of_several(self.chains, self.replicates)

    def runs(self) -> list[dict[str, str]]:
        """`chain` and `run` of each in MLflow, once they are finished."""
        return [_run_of(analysis) for analysis in [*self.chains, *self.replicates]]

    def is_finished(self) -> bool:
        """Whether the registry holds all of them: nothing is left to do."""
        return are_whole(self.chains, self.replicates)


def open_analyses(config: AnalyzeConfig, settings: Settings) -> Analyses:
    """Find the chains that a config names. Reads no checkpoint.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    chains = chain_analyses(config, settings)
    return Analyses(chains, replicate_analyses(config, settings, chains))


def analyze_chains(config: AnalyzeConfig, settings: Settings) -> list[str]:
    """Analyse every chain that a config names, here and now.

    Several are laid side by side; of replicates, headline numbers are averaged.

    Returns:
        What was done, a line for each chain and one for all.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    return open_analyses(config, settings).run()


@dataclass(frozen=True)
class PendingCheckpoint:
    """A checkpoint of which the cache lacks something.

    Attributes:
        label: the checkpoint as a person names it.
        link: over it.
        reader: of its chain.
    """

    label: str
    link: Link
    reader: ChainReader

    def read(self) -> None:
        """Read it; what was found is kept in the cache.

        Raises:
            UserError: no feature is live at the final checkpoint.
        """
        self.reader.read(self.link)


def checkpoints_to_read(analysis: ChainAnalysis) -> Iterator[PendingCheckpoint | ControlEnds]:
    """The checkpoints that an analysis still has to read; read each before asking for the next.

    While one is read, the next one is fetched. Of a finished analysis there are none. The first one
    takes longest: before it, the datapoints that are followed are chosen. At the end come the two
    ends of each control.
    """
    if analysis.is_finished():
        return
    reader = ChainReader(analysis)
    n_links = len(reader.links)
    with analysis.registered.ahead, analysis.announced():
        try:
            for number, link in enumerate(reader.links, start=1):
                if reader.lacks(link):
                    lm_step = link.checkpoint.lm_step
                    label = f"read · {analysis.registered.chain.hook_name} · step {lm_step}"
                    yield PendingCheckpoint(label, link, reader)
                    log.info("step %s: read, %d of %d", lm_step, number, n_links)
        finally:
            reader.loaded.drop()
        controls = control_ends(analysis)
        for number, ends in enumerate(controls, start=1):
            if ends.is_missing:
                yield ends
                log.info("control %s: both ends read, %d of %d", ends.name, number, len(controls))


def read_pending(pending: PendingCheckpoint | ControlEnds) -> None:
    """Read what `checkpoints_to_read` yields: a checkpoint, or the ends of a control."""
    pending.read()


def finish_analysis(analysis: ChainAnalysis) -> str:
    """Make tables, figures and the page of what was read, and log them as a run of the registry.

    All checkpoints must have been read (`checkpoints_to_read`). A finished analysis is not made
    again.

    Returns:
        What was done, in a line.
    """
    if analysis.is_finished():
        return f"{analysis.title}: was analysed before, {_where(analysis)}"
    registered = analysis.registered
    chain, reports = registered.chain, registered.ready.registry.reports
    with tempfile.TemporaryDirectory() as name, analysis.announced():
        folder = Path(name)
        inputs = _tables(analysis, folder)
        save_tables(inputs.tables, folder / TABLES)
        (folder / FIGURES).mkdir()
        draw(inputs, folder / FIGURES)
        write_analysis_page(inputs, folder)
        log.info("files go to the registry")
        reports.log(
            chain.lm_name,
            analysis.title,
            folder,
            metrics=analysis_metrics(inputs.tables),
            facts=analysis.facts(),
        )
    return f"{analysis.title}: {_where(analysis)}"


def _run_of(analysis: ChainAnalysis) -> dict[str, str]:
    """`chain` and `run` of a finished analysis in MLflow."""
    chain, reports = analysis.registered.chain, analysis.registered.ready.registry.reports
    run = reports.run_of(chain.lm_name, analysis.content_hash).run_id
    return {"chain": chain.name, "run": run}


def _where(analysis: ChainAnalysis) -> str:
    """Where a finished analysis is looked at."""
    chain, reports = analysis.registered.chain, analysis.registered.ready.registry.reports
    where = reports.where(chain.lm_name, analysis.content_hash, PAGE_FILE)
    return f"{where}; look at it: saetrack explore {chain.name}"


def _tables(analysis: ChainAnalysis, folder: Path) -> FigureInputs:
    """All tables; the sheet to be labelled by hand, and lives, are written into the folder."""
    registered, seed = analysis.registered, analysis.config.seed
    reader = ChainReader(analysis)
    text, sampled = reader.text, reader.chosen.sampled
    log.info("tables: what features mean, and how far they travel")
    results = [reader.result(link) for link in reader.links]
    final = results[-1]
    meaning = meaning_tables(results, text, sampled, seed)
    drift, of_drift, bands = _drift(analysis, meaning, turns_of(results, sampled))
    log.info("tables: what features promote and do")
    logits, effects = chain_logits(results, seed), measured_effects(results)
    formed = formation_links(meaning, drift)
    tables = {
        **_tables_of_links(analysis, reader, results, meaning),
        **logit_tables(logits, results, meaning.labels, sampled, text),
        **effect_tables(effects, results, meaning.labels, seed),
        **moment_tables(results, formed, drift, bands, seed),
        **of_drift,
        **joined_matchings([matching.tables() for matching in reader.matchings]),
    }
    sheet = context_table(
        sampled, [checkpoint_contexts(final)], text.token_rows, text.decode, SHEET_CONTEXTS
    )
    write_sheet(sheet, folder / SHEET_FILE, seed)
    log.info("tables: patterns beside those of controls")
    tables |= pattern_tables(analysis, tables, control_ends(analysis), reader.matchings)
    tables["headline"] = headline_of(analysis, tables)
    phases = concept_phases(tables)
    log.info("lives of features, for the explorer; a map of their directions, by UMAP")
    found = Found(registered, reader, results, drift, bands, logits, effects, tables, phases)
    write_lives(found, folder / LIVES, folder / DIRECTION_LIVES)
    return FigureInputs(
        chain=registered.chain.name,
        title=f"{registered.chain.lm_name} {registered.chain.hook_name}",
        caption=_caption(registered, final, text),
        tables=tables,
        labels=meaning.labels,
        sampled=list(sampled),
        controls=bands,
        phases=phases,
        replaced_before=drift.own_index.holds_from,
    )


def _tables_of_links(
    analysis: ChainAnalysis,
    reader: ChainReader,
    results: Sequence[CheckpointResult],
    meaning: Meaning,
) -> dict[str, pd.DataFrame]:
    """What is found link by link, of the chain alone."""
    seed, sampled, final = reader.config.seed, reader.chosen.sampled, results[-1]
    log.info("tables: senses of tokens, how features form, geometry, probes")
    tables = {
        **meaning.tables,
        **polysemy_tables(results, meaning),
        **formation_tables(results, meaning),
        **context_rule_tables(results, reader.chosen, reader.text, seed),
        **geometry_tables(analysis.registered, results),
        **reader.theorem.tables(results),
        **probe_tables(results, reader.probes.about),
    }
    log.info("tables: planes of contexts, by UMAP, which is compiled first")
    return {
        **tables,
        **projection_tables(results, sampled, meaning, seed),
        "labels": final.labels,
        "regions": final.regions,
        "status": final.status,
    }


def _drift(
    analysis: ChainAnalysis, meaning: Meaning, turns: ResidualTurns
) -> tuple[Drift, dict[str, pd.DataFrame], list[ControlDrift]]:
    """How far directions travel: of the chain, as tables, and of its controls."""
    controls: dict[str, tuple[Role, Drift]] = {}
    for name, control in analysis.controls.items():
        if (role := analysis.config.controls[name].role) != "order":
            controls[name] = role, chain_drift(control)
    drift = chain_drift(analysis.registered)
    of_drift = drift_tables(
        analysis.registered, drift, controls, meaning, turns, analysis.config.seed
    )
    return drift, *of_drift


def _caption(registered: RegisteredChain, final: CheckpointResult, text: AnalysisText) -> str:
    status = final.status["status"].value_counts()
    versions = sorted(registered.versions[link.identity] for link in registered.links)
    left_out = ", ".join(
        f"{status.get(name, 0):,} {name.replace('_', '-')}" for name in ("dead", "ultra_low")
    )
    standing = registered.standing
    still = (
        f" Its LM stands still at step {standing.lm_step:,}: steps are links." if standing else ""
    )
    return (
        f"{registered.chain.name}, versions {versions[0]} to {versions[-1]}; at the end "
        f"{status.get('live', 0):,} live features, left out: {left_out}."
        f"{text.left_out_line()}{still} Each feature over training, with its contexts: "
        f"saetrack explore {registered.chain.name}"
    )
