"""A registered chain in, the paper's tables and figures out: read, found, drawn, published."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.inputs import DecoderLink
from saetrack.analysis.matching import match_features
from saetrack.config import AnalyzeConfig, TrackConfig
from saetrack.errors import UserError
from saetrack.figures.analysis import Drawn, draw
from saetrack.files import digest
from saetrack.findings import (
    find_drift,
    find_formation,
    find_geometry,
    find_meaning,
    find_projection,
    headline,
    spans,
)
from saetrack.lm.ahead import Ahead
from saetrack.lm.residual import ResidualLM
from saetrack.observe import Observer
from saetrack.plan import Chain, Link
from saetrack.prepare import Prepared, prepare
from saetrack.registry import Registry
from saetrack.settings import Settings
from saetrack.study import QUESTIONS_VERSION, Answers, Study

log = logging.getLogger(__name__)

# Raise when findings or figures change: the same chain is then analysed again.
FINDINGS_VERSION = 1

Ask = Callable[[Study, Link], Answers]


@dataclass(frozen=True)
class Subject:
    """A chain as far as it is registered.

    Attributes:
        ready: its track, prepared.
        chain: the chain.
        links: registered and wanted, ascending by LM step.
        versions: of each link, by identity.
    """

    ready: Prepared
    chain: Chain
    links: list[Link]
    versions: dict[str, int]

    def decoders(self) -> list[DecoderLink]:
        """Decoder rows and densities of all links, pulled by version."""
        found = []
        for link in self.links:
            pulled = self.ready.registry.pull(self.chain.name, version=self.versions[link.identity])
            checkpoint = link.checkpoint
            found.append(
                DecoderLink(
                    checkpoint.lm_step,
                    checkpoint.checkpoint_index,
                    pulled.sae.W_dec.detach(),
                    pulled.feature_density,
                )
            )
        return found

    def open(self, link: Link) -> Observer:
        """A link's LM, without the blocks above the hook, and its SAE."""
        device = self.ready.workshop.device
        config = self.chain.config
        with Ahead(self.ready.source, []) as ahead, ahead.checkpoint(link.checkpoint) as folder:
            lm = ResidualLM(
                folder,
                [self.chain.layer],
                convention=config.convention,
                precision=config.lm_precision,
                device=device,
            )
        pulled = self.ready.registry.pull(self.chain.name, version=self.versions[link.identity])
        rows = self.chain.corpus.rows("analysis")
        return Observer(link.checkpoint, lm, pulled.sae.to(device), rows)


def subjects(config: AnalyzeConfig, settings: Settings) -> list[Subject]:
    """The chains that are analysed: the one that is named, or those of a track.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    if config.track is not None:
        ready = prepare(config.track, settings)
        chains = list(ready.track.chains)
    else:
        values, layer = Registry(settings).track_of(str(config.chain))
        ready = prepare(TrackConfig.model_validate({**values, "layers": [layer]}), settings)
        chains = [chain for chain in ready.track.chains if chain.name == config.chain]
    if not chains:
        raise UserError(
            f"chain={config.chain!r}: what it was made from (corpus, LM, code) is not what is here"
        )
    return [_subject(config, ready, chain) for chain in chains]


def _subject(config: AnalyzeConfig, ready: Prepared, chain: Chain) -> Subject:
    versions = ready.registry.versions(chain)
    links = [
        link
        for link in chain.links
        if link.identity in versions
        and (config.versions is None or versions[link.identity] in config.versions)
    ]
    if len(links) < 3:
        raise UserError(
            f"chain={chain.name!r}: {len(links)} of its {len(chain.links)} links are registered "
            "and wanted; an analysis takes 3 or more (make track trains the rest)"
        )
    ascending = sorted(links, key=lambda link: (link.checkpoint.lm_step, link.number))
    return Subject(ready, chain, ascending, versions)


def controls_of(config: AnalyzeConfig, settings: Settings, layer: int) -> dict[str, Subject]:
    """The control chains that are registered; a line for each that is not."""
    found = {}
    for name, control in config.controls.items():
        ready = prepare(control.track, settings)
        chain = next((one for one in ready.track.chains if one.layer == layer), None)
        versions = {} if chain is None else ready.registry.versions(chain)
        if chain is None or not all(link.identity in versions for link in chain.links):
            log.info("control %s is left out: its chain is not registered whole", name)
            continue
        links = sorted(chain.links, key=lambda link: (link.checkpoint.lm_step, link.number))
        found[name] = Subject(ready, chain, links, versions)
    return found


def answered(study: Study, ask: Ask) -> Iterator[Answers]:
    """Every checkpoint's answers, in order."""
    for number, link in enumerate(study.links, start=1):
        yield ask(study, link)
        log.info("step %s: read, %d of %d", link.checkpoint.lm_step, number, len(study.links))


def analyze(
    config: AnalyzeConfig, settings: Settings, subject: Subject, ask: Ask = Study.answers
) -> str:
    """Analyse one chain and log tables, figures and numbers as a run of the LM's experiment.

    The same links under the same questions are analysed once: a second time nothing is done.

    Args:
        config: what is asked.
        settings: where answers are cached.
        subject: the chain.
        ask: gets one checkpoint's answers; an orchestrator wraps it in a task of its own.

    Returns:
        What was done, in a line.
    """
    chain, registry = subject.chain, subject.ready.registry
    controls = controls_of(config, settings, chain.layer)
    identity = digest(
        [
            [FINDINGS_VERSION, QUESTIONS_VERSION],
            config.choices(),
            [link.identity for link in subject.links],
            {name: [link.identity for link in one.links] for name, one in controls.items()},
        ]
    )
    title = f"analyze · {chain.name}"
    if registry.has_report(chain.lm_name, identity):
        return f"{title}: was analysed before, in MLflow's experiment {chain.lm_name}"
    drawn = _find(config, settings, subject, controls, ask)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for table, content in drawn.tables.items():
            content.to_parquet(folder / f"{table}.parquet")
        draw(drawn, folder)
        registry.log_report(
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
    return f"{title}: in MLflow's experiment {chain.lm_name}"


def _find(
    config: AnalyzeConfig,
    settings: Settings,
    subject: Subject,
    controls: dict[str, Subject],
    ask: Ask,
) -> Drawn:
    tokenizer, _ = subject.ready.source.tokenizer()

    def decode(token_ids: list[int]) -> str:
        return str(tokenizer.decode(token_ids))

    tokens = [decode([token]) for token in range(len(tokenizer))]
    study = Study(
        config, subject.links, subject.chain.corpus, tokens, subject.open, settings.cache_dir
    )
    answers = list(answered(study, ask))
    meaning = find_meaning(study, answers, decode, config.seed)
    tables = {
        **meaning.tables,
        **find_formation(answers, meaning),
        **find_geometry(
            answers,
            subject.ready.registry.table(subject.chain),
            study.parameter_displacements(),
        ),
        "regions": study.regions,
        "status": answers[-1].status,
        **find_projection(answers, study.chosen.features, meaning, config.seed),
        "matching": _matched(subject, controls),
    }
    decoders = {name: one.decoders() for name, one in controls.items()}
    of_drift, bands = find_drift(
        {"chain": subject.decoders(), **decoders},
        {name: config.controls[name].role for name in controls},
        meaning,
        config.seed,
    )
    tables |= of_drift
    return Drawn(
        title=f"{subject.chain.lm_name} {subject.chain.hook_name}",
        caption=_caption(subject, answers),
        tables=tables,
        labels=meaning.labels,
        controls=bands,
        phases=spans(tables),
    )


def _matched(subject: Subject, controls: dict[str, Subject]) -> pd.DataFrame:
    """Features of the chain and of each control at the last checkpoint both have (identity)."""
    rows = []
    for name, other in controls.items():
        mine = {link.checkpoint.lm_step: link for link in subject.links}
        theirs = {link.checkpoint.lm_step: link for link in other.links}
        step = max(mine.keys() & theirs.keys(), default=None)
        if step is None:
            continue
        left, right = (
            one.ready.registry.pull(one.chain.name, version=one.versions[link.identity])
            for one, link in ((subject, mine[step]), (other, theirs[step]))
        )
        found = match_features(left.sae, right.sae, left.feature_density, right.feature_density)
        rows.append({"control": name, "lm_step": step, **found.scalars()})
    return pd.DataFrame(rows)


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
