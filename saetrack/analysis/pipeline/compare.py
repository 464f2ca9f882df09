"""Chains beside conventionally trained SAEs: registered links in, tables and figures out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from saetrack.analysis.comparison.token_ratios import (
    COLUMNS,
    METRICS,
    compare,
    comparison_metrics,
    summarise,
)
from saetrack.analysis.figures.comparison import curves_figure, matching_figure, speed_figure
from saetrack.analysis.figures.comparison_text import comparison_report, matching_report
from saetrack.analysis.matching.decoder_matching import (
    Pairing,
    cosine_table,
    match_features,
    match_random,
    matching_table,
)
from saetrack.analysis.matching.matching import Matching
from saetrack.chain.plan import Chain, Link, Track
from saetrack.registry import Registry
from saetrack.utils.files import content_hash

log = logging.getLogger(__name__)

# Of the random directions that give the chance level of a match.
RANDOM_DIRECTIONS_SEED = 0


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


@dataclass(frozen=True)
class Comparison:
    """What is compared: the SAEs of one layer, each by registered version."""

    saes: tuple[ComparedSAE, ...]

    @property
    def content_hash(self) -> str:
        """Of the SAEs that are compared."""
        return content_hash(sorted([sae.kind, sae.link.identity] for sae in self.saes))

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions that are read, by registered model."""
        read: dict[str, list[int]] = {}
        for sae in self.saes:
            read.setdefault(sae.chain.name, []).append(sae.version)
        return read


@dataclass(frozen=True)
class ComparisonTables:
    """What a comparison measured.

    Attributes:
        curves: every held-out evaluation of every SAE.
        pairs: each conventional SAE beside its link.
        summary: means and spread over seeds.
        matching: one row per two SAEs whose features were matched.
        cosines: one row per two matched features.
    """

    curves: pd.DataFrame
    pairs: pd.DataFrame
    summary: pd.DataFrame
    matching: pd.DataFrame
    cosines: pd.DataFrame

    def metrics(self) -> dict[str, float]:
        """Over all checkpoints but the first: what compares links, and the matches."""
        found = {
            name: value
            for name, value in comparison_metrics(self.summary).items()
            if "ratio" in name or name.startswith("gap_")
        }
        for name, rows in self.matching.groupby("comparison"):
            for column in ("median_cosine", "share_above_0.7", "share_above_0.9"):
                found[f"{name}.{column}"] = float(rows[column].mean())
        return found

    def write(self, folder: Path, title: str) -> None:
        """Tables as CSV (curves and cosines as parquet), figures as PNG and SVG."""
        self.pairs.to_csv(folder / "pairs.csv", index=False)
        self.summary.to_csv(folder / "summary.csv", index=False)
        self.matching.to_csv(folder / "matching.csv", index=False)
        self.curves.to_parquet(folder / "curves.parquet")
        self.cosines.to_parquet(folder / "cosines.parquet")
        curves_figure(self.curves, title, folder / "curves")
        speed_figure(self.pairs, title, folder / "speed")
        matching_figure(self.cosines, self.matching, title, folder / "matching")


def compared_saes(registry: Registry, chains: list[Chain], conventional: list[Chain]) -> Comparison:
    """The links of chains that stand beside conventional SAEs, and these; all of one layer."""
    saes = [
        ComparedSAE("conventional", chain, link, version)
        for chain in conventional
        for link, version in _registered(registry, chain)
    ]
    wanted = {sae.checkpoint_and_seed for sae in saes}
    for chain in chains:
        for link, version in _registered(registry, chain):
            sae = ComparedSAE("link", chain, link, version)
            if sae.checkpoint_and_seed in wanted:
                saes.append(sae)
    return Comparison(tuple(saes))


def comparison_tables(registry: Registry, comparison: Comparison) -> ComparisonTables:
    """Pull what is compared, by version, and measure it."""
    curves = pd.concat([_curve(registry, sae) for sae in comparison.saes], ignore_index=True)
    pairs = compare(curves)
    matchings = _match(registry, comparison)
    return ComparisonTables(
        curves, pairs, summarise(pairs), matching_table(matchings), cosine_table(matchings)
    )


def _registered(registry: Registry, chain: Chain) -> list[tuple[Link, int]]:
    versions = registry.versions(chain)
    return [(link, versions[link.identity]) for link in chain.links if link.identity in versions]


def _curve(registry: Registry, sae: ComparedSAE) -> pd.DataFrame:
    history = registry.history(sae.chain.name, sae.version)
    return history.reindex(columns=["tokens", "train_s", *METRICS]).assign(
        kind=sae.kind,
        seed=sae.chain.config.seed,
        lm_step=sae.link.checkpoint.lm_step,
        checkpoint_index=sae.link.checkpoint.checkpoint_index,
    )[COLUMNS]


def _match(registry: Registry, comparison: Comparison) -> dict[Pairing, Matching]:
    """The SAEs of each checkpoint, which are in memory together."""
    by_checkpoint: dict[int, list[ComparedSAE]] = {}
    for sae in comparison.saes:
        by_checkpoint.setdefault(sae.link.checkpoint.checkpoint_index, []).append(sae)
    found: dict[Pairing, Matching] = {}
    for _, saes in sorted(by_checkpoint.items()):
        found |= _match_at_checkpoint(registry, saes)
    return found


def _match_at_checkpoint(registry: Registry, saes: list[ComparedSAE]) -> dict[Pairing, Matching]:
    """Link with conventional SAE, conventional SAEs of two seeds, and the chance level."""
    pulled = {
        (sae.kind, sae.chain.config.seed): registry.decoder(sae.chain.name, sae.version)
        for sae in saes
    }
    lm_step = saes[0].link.checkpoint.lm_step
    # A link from scratch is a conventional SAE itself: there is nothing to match it with.
    same_as_conventional = {
        sae.chain.config.seed
        for sae in saes
        if sae.kind == "link" and sae.link.parent_identity is None
    }
    seeds = sorted(seed for kind, seed in pulled if kind == "conventional")
    found: dict[Pairing, Matching] = {}
    for seed in seeds:
        conventional = pulled["conventional", seed]
        if seed not in same_as_conventional:
            pairing = Pairing(lm_step, "link_conventional", str(seed))
            found[pairing] = match_features(pulled["link", seed], conventional)
        pairing = Pairing(lm_step, "random_directions", str(seed))
        found[pairing] = match_random(conventional, RANDOM_DIRECTIONS_SEED)
    for left, right in combinations(seeds, 2):
        pairing = Pairing(lm_step, "conventional_seeds", f"{left}, {right}")
        found[pairing] = match_features(pulled["conventional", left], pulled["conventional", right])
    return found


def by_layer(
    tracks: Sequence[Track], conventional: Sequence[Track]
) -> list[tuple[list[Chain], list[Chain]]]:
    """A comparison for each layer of the tracks, one per seed, and of the SAEs beside them."""
    layers = zip(
        zip(*(track.chains for track in tracks), strict=True),
        zip(*(track.chains for track in conventional), strict=True),
        strict=True,
    )
    return [(list(chains), list(beside)) for chains, beside in layers]


def compare_chains(registry: Registry, chains: list[Chain], conventional: list[Chain]) -> str:
    """Compare, and log figures, tables and numbers as a run of the LM's experiment.

    The same SAEs are compared once: a second time nothing is done.

    Returns:
        What was found, in a line.
    """
    comparison = compared_saes(registry, chains, conventional)
    chain = comparison.saes[0].chain
    seeds = sorted({sae.chain.config.seed for sae in comparison.saes})
    title = f"compare · {chain.lm_name} L{chain.layer} · {len(seeds)} seeds"
    if not registry.reports.has(chain.lm_name, comparison.content_hash):
        tables = comparison_tables(registry, comparison)
        log.info("\n%s\n", comparison_report(tables.summary, title))
        log.info("\n%s\n", matching_report(tables.matching, "matched features"))
        with tempfile.TemporaryDirectory() as folder:
            tables.write(Path(folder), f"{chain.lm_name} {chain.hook_name}")
            registry.reports.log(
                chain.lm_name,
                title,
                Path(folder),
                metrics=tables.metrics(),
                facts={
                    "kind": "comparison",
                    "identity": comparison.content_hash,
                    "layer": chain.layer,
                    "hook_name": chain.hook_name,
                    "seeds": seeds,
                    "versions": comparison.versions,
                },
            )
    return f"{title}: in MLflow's experiment {chain.lm_name}"
