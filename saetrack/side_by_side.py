"""Several analysed chains on one page: layers of an LM, or LMs (paper, appendix K)."""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path
from typing import get_args

import pandas as pd

from saetrack.analysis.side_by_side import summary_table
from saetrack.analyze import analysis_identity, find_identity, save_tables
from saetrack.config import AnalyzeConfig
from saetrack.figures.analysis_page import FIGURES, PAGE_FILE, TABLES
from saetrack.figures.identity import identity_figure
from saetrack.figures.page import Section, write_page
from saetrack.figures.side_by_side import Kind, side_by_side_figure
from saetrack.figures.steps import Setting
from saetrack.files import digest
from saetrack.settings import Settings
from saetrack.subject import Subject, controls_of

# Raise when the page changes: the same chains are then laid side by side again.
PAGE_VERSION = 3


def lay_side_by_side(config: AnalyzeConfig, settings: Settings, subjects: list[Subject]) -> str:
    """Draw the figures of several analyses as columns of one, and match features between layers.

    Args:
        config: under which all of them were analysed.
        settings: of the controls.
        subjects: the chains.

    Returns:
        What was done, in a line.
    """
    named = _named(subjects)
    identities = {
        name: analysis_identity(config, one, controls_of(config, settings, one.chain))
        for name, one in named.items()
    }
    identity = digest([PAGE_VERSION, identities])
    reports, lm_name = subjects[0].ready.registry.reports, subjects[0].chain.lm_name
    title = f"side by side · {', '.join(named)}"
    if reports.has(lm_name, identity):
        return f"{title}: was made before, in MLflow's experiment {lm_name}"
    pages = {}
    for name, one in named.items():
        with reports.files(one.chain.lm_name, identities[name]) as folder:
            pages[name] = _tables(folder / TABLES)
    matched = [
        find_identity(config, left, {f"{name} and {other}": right})
        for (name, left), (other, right) in combinations(named.items(), 2)
    ]
    tables = {
        "summary": summary_table(pages),
        "matching": pd.concat([one["matching"] for one in matched], ignore_index=True),
        "pairs": pd.concat([one["pairs"] for one in matched], ignore_index=True),
    }
    setting = Setting(title, "; ".join(one.chain.name for one in subjects))
    with tempfile.TemporaryDirectory() as draft:
        _write(pages, tables, setting, Path(draft))
        facts = {
            "kind": "side by side",
            "identity": identity,
            "chains": {one.chain.name: len(one.links) for one in subjects},
        }
        reports.log(lm_name, title, Path(draft), metrics={}, facts=facts)
    return f"{title}: in MLflow's experiment {lm_name}"


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


def _named(subjects: list[Subject]) -> dict[str, Subject]:
    """By LM and layer; chains that share these by their own names."""
    short = [f"{one.chain.lm_name} L{one.chain.layer}" for one in subjects]
    return {
        name if short.count(name) == 1 else one.chain.name: one
        for name, one in zip(short, subjects, strict=True)
    }
