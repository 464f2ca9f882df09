"""The analysis of one registered chain: what it is made from, and the hash of that."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from saetrack import __version__
from saetrack.analysis.pipeline.chain_probes import probe_texts_version, require_probe_texts
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.registered_chain import (
    RegisteredChain,
    controls_of,
    registered_chains,
    replicates_of,
)
from saetrack.chain.plan import Chain
from saetrack.utils.errors import UserError
from saetrack.utils.extras import require_extra
from saetrack.utils.files import content_hash
from saetrack.utils.ports import EXPLORER_PORT
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Raise when results, tables or figures change: the same chain is then analysed again.
TABLES_VERSION = 29
# On its run's page; a chain's name has no character that Markdown or an address reads otherwise.
NOTE = (
    "`saetrack explore {name}` shows each feature of this chain over training. While the explorer "
    f"runs on your machine, it is [here](http://127.0.0.1:{EXPLORER_PORT}/#/{{name}})."
)


@dataclass(frozen=True)
class ChainAnalysis:
    """A registered chain that is analysed, and the controls that stand beside it.

    Attributes:
        config: its parameters.
        settings: where results are cached.
        registered: the chain.
        controls: registered control chains, by name.
    """

    config: AnalyzeConfig
    settings: Settings
    registered: RegisteredChain
    controls: dict[str, RegisteredChain]

    @property
    def title(self) -> str:
        """The name of its run in MLflow."""
        return f"analyze · {self.registered.chain.name}"

    @property
    def content_hash(self) -> str:
        """Of all that the analysis is made from: config, links, controls."""
        return content_hash(
            [
                TABLES_VERSION,
                [self.config.choices(), self.config.match_tokens],
                [self.config.theorem_rows, self.config.theorem_checkpoints],
                probe_texts_version(self.config),
                [link.identity for link in self.registered.links],
                {
                    name: [link.identity for link in control.links]
                    for name, control in self.controls.items()
                },
            ]
        )

    def facts(self) -> dict[str, Any]:
        """What the registry keeps as tags of its run."""
        chain, versions = self.registered.chain, self.registered.versions
        return {
            "kind": "analysis",
            "identity": self.content_hash,
            "chain": chain.name,
            "layer": chain.layer,
            "versions": [versions[link.identity] for link in self.registered.links],
            "controls": {name: control.chain.name for name, control in self.controls.items()},
            "release": f"{__version__}, tables {TABLES_VERSION}",
            "mlflow.note.content": NOTE.format(name=chain.name),
        }

    def announced(self) -> AbstractContextManager[None]:
        """While the block lasts the explorer says that the chain is being analysed."""
        chain = self.registered.chain
        reports = self.registered.ready.registry.reports
        return reports.announced(chain.lm_name, self.title, chain.name)

    def is_finished(self) -> bool:
        """Whether the registry holds it: the same analysis is not made twice."""
        reports = self.registered.ready.registry.reports
        return reports.has(self.registered.chain.lm_name, self.content_hash)


def chain_analyses(config: AnalyzeConfig, settings: Settings) -> list[ChainAnalysis]:
    """One analysis for each chain that a config names. Loads no LM and pulls no link.

    Raises:
        UserError: nothing, or too little, is registered; a control is none of these chains; texts
            of probes are not there; the extra [analysis] is not installed.
    """
    require_extra("analysis")
    require_probe_texts(config)
    found = registered_chains(config, settings)
    config.require_fitting_controls([registered.chain.config for registered in found])
    return [
        ChainAnalysis(config, settings, registered, controls_of(config, settings, registered.chain))
        for registered in found
    ]


def replicate_analyses(
    config: AnalyzeConfig, settings: Settings, chains: Sequence[ChainAnalysis]
) -> list[ChainAnalysis]:
    """One analysis for each replicate that a config names, beside controls of its own.

    Args:
        config: of all.
        settings: of the registry and the cache.
        chains: the analyses of `chain_analyses`.

    Raises:
        UserError: nothing, or too little, is registered of one; one is named twice, or its LM is a
            copy of another's.
    """
    found, base = [], chains[0].registered.chain.config
    for registered in replicates_of(config, settings):
        chain = registered.chain
        fitting = config.controls_over(base, chain.config)
        for name in config.controls.keys() - fitting.keys():
            log.info(
                "control %s of %s is left out: it has a schedule of its own, and the replicate too",
                name,
                chain.name,
            )
        alike = config.model_copy(update={"controls": fitting})
        found.append(
            ChainAnalysis(alike, settings, registered, controls_of(alike, settings, chain))
        )
    if found:
        require_different([one.registered.chain for one in (*chains, *found)])
    return found


def require_different(chains: Sequence[Chain]) -> None:
    """Refuse replicates that are none.

    Raises:
        UserError: a chain is named twice, or two LMs have the same weights.
    """
    names = [chain.name for chain in chains]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"replicates: {twice[0]} is named twice; a chain is no replicate of itself")
    of_weights: dict[str, str] = {}
    for chain in chains:
        last = max((link.checkpoint for link in chain.links), key=lambda one: one.lm_step)
        other = of_weights.setdefault(last.commit, chain.lm_name)
        if other != chain.lm_name:
            raise UserError(
                f"replicates: {other} and {chain.lm_name} have the same weights at LM step "
                f"{last.lm_step}; a copy of an LM is no other LM"
            )
