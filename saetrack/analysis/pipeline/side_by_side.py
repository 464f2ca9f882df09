"""Several analysed chains on one page: layers of an LM, or LMs (paper, appendix K)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import get_args

import pandas as pd

from saetrack.analysis.comparison.side_by_side import summary_table
from saetrack.analysis.figures.analysis_page import FIGURES, PAGE_FILE, TABLES
from saetrack.analysis.figures.matching import identity_figure
from saetrack.analysis.figures.page import Section, write_page
from saetrack.analysis.figures.side_by_side import Kind, side_by_side_figure
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.match_chains import find_identity
from saetrack.figures.steps import Setting
from saetrack.utils.files import content_hash

# Raise when the page changes: the same chains are then laid side by side again.
PAGE_VERSION = 3


def lay_side_by_side(analyses: list[ChainAnalysis]) -> str:
    """Draw the figures of several analyses as columns of one, and match features between layers.

    Args:
        analyses: all finished, under one config.

    Returns:
        What was done, in a line.
    """
    named = _named(analyses)
    config = analyses[0].config
    identity = content_hash(
        [PAGE_VERSION, {name: analysis.content_hash for name, analysis in named.items()}]
    )
    registered_chains = {name: one.registered for name, one in named.items()}
    first = analyses[0].registered
    reports, lm_name = first.ready.registry.reports, first.chain.lm_name
    title = f"side by side · {', '.join(named)}"
    if reports.has(lm_name, identity):
        return f"{title}: was made before, in MLflow's experiment {lm_name}"
    pages = {}
    for name, one in named.items():
        with reports.files(one.registered.chain.lm_name, one.content_hash) as folder:
            pages[name] = _tables(folder / TABLES)
    matched = [
        find_identity(config, left, {f"{name} and {other}": right})
        for (name, left), (other, right) in combinations(registered_chains.items(), 2)
    ]
    tables = {
        "summary": summary_table(pages),
        "matching": pd.concat([one["matching"] for one in matched], ignore_index=True),
        "pairs": pd.concat([one["pairs"] for one in matched], ignore_index=True),
    }
    setting = Setting(title, "; ".join(one.chain.name for one in registered_chains.values()))
    with tempfile.TemporaryDirectory() as draft:
        _write(pages, tables, setting, Path(draft))
        facts = {
            "kind": "side by side",
            "identity": identity,
            "chains": {one.chain.name: len(one.links) for one in registered_chains.values()},
        }
        reports.log(lm_name, title, Path(draft), metrics={}, facts=facts)
    return f"{title}: in MLflow's experiment {lm_name}"


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write tables as parquet files of their names."""
    folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def _write(
    pages: dict[str, dict[str, pd.DataFrame]],
    tables: dict[str, pd.DataFrame],
    setting: Setting,
    folder: Path,
) -> None:
    """Figures, tables, and a page of both."""
    figures = folder / FIGURES
    figures.mkdir()
    for kind in get_args(Kind):
        side_by_side_figure(pages, kind, setting, figures / kind)
    sections = [
        Section(
            "Side by side",
            "The same questions to several chains (appendix K).",
            [figures / f"{kind}.png" for kind in get_args(Kind)],
            {"numbers of each chain": tables["summary"].set_index("chain").T.reset_index()},
        )
    ]
    if len(tables["pairs"]):
        identity_figure(tables["pairs"], setting, figures / "identity")
        sections.append(
            Section(
                "The same features elsewhere",
                "Matched one to one, by the correlation of their activations between layers.",
                [figures / "identity.png"],
                {"matched features": tables["matching"]},
            )
        )
    save_tables(tables, folder / TABLES)
    write_page(setting.title, setting.caption, sections, folder / PAGE_FILE)


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


def _named(analyses: list[ChainAnalysis]) -> dict[str, ChainAnalysis]:
    """By LM and layer; chains that share these by their own names."""
    chains = [one.registered.chain for one in analyses]
    short = [f"{chain.lm_name} L{chain.layer}" for chain in chains]
    return {
        name if short.count(name) == 1 else one.registered.chain.name: one
        for name, one in zip(short, analyses, strict=True)
    }
