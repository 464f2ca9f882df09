"""Chains beside conventionally trained SAEs: registered links in, tables and figures out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from itertools import combinations, groupby
from operator import attrgetter
from pathlib import Path

import pandas as pd

from saetrack.analysis.comparison.token_ratios import compare, comparison_metrics, summarise
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
from saetrack.analysis.pipeline.compare_architectures import compare_architectures
from saetrack.analysis.pipeline.compare_crosscoder import compare_crosscoders
from saetrack.analysis.pipeline.compared_saes import (
    ComparedSAE,
    comparison_facts,
    curve_of,
    registered_saes,
)
from saetrack.analysis.pipeline.config import CompareConfig
from saetrack.chain.plan import Chain, Track
from saetrack.registry import Registry
from saetrack.utils.files import content_hash
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Of the random directions that give the chance level of a match.
RANDOM_DIRECTIONS_SEED = 0


def compared_saes(
    registry: Registry, chains: list[Chain], conventional: list[Chain]
) -> list[ComparedSAE]:
    """The links of chains that stand beside conventional SAEs, and these; all of one layer."""
    saes = registered_saes(registry, conventional, "conventional")
    wanted = {sae.checkpoint_and_seed for sae in saes}
    links = registered_saes(registry, chains, "link")
    return [*saes, *(sae for sae in links if sae.checkpoint_and_seed in wanted)]


def comparison_tables(registry: Registry, saes: list[ComparedSAE]) -> dict[str, pd.DataFrame]:
    """Read what is compared, by version, and measure it.

    Returns:
        `curves`, every held-out evaluation of every SAE; `pairs`, each conventional SAE beside its
        link; `summary`, means and spread over seeds; `matching`, one row per two SAEs whose
        features were matched; `cosines`, one row per two matched features.
    """
    curves = pd.concat([curve_of(registry, sae) for sae in saes], ignore_index=True)
    pairs = compare(curves)
    matchings = _match(registry, saes)
    return {
        "curves": curves,
        "pairs": pairs,
        "summary": summarise(pairs),
        "matching": matching_table(matchings),
        "cosines": cosine_table(matchings),
    }


def _match(registry: Registry, saes: list[ComparedSAE]) -> dict[Pairing, Matching]:
    """The SAEs of each checkpoint, whose decoder rows are in memory together."""
    at = attrgetter("link.checkpoint.checkpoint_index")
    found: dict[Pairing, Matching] = {}
    for _, of_checkpoint in groupby(sorted(saes, key=at), at):
        found |= _match_at_checkpoint(registry, list(of_checkpoint))
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


def compare_trained(
    config: CompareConfig, tracks: Sequence[Track], settings: Settings
) -> list[str]:
    """A comparison for each hook, each a run in MLflow; what came of it, in a line each.

    Args:
        config: what is compared.
        tracks: of `CompareConfig.all_tracks`, trained.
        settings: of the registry and the cache.
    """
    if config.architectures is not None:
        return compare_architectures(config, settings)
    if config.crosscoder is not None:
        return compare_crosscoders(config, settings)
    registry, count = Registry(settings), len(config.seeds)
    return [
        compare_chains(registry, chains, beside)
        for chains, beside in by_layer(tracks[:count], tracks[count:])
    ]


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
    saes = compared_saes(registry, chains, conventional)
    chain = saes[0].chain
    seeds = sorted({sae.chain.config.seed for sae in saes})
    title = f"compare · {chain.lm_name} {chain.hook.short} · {len(seeds)} seeds"
    identity = content_hash(sorted([sae.kind, sae.link.identity] for sae in saes))
    if not registry.reports.has(chain.lm_name, identity):
        tables = comparison_tables(registry, saes)
        log.info("\n%s\n", comparison_report(tables["summary"], title))
        log.info("\n%s\n", matching_report(tables["matching"], "matched features"))
        versions: dict[str, list[int]] = {}
        for sae in saes:
            versions.setdefault(sae.chain.name, []).append(sae.version)
        facts = comparison_facts(chain, identity, seeds, versions)
        with tempfile.TemporaryDirectory() as folder:
            _write(tables, Path(folder), f"{chain.lm_name} {chain.hook_name}")
            metrics = _metrics(tables)
            registry.reports.log(chain.lm_name, title, Path(folder), metrics=metrics, facts=facts)
    return f"{title}: {registry.reports.where(chain.lm_name, identity)}"


def _metrics(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Over all checkpoints but the first: what compares links, and the matches."""
    found = {
        name: value
        for name, value in comparison_metrics(tables["summary"]).items()
        if "ratio" in name or name.startswith("gap_")
    }
    for name, rows in tables["matching"].groupby("comparison"):
        for column in ("median_cosine", "share_above_0.7", "share_above_0.9"):
            found[f"{name}.{column}"] = float(rows[column].mean())
    return found


def _write(tables: dict[str, pd.DataFrame], folder: Path, title: str) -> None:
    """Tables as CSV (curves and cosines as parquet), figures as PNG and SVG."""
    for name in ("pairs", "summary", "matching"):
        tables[name].to_csv(folder / f"{name}.csv", index=False)
    for name in ("curves", "cosines"):
        tables[name].to_parquet(folder / f"{name}.parquet")
    curves_figure(tables["curves"], title, folder / "curves")
    speed_figure(tables["pairs"], title, folder / "speed")
    matching_figure(tables["cosines"], tables["matching"], title, folder / "matching")
