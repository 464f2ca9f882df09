"""A registered chain in, the paper's tables and figures out: read, found, drawn, published."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.contexts.datapoints import Decode
from saetrack.analysis.contexts.examples import CheckpointContexts, context_table
from saetrack.analysis.figures.all_figures import FigureInputs, draw
from saetrack.analysis.figures.analysis_page import FIGURES, TABLES, write_analysis_page
from saetrack.analysis.meaning.labelling import SHEET_FILE, write_sheet
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.match_chains import find_identity
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, controls_of
from saetrack.analysis.pipeline.study import QUESTIONS_VERSION, Study
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
from saetrack.utils.files import content_hash
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Raise when findings or figures change: the same chain is then analysed again.
FINDINGS_VERSION = 6
# Of each feature on the sheet that is labelled by hand (`saetrack sheet`).
SHEET_CONTEXTS = 10

Ask = Callable[[Study, Link], CheckpointResult]


@dataclass(frozen=True)
class Analysed:
    """A chain whose analysis is in the registry.

    Attributes:
        registered: the chain.
        identity: of the analysis: the hash of what it was made from.
        done: what was done, in a line.
    """

    registered: RegisteredChain
    identity: str
    done: str


def analyze(
    config: AnalyzeConfig, settings: Settings, registered: RegisteredChain, ask: Ask = Study.answers
) -> Analysed:
    """Analyse one chain and log tables, figures and numbers as a run of the LM's experiment.

    The same links under the same questions are analysed once: a second time nothing is done.

    Args:
        config: what is asked.
        settings: where answers are cached.
        registered: the chain.
        ask: gets one checkpoint's answers; an orchestrator wraps it in a task of its own.
    """
    chain, registry = registered.chain, registered.ready.registry
    controls = controls_of(config, settings, chain)
    identity = _identity(config, registered, controls)
    title = f"analyze · {chain.name}"
    if registry.reports.has(chain.lm_name, identity):
        done = f"{title}: was analysed before, in MLflow's experiment {chain.lm_name}"
        return Analysed(registered, identity, done)
    with tempfile.TemporaryDirectory() as name, registered.ahead:
        folder = Path(name)
        inputs = _find(config, settings, registered, controls, ask, folder)
        save_tables(inputs.tables, folder / TABLES)
        (folder / FIGURES).mkdir()
        draw(inputs, folder / FIGURES)
        write_analysis_page(inputs, folder)
        registry.reports.log(
            chain.lm_name,
            title,
            folder,
            metrics=headline(inputs.tables),
            facts={
                "kind": "analysis",
                "identity": identity,
                "chain": chain.name,
                "layer": chain.layer,
                "versions": [registered.versions[link.identity] for link in registered.links],
                "controls": {name: one.chain.name for name, one in controls.items()},
            },
        )
    return Analysed(registered, identity, f"{title}: in MLflow's experiment {chain.lm_name}")


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write tables as parquet files of their names."""
    folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def _identity(
    config: AnalyzeConfig, registered: RegisteredChain, controls: dict[str, RegisteredChain]
) -> str:
    """Hash of what an analysis is made from: questions, links, controls."""
    return content_hash(
        [
            [FINDINGS_VERSION, QUESTIONS_VERSION],
            [config.choices(), config.match_tokens],
            [link.identity for link in registered.links],
            {name: [link.identity for link in one.links] for name, one in controls.items()},
        ]
    )


def answered(study: Study, ask: Ask) -> Iterator[CheckpointResult]:
    """Every checkpoint's answers, in order."""
    for number, link in enumerate(study.links, start=1):
        yield ask(study, link)
        log.info("step %s: read, %d of %d", link.checkpoint.lm_step, number, len(study.links))


def _find(
    config: AnalyzeConfig,
    settings: Settings,
    registered: RegisteredChain,
    controls: dict[str, RegisteredChain],
    ask: Ask,
    folder: Path,
) -> FigureInputs:
    tokenizer, _ = registered.ready.source.tokenizer()

    def decode(token_ids: list[int]) -> str:
        return str(tokenizer.decode(token_ids))

    tokens = [decode([token]) for token in range(len(tokenizer))]
    study = Study(
        config, registered.links, registered.chain.corpus, tokens, registered, settings.cache_dir
    )
    answers = list(answered(study, ask))
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
