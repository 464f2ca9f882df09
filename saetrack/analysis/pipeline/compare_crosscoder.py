"""A chain beside a crosscoder over some of its checkpoints: registered weights in, tables out."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pandas as pd

from saetrack.analysis.comparison.crosscoder import QUALITY
from saetrack.analysis.figures.analysis_page import PAGE_FILE, TABLES
from saetrack.analysis.figures.crosscoder import (
    crosscoder_figure,
    crosscoder_page,
    crosscoder_report,
)
from saetrack.analysis.pipeline.compared_saes import comparison_facts
from saetrack.analysis.pipeline.config import CompareConfig
from saetrack.analysis.pipeline.crosscoder_tables import Rival, crosscoder_tables, rival_metrics
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, chains_of
from saetrack.chain.crosscoder import CrosscoderPlan, plan_crosscoder
from saetrack.sae.crosscoder import load_crosscoder
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Raise when tables or figures change.
PAGE_VERSION = 1


def compare_crosscoders(config: CompareConfig, settings: Settings) -> list[str]:
    """Compare, and log figures, tables and numbers as a run of the LM's experiment, one per hook.

    The same is compared once; once the chain is analysed, anew.

    Args:
        config: with `crosscoder`, whose tracks and crosscoders are registered.
        settings: of the registry and the cache.

    Returns:
        What was found, in a line for each hook.
    """
    chains = chains_of(config.track, settings)
    beside = [chains_of(track, settings) for track in config.beside_crosscoders()]
    return [
        _compare(config, chain, list(of_hook))
        for chain, *of_hook in zip(chains, *beside, strict=True)
    ]


def _compare(config: CompareConfig, whole: RegisteredChain, beside: list[RegisteredChain]) -> str:
    assert config.crosscoder is not None
    chain, registry = whole.chain, whole.ready.registry
    lm_identity = whole.ready.source.lm_identity
    planned = [plan_crosscoder(one.chain, config.crosscoder, lm_identity) for one in beside]
    moments, run_id = _moments(whole)
    title = f"compare crosscoder · {chain.lm_name} {chain.hook.short} · {len(planned)} seeds"
    links = [[link.identity for link in one.links] for one in (whole, *beside)]
    rivals = [one.identity for one in planned]
    identity = content_hash([PAGE_VERSION, links, rivals, run_id])
    if not registry.reports.has(chain.lm_name, identity):
        tables = crosscoder_tables(whole, beside, [_read(whole, one) for one in planned], moments)
        log.info("\n%s\n", crosscoder_report(tables["summary"], title))
        versions = {one.chain.name: list(one.versions.values()) for one in (whole, *beside)}
        facts = comparison_facts(chain, identity, list(config.seeds), versions)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for table, rows in tables.items():
                rows.to_csv(folder / f"{table}.csv", index=False)
            setting = f"{chain.lm_name} {chain.hook_name}"
            crosscoder_figure(tables, setting, folder / "crosscoder")
            crosscoder_page(tables, title, folder / "crosscoder.png", folder / PAGE_FILE)
            metrics = rival_metrics(tables)
            registry.reports.log(chain.lm_name, title, folder, metrics=metrics, facts=facts)
    return f"{title}: {registry.reports.where(chain.lm_name, identity, PAGE_FILE)}"


def _moments(whole: RegisteredChain) -> tuple[pd.DataFrame | None, str | None]:
    """When the chain's features form and cause something, and the analysis that says so."""
    name = whole.chain.name
    try:
        with whole.ready.registry.reports.of_chain(name) as (run_id, folder):
            moments = pd.read_parquet(folder / TABLES / "moments.parquet")
    except (UserError, OSError):
        log.warning(
            "%s has no analysis with moments: emergence is compared with nothing; run `saetrack "
            "analyze` on it, and then this again",
            name,
        )
        return None, None
    return moments[moments["of"] == "features"], run_id


def _read(whole: RegisteredChain, planned: CrosscoderPlan) -> Rival:
    reports, lm_name = whole.ready.registry.reports, planned.chain.lm_name
    with reports.files(lm_name, planned.identity) as folder:
        try:
            crosscoder, density, cfg = load_crosscoder(folder)
            history = pd.DataFrame(cfg["history"]).reindex(
                columns=["tokens", "train_s", "lm_step", *QUALITY]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{planned.title}: {str(error).splitlines()[0]}") from None
    return Rival(planned, crosscoder, density, history)
