"""Several analysed chains on one page: layers of an LM, or LMs (paper, appendix K)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import get_args

import pandas as pd

from saetrack.analysis.comparison.side_by_side import summary_table
from saetrack.analysis.figures.analysis_page import FIGURES, PAGE_FILE, TABLES
from saetrack.analysis.figures.matching import matched_features_figure
from saetrack.analysis.figures.page import Section, write_page
from saetrack.analysis.figures.side_by_side import Kind, side_by_side_figure
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.match_chains import match_chains
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.analysis.pipeline.table_files import joined_matchings, load_tables, save_tables
from saetrack.utils.figures.steps import Setting
from saetrack.utils.files import content_hash

# Raise when the page changes: the same chains are then laid side by side again.
PAGE_VERSION = 5


def lay_side_by_side(analyses: list[ChainAnalysis]) -> str:
    """Draw the figures of several analyses as columns of one, and match features between layers.

    Returns:
        What was done, in a line.
    """
    named = _named(analyses)
    identity = _identity(named)
    chains = {name: analysis.registered for name, analysis in named.items()}
    first = analyses[0].registered
    reports, lm_name = first.ready.registry.reports, first.chain.lm_name
    title = f"side by side · {', '.join(named)}"
    if reports.has(lm_name, identity):
        return f"{title}: was made before, {reports.where(lm_name, identity, PAGE_FILE)}"
    of_chains = {}
    for name, analysis in named.items():
        with reports.files(chains[name].chain.lm_name, analysis.content_hash) as folder:
            of_chains[name] = load_tables(folder / TABLES)
    tables = {
        "summary": summary_table(of_chains),
        **joined_matchings(_matchings(chains, analyses[0].config)),
    }
    setting = Setting(title, "; ".join(registered.chain.name for registered in chains.values()))
    with tempfile.TemporaryDirectory() as draft:
        _write(of_chains, tables, setting, Path(draft))
        facts = {
            "kind": "side by side",
            "identity": identity,
            "chains": {
                registered.chain.name: len(registered.links) for registered in chains.values()
            },
        }
        reports.log(lm_name, title, Path(draft), metrics={}, facts=facts)
    return f"{title}: {reports.where(lm_name, identity, PAGE_FILE)}"


def is_side_by_side(analyses: list[ChainAnalysis]) -> bool:
    """Whether the registry holds the page of several analyses."""
    first = analyses[0].registered
    return first.ready.registry.reports.has(first.chain.lm_name, _identity(_named(analyses)))


def _identity(named: dict[str, ChainAnalysis]) -> str:
    """The hash of what the page is made from."""
    of_chains = {name: analysis.content_hash for name, analysis in named.items()}
    return content_hash([PAGE_VERSION, of_chains])


def _matchings(
    chains: dict[str, RegisteredChain], config: AnalyzeConfig
) -> Iterator[dict[str, pd.DataFrame]]:
    """Every two chains that share a checkpoint."""
    for (left_name, left), (right_name, right) in combinations(chains.items(), 2):
        found = match_chains(left, right, config)
        if found is not None:
            both = f"{left_name} and {right_name}"
            pairs, matching = found
            yield {"pairs": pairs.assign(other=both), "matching": matching.assign(other=both)}


def _write(
    of_chains: dict[str, dict[str, pd.DataFrame]],
    tables: dict[str, pd.DataFrame],
    setting: Setting,
    folder: Path,
) -> None:
    """Figures, tables, and a page of both."""
    figures = folder / FIGURES
    figures.mkdir()
    for kind in get_args(Kind):
        side_by_side_figure(of_chains, kind, setting, figures / kind)
    sections = [
        Section(
            "Side by side",
            "The same questions to several chains (appendix K).",
            [figures / f"{kind}.png" for kind in get_args(Kind)],
            {"numbers of each chain": tables["summary"].set_index("chain").T.reset_index()},
        )
    ]
    if len(tables["pairs"]):
        matched_features_figure(tables["pairs"], setting, figures / "matched_features")
        sections.append(
            Section(
                "The same features elsewhere",
                "Matched one to one, by the correlation of their activations between layers.",
                [figures / "matched_features.png"],
                {"matched features": tables["matching"]},
            )
        )
    save_tables(tables, folder / TABLES)
    write_page(setting.title, setting.caption, sections, folder / PAGE_FILE)


def _named(analyses: list[ChainAnalysis]) -> dict[str, ChainAnalysis]:
    """By LM and layer; chains that share these by their own names."""
    chains = [analysis.registered.chain for analysis in analyses]
    short = [f"{chain.lm_name} {chain.hook.short}" for chain in chains]
    return {
        name if short.count(name) == 1 else chain.name: analysis
        for name, chain, analysis in zip(short, chains, analyses, strict=True)
    }
