"""A registered chain in, the paper's tables and figures out: read, found, drawn, published."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.datapoints import Decode
from saetrack.analysis.examples import CheckpointContexts, context_table
from saetrack.analysis.labelling import SHEET_FILE, write_sheet
from saetrack.answers import Answers
from saetrack.config import AnalyzeConfig
from saetrack.figures.analysis import Drawn, draw
from saetrack.figures.analysis_page import FIGURES, TABLES, write_analysis_page
from saetrack.files import digest
from saetrack.findings import (
    find_drift,
    find_formation,
    find_geometry,
    find_meaning,
    find_polysemy,
    find_projection,
    headline,
    spans,
)
from saetrack.identity import find_identity
from saetrack.lm.checkpoints import learning_rate
from saetrack.plan import Link
from saetrack.settings import Settings
from saetrack.study import QUESTIONS_VERSION, Study
from saetrack.subject import Subject, controls_of

log = logging.getLogger(__name__)

# Raise when findings or figures change: the same chain is then analysed again.
FINDINGS_VERSION = 6
# Of each feature on the sheet that is labelled by hand (`saetrack sheet`).
SHEET_CONTEXTS = 10

Ask = Callable[[Study, Link], Answers]


@dataclass(frozen=True)
class Analysed:
    """A chain whose analysis is in the registry.

    Attributes:
        subject: the chain.
        identity: of the analysis: the hash of what it was made from.
        done: what was done, in a line.
    """

    subject: Subject
    identity: str
    done: str


def analyze(
    config: AnalyzeConfig, settings: Settings, subject: Subject, ask: Ask = Study.answers
) -> Analysed:
    """Analyse one chain and log tables, figures and numbers as a run of the LM's experiment.

    The same links under the same questions are analysed once: a second time nothing is done.

    Args:
        config: what is asked.
        settings: where answers are cached.
        subject: the chain.
        ask: gets one checkpoint's answers; an orchestrator wraps it in a task of its own.
    """
    chain, registry = subject.chain, subject.ready.registry
    controls = controls_of(config, settings, chain)
    identity = _identity(config, subject, controls)
    title = f"analyze · {chain.name}"
    if registry.reports.has(chain.lm_name, identity):
        done = f"{title}: was analysed before, in MLflow's experiment {chain.lm_name}"
        return Analysed(subject, identity, done)
    with tempfile.TemporaryDirectory() as name, subject.ahead:
        folder = Path(name)
        drawn = _find(config, settings, subject, controls, ask, folder)
        save_tables(drawn.tables, folder / TABLES)
        (folder / FIGURES).mkdir()
        draw(drawn, folder / FIGURES)
        write_analysis_page(drawn, folder)
        registry.reports.log(
            chain.lm_name,
            title,
            folder,
            metrics=headline(drawn.tables),
            facts={
                "kind": "analysis",
                "identity": identity,
                "chain": chain.name,
                "layer": chain.layer,
                "versions": [subject.versions[link.identity] for link in subject.links],
                "controls": {name: one.chain.name for name, one in controls.items()},
            },
        )
    return Analysed(subject, identity, f"{title}: in MLflow's experiment {chain.lm_name}")


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write tables as parquet files of their names."""
    folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def _identity(config: AnalyzeConfig, subject: Subject, controls: dict[str, Subject]) -> str:
    """Hash of what an analysis is made from: questions, links, controls."""
    return digest(
        [
            [FINDINGS_VERSION, QUESTIONS_VERSION],
            [config.choices(), config.match_tokens],
            [link.identity for link in subject.links],
            {name: [link.identity for link in one.links] for name, one in controls.items()},
        ]
    )


def answered(study: Study, ask: Ask) -> Iterator[Answers]:
    """Every checkpoint's answers, in order."""
    for number, link in enumerate(study.links, start=1):
        yield ask(study, link)
        log.info("step %s: read, %d of %d", link.checkpoint.lm_step, number, len(study.links))


def _find(
    config: AnalyzeConfig,
    settings: Settings,
    subject: Subject,
    controls: dict[str, Subject],
    ask: Ask,
    folder: Path,
) -> Drawn:
    tokenizer, _ = subject.ready.source.tokenizer()

    def decode(token_ids: list[int]) -> str:
        return str(tokenizer.decode(token_ids))

    tokens = [decode([token]) for token in range(len(tokenizer))]
    study = Study(config, subject.links, subject.chain.corpus, tokens, subject, settings.cache_dir)
    answers = list(answered(study, ask))
    meaning = find_meaning(study, answers, decode, config.seed)
    of_drift, bands = find_drift(
        {"chain": subject.decoders(), **{name: one.decoders() for name, one in controls.items()}},
        {name: config.controls[name].role for name in controls},
        meaning,
        config.seed,
    )
    tables = {
        **meaning.tables,
        **find_polysemy(answers, meaning),
        **find_formation(answers, meaning),
        **_geometry(subject, study, answers),
        **find_projection(answers, study.chosen.features, meaning, config.seed),
        **of_drift,
        **find_identity(config, subject, controls),
        "labels": answers[-1].labels,
        "regions": answers[-1].regions,
        "status": answers[-1].status,
    }
    _write_sheet(study, answers[-1], decode, config.seed, folder / SHEET_FILE)
    return Drawn(
        title=f"{subject.chain.lm_name} {subject.chain.hook_name}",
        caption=_caption(subject, answers),
        tables=tables,
        labels=meaning.labels,
        sampled=list(study.chosen.features),
        controls=bands,
        phases=spans(tables),
    )


def _geometry(subject: Subject, study: Study, answers: list[Answers]) -> dict[str, pd.DataFrame]:
    """What the residuals do, beside what the links and the LM's own training did."""
    links = subject.ready.registry.table(subject.chain)
    rate = learning_rate(subject.ready.source.spec)
    return find_geometry(answers, links, study.parameter_displacements(), rate)


def _write_sheet(study: Study, final: Answers, decode: Decode, seed: int, path: Path) -> None:
    """The sampled features, to be labelled by hand."""
    place = final.link.checkpoint.lm_step, final.link.checkpoint.checkpoint_index
    shown = [CheckpointContexts(*place, final.contexts, final.labels)]
    examples = context_table(
        study.chosen.features, shown, study.token_rows, decode, per_cell=SHEET_CONTEXTS
    )
    write_sheet(examples, path, seed)


def _caption(subject: Subject, answers: Sequence[Answers]) -> str:
    status = answers[-1].status["status"].value_counts()
    versions = sorted(subject.versions[link.identity] for link in subject.links)
    left_out = ", ".join(
        f"{status.get(name, 0):,} {name.replace('_', '-')}" for name in ("dead", "ultra_low")
    )
    return (
        f"{subject.chain.name}, versions {versions[0]} to {versions[-1]}; at the end "
        f"{status.get('live', 0):,} live features, left out: {left_out}."
    )
