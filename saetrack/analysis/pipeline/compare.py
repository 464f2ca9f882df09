"""Chains beside conventionally trained SAEs: registered links in, tables and figures out."""

from __future__ import annotations

import logging
import tempfile
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
    Matching,
    Pairing,
    cosine_table,
    match_features,
    match_random,
    matching_table,
)
from saetrack.chain.plan import Chain, Link
from saetrack.registry import PulledLink, Registry
from saetrack.utils.files import content_hash

log = logging.getLogger(__name__)

# Of the random directions that give the chance level of a match.
CONTROL_SEED = 0


@dataclass(frozen=True)
class Entry:
    """One registered SAE of a comparison."""

    kind: str
    chain: Chain
    link: Link
    version: int

    @property
    def place(self) -> tuple[int, int]:
        """Its checkpoint and seed."""
        return self.link.checkpoint.checkpoint_index, self.chain.config.seed


@dataclass(frozen=True)
class Comparison:
    """What is compared: the SAEs of one layer, each by registered version."""

    entries: tuple[Entry, ...]

    @property
    def identity(self) -> str:
        """Hash of the SAEs that are compared."""
        return content_hash(sorted([entry.kind, entry.link.identity] for entry in self.entries))

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions that are read, by registered model."""
        read: dict[str, list[int]] = {}
        for entry in self.entries:
            read.setdefault(entry.chain.name, []).append(entry.version)
        return read


@dataclass(frozen=True)
class Findings:
    """What a comparison found, as tables."""

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


def gather(registry: Registry, chains: list[Chain], conventional: list[Chain]) -> Comparison:
    """The links of chains that stand beside conventional SAEs, and these; all of one layer."""
    entries = [
        Entry("conventional", chain, link, version)
        for chain in conventional
        for link, version in _registered(registry, chain)
    ]
    places = {entry.place for entry in entries}
    for chain in chains:
        for link, version in _registered(registry, chain):
            entry = Entry("link", chain, link, version)
            if entry.place in places:
                entries.append(entry)
    return Comparison(tuple(entries))


def examine(registry: Registry, comparison: Comparison) -> Findings:
    """Pull what is compared, by version, and measure it."""
    curves = pd.concat([_curve(registry, entry) for entry in comparison.entries], ignore_index=True)
    pairs = compare(curves)
    matchings = _match(registry, comparison)
    return Findings(
        curves, pairs, summarise(pairs), matching_table(matchings), cosine_table(matchings)
    )


def _registered(registry: Registry, chain: Chain) -> list[tuple[Link, int]]:
    versions = registry.versions(chain)
    return [(link, versions[link.identity]) for link in chain.links if link.identity in versions]


def _curve(registry: Registry, entry: Entry) -> pd.DataFrame:
    history = registry.history(entry.chain.name, entry.version)
    return history.reindex(columns=["tokens", "train_s", *METRICS]).assign(
        kind=entry.kind,
        seed=entry.chain.config.seed,
        lm_step=entry.link.checkpoint.lm_step,
        checkpoint_index=entry.link.checkpoint.checkpoint_index,
    )[COLUMNS]


def _match(registry: Registry, comparison: Comparison) -> dict[Pairing, Matching]:
    """Link with conventional SAE, conventional SAEs of two seeds, and the chance level."""
    pulled: dict[tuple[str, int, int], PulledLink] = {
        (entry.kind, *entry.place): registry.pull(entry.chain.name, version=entry.version)
        for entry in comparison.entries
    }
    lm_steps = {e.place[0]: e.link.checkpoint.lm_step for e in comparison.entries}
    # A link from scratch is a conventional SAE itself: there is nothing to match it with.
    own_yardsticks = {
        entry.place
        for entry in comparison.entries
        if entry.kind == "link" and entry.link.parent_identity is None
    }
    found: dict[Pairing, Matching] = {}
    for index, lm_step in sorted(lm_steps.items()):
        seeds = sorted(seed for kind, at, seed in pulled if (kind, at) == ("conventional", index))
        for seed in seeds:
            conventional = pulled["conventional", index, seed]
            if (index, seed) not in own_yardsticks:
                link = pulled["link", index, seed]
                pairing = Pairing(lm_step, "link_conventional", str(seed))
                found[pairing] = _match_pulled(link, conventional)
            pairing = Pairing(lm_step, "random_directions", str(seed))
            found[pairing] = match_random(
                conventional.sae, conventional.feature_density, CONTROL_SEED
            )
        for one, other in combinations(seeds, 2):
            pairing = Pairing(lm_step, "conventional_seeds", f"{one}, {other}")
            found[pairing] = _match_pulled(
                pulled["conventional", index, one], pulled["conventional", index, other]
            )
    return found


def _match_pulled(left: PulledLink, right: PulledLink) -> Matching:
    return match_features(left.sae, right.sae, left.feature_density, right.feature_density)


def compare_chains(registry: Registry, chains: list[Chain], conventional: list[Chain]) -> str:
    """Compare, and log figures, tables and numbers as a run of the LM's experiment.

    The same SAEs are compared once: a second time nothing is done.

    Returns:
        What was found, in a line.
    """
    comparison = gather(registry, chains, conventional)
    chain = comparison.entries[0].chain
    seeds = sorted({entry.chain.config.seed for entry in comparison.entries})
    title = f"compare · {chain.lm_name} L{chain.layer} · {len(seeds)} seeds"
    if not registry.reports.has(chain.lm_name, comparison.identity):
        findings = examine(registry, comparison)
        log.info("\n%s\n", comparison_report(findings.summary, title))
        log.info("\n%s\n", matching_report(findings.matching, "matched features"))
        with tempfile.TemporaryDirectory() as folder:
            findings.write(Path(folder), f"{chain.lm_name} {chain.hook_name}")
            registry.reports.log(
                chain.lm_name,
                title,
                Path(folder),
                metrics=findings.metrics(),
                facts={
                    "kind": "comparison",
                    "identity": comparison.identity,
                    "layer": chain.layer,
                    "hook_name": chain.hook_name,
                    "seeds": seeds,
                    "versions": comparison.versions,
                },
            )
    return f"{title}: in MLflow's experiment {chain.lm_name}"
