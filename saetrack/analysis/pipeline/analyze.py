"""A registered chain in, the paper's tables and figures out.

Whoever runs an analysis loops over what it yields:

    for analysis in chain_analyses(config, settings):
        for pending in checkpoints_to_read(analysis):
            pending.read()
        finish_analysis(analysis)

`analyze_chains` is that loop, here and now; the flow of the same name wraps each `read` in a task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.contexts.datapoints import Decode
from saetrack.analysis.contexts.examples import CheckpointContexts, context_table
from saetrack.analysis.figures.all_figures import FigureInputs, draw
from saetrack.analysis.figures.analysis_page import FIGURES, TABLES, write_analysis_page
from saetrack.analysis.meaning.labelling import SHEET_FILE, write_sheet
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis, chain_analyses
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.match_chains import find_identity
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.analysis.pipeline.side_by_side import lay_side_by_side, save_tables
from saetrack.analysis.pipeline.study import Study
from saetrack.analysis.pipeline.tables import (
    find_drift,
    find_formation,
    find_geometry,
    find_meaning,
    find_polysemy,
    find_projection,
    headline,
    spans,
)
from saetrack.chain.plan import Link
from saetrack.lm.open import learning_rate
from saetrack.utils.settings import Settings

# Of each feature on the sheet that is labelled by hand (`saetrack sheet`).
SHEET_CONTEXTS = 10


def analyze_chains(config: AnalyzeConfig, settings: Settings) -> list[str]:
    """Analyse every chain that a config names, here and now; several are laid side by side.

    Returns:
        What was done, a line for each chain and one for all.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    analyses = chain_analyses(config, settings)
    lines = []
    for analysis in analyses:
        for pending in checkpoints_to_read(analysis):
            pending.read()
        lines.append(finish_analysis(analysis))
    if len(analyses) > 1:
        lines.append(lay_side_by_side(analyses))
    return lines


@dataclass(frozen=True)
class PendingCheckpoint:
    """A checkpoint that the cache has no result of yet.

    Attributes:
        label: the checkpoint as a person names it.
    """

    label: str
    study: Study
    link: Link

    def read(self) -> None:
        """Read it; what was found is kept in the cache."""
        self.study.answers(self.link)


def checkpoints_to_read(analysis: ChainAnalysis) -> Iterator[PendingCheckpoint]:
    """The checkpoints that an analysis still has to read; read each before asking for the next.

    While one is read, the next one is fetched. Of a finished analysis there are none.
    """
    if analysis.is_finished():
        return
    study = _study(analysis)
    with analysis.registered.ahead:
        for link in study.links:
            yield PendingCheckpoint(f"read · step {link.checkpoint.lm_step}", study, link)


def finish_analysis(analysis: ChainAnalysis) -> str:
    """Make tables, figures and the page of what was read, and log them as a run of the registry.

    Returns:
        What was done, in a line.
    """
    chain, registry = analysis.registered.chain, analysis.registered.ready.registry
    if analysis.is_finished():
        return f"{analysis.title}: was analysed before, in MLflow's experiment {chain.lm_name}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = _find(analysis, folder)
        save_tables(inputs.tables, folder / TABLES)
        (folder / FIGURES).mkdir()
        draw(inputs, folder / FIGURES)
        write_analysis_page(inputs, folder)
        registry.reports.log(
            chain.lm_name,
            analysis.title,
            folder,
            metrics=headline(inputs.tables),
            facts={
                "kind": "analysis",
                "identity": analysis.content_hash,
                "chain": chain.name,
                "layer": chain.layer,
                "versions": [
                    analysis.registered.versions[link.identity]
                    for link in analysis.registered.links
                ],
                "controls": {
                    name: control.chain.name for name, control in analysis.controls.items()
                },
            },
        )
    return f"{analysis.title}: in MLflow's experiment {chain.lm_name}"


def _study(analysis: ChainAnalysis) -> Study:
    registered = analysis.registered
    tokenizer, _ = registered.ready.source.tokenizer()
    tokens = [str(tokenizer.decode([token])) for token in range(len(tokenizer))]
    return Study(
        analysis.config,
        registered.links,
        registered.chain.corpus,
        tokens,
        registered,
        analysis.settings.cache_dir,
    )


def _find(analysis: ChainAnalysis, folder: Path) -> FigureInputs:
    config, registered, controls = analysis.config, analysis.registered, analysis.controls
    tokenizer, _ = registered.ready.source.tokenizer()

    def decode(token_ids: list[int]) -> str:
        return str(tokenizer.decode(token_ids))

    study = _study(analysis)
    answers = [study.answers(link) for link in study.links]
    meaning = find_meaning(study, answers, decode, config.seed)
    of_drift, bands = find_drift(
        {
            "chain": registered.decoders(),
            **{name: one.decoders() for name, one in controls.items()},
        },
        {name: config.controls[name].role for name in controls},
        meaning,
        config.seed,
    )
    tables = {
        **meaning.tables,
        **find_polysemy(answers, meaning),
        **find_formation(answers, meaning),
        **_geometry(registered, study, answers),
        **find_projection(answers, study.chosen.features, meaning, config.seed),
        **of_drift,
        **find_identity(config, registered, controls),
        "labels": answers[-1].labels,
        "regions": answers[-1].regions,
        "status": answers[-1].status,
    }
    _write_sheet(study, answers[-1], decode, config.seed, folder / SHEET_FILE)
    return FigureInputs(
        title=f"{registered.chain.lm_name} {registered.chain.hook_name}",
        caption=_caption(registered, answers),
        tables=tables,
        labels=meaning.labels,
        sampled=list(study.chosen.features),
        controls=bands,
        phases=spans(tables),
    )


def _geometry(
    registered: RegisteredChain, study: Study, answers: list[CheckpointResult]
) -> dict[str, pd.DataFrame]:
    """What the residuals do, beside what the links and the LM's own training did."""
    links = registered.ready.registry.table(registered.chain)
    rate = learning_rate(registered.ready.source.spec)
    return find_geometry(answers, links, study.parameter_displacements(), rate)


def _write_sheet(
    study: Study, final: CheckpointResult, decode: Decode, seed: int, path: Path
) -> None:
    """The sampled features, to be labelled by hand."""
    place = final.link.checkpoint.lm_step, final.link.checkpoint.checkpoint_index
    shown = [CheckpointContexts(*place, final.contexts, final.labels)]
    examples = context_table(
        study.chosen.features, shown, study.token_rows, decode, per_cell=SHEET_CONTEXTS
    )
    write_sheet(examples, path, seed)


def _caption(registered: RegisteredChain, answers: Sequence[CheckpointResult]) -> str:
    status = answers[-1].status["status"].value_counts()
    versions = sorted(registered.versions[link.identity] for link in registered.links)
    left_out = ", ".join(
        f"{status.get(name, 0):,} {name.replace('_', '-')}" for name in ("dead", "ultra_low")
    )
    return (
        f"{registered.chain.name}, versions {versions[0]} to {versions[-1]}; at the end "
        f"{status.get('live', 0):,} live features, left out: {left_out}."
    )
