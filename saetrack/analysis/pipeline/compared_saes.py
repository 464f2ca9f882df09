"""The registered SAEs of a comparison, and how each became what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from saetrack import __version__
from saetrack.analysis.comparison.token_ratios import COLUMNS, METRICS
from saetrack.chain.plan import Chain, Link
from saetrack.registry import Registry


@dataclass(frozen=True)
class ComparedSAE:
    """One registered SAE of a comparison.

    Attributes:
        kind: `link` or `conventional`.
        chain: that it is a link of.
        link: of that chain.
        version: in the chain's registered model.
    """

    kind: str
    chain: Chain
    link: Link
    version: int

    @property
    def checkpoint_and_seed(self) -> tuple[int, int]:
        """Index of its checkpoint, and seed: what an SAE of either kind shares with its partner."""
        return self.link.checkpoint.checkpoint_index, self.chain.config.seed


def registered_saes(registry: Registry, chains: list[Chain], kind: str) -> list[ComparedSAE]:
    """The registered links of some chains."""
    saes = []
    for chain in chains:
        versions = registry.versions(chain)
        links = [link for link in chain.links if link.identity in versions]
        saes += [ComparedSAE(kind, chain, link, versions[link.identity]) for link in links]
    return saes


def comparison_facts(
    chain: Chain, identity: str, seeds: list[int], versions: dict[str, list[int]]
) -> dict[str, Any]:
    """What a comparison's run says of itself.

    Args:
        chain: one of those that are compared, all of one hook.
        identity: of the comparison.
        seeds: of the chains.
        versions: that were read, by registered model.
    """
    return {
        "kind": "comparison",
        "identity": identity,
        "lm": chain.lm_name,
        "hook": chain.hook.short,
        "layer": chain.layer,
        "hook_name": chain.hook_name,
        "seeds": seeds,
        "versions": versions,
        "release": __version__,
    }


def curve_of(registry: Registry, sae: ComparedSAE) -> pd.DataFrame:
    """Every held-out evaluation of one (`saetrack.analysis.comparison.token_ratios`)."""
    history = registry.history(sae.chain.name, sae.version)
    return history.reindex(columns=["tokens", "train_s", *METRICS]).assign(
        kind=sae.kind,
        seed=sae.chain.config.seed,
        lm_step=sae.link.checkpoint.lm_step,
        checkpoint_index=sae.link.checkpoint.checkpoint_index,
    )[COLUMNS]
