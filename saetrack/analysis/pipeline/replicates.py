"""Several analysed chains as replicates: their headline numbers as mean and interval."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from saetrack.analysis.figures.analysis_page import FIGURES, PAGE_FILE, TABLES
from saetrack.analysis.figures.page import Section, write_page
from saetrack.analysis.figures.replicates import replicates_figure
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.table_files import save_tables
from saetrack.analysis.results.headline import headline_table
from saetrack.analysis.results.replicates import ALL, AXES, FEATURES, counted, over_replicates
from saetrack.registry.analyses import LoggedReport, Reports
from saetrack.utils.figures.steps import Setting
from saetrack.utils.files import content_hash

# Raise when the page changes: the same chains are then joined again.
PAGE_VERSION = 3
HEADLINE, REPLICATES = "headline", "replicates"
# The name of rows that say which controls were asked for.
ASKED = "control"
# How an interval was made, in words.
INTERVALS = {
    "t": "Student's",
    "range": "range",
    FEATURES: "over features",
    "none": "none",
}
SHOWN = ["name", "control", "unit", "n", "mean", "low", "high", "interval", "least", "most"]


def headline_of(analysis: ChainAnalysis, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The headline numbers of a chain's analysis, with what may differ between replicates.

    Returns:
        The columns of `saetrack.analysis.results.headline`; `role` of the control, and a row
        without value for each control that was asked for, there or not; `chain`, `lm`, `sae_seed`,
        `hook`.
    """
    chain = analysis.registered.chain
    roles = {name: control.role for name, control in analysis.config.controls.items()}
    asked = pd.DataFrame({"name": ASKED, "control": list(roles), "unit": ""})
    headline = pd.concat([headline_table(tables), asked], ignore_index=True)
    return headline.assign(
        role=headline["control"].map(roles).fillna(""),
        chain=chain.name,
        lm=chain.lm_name,
        sae_seed=chain.config.seed,
        hook=chain.hook.short,
    )


def read_headline(reports: Reports, run: LoggedReport) -> pd.DataFrame:
    """The headline numbers of an analysis that is registered, with `run` and `release` beside.

    Raises:
        UserError: it is of a release that kept none.
    """
    table = read_joined(reports, run)
    return table.assign(run=run.run_id, release=run.tags.get("release", ""))


def read_joined(reports: Reports, run: LoggedReport) -> pd.DataFrame:
    """The table of headline numbers of a run, as it was written; see `read_headline`."""
    with reports.part(run.run_id, f"{TABLES}/{HEADLINE}.parquet") as path:
        table = pd.read_parquet(path)
    return table if "features" in table else table.assign(features=float("nan"))


def join_replicates(analyses: Sequence[ChainAnalysis]) -> str:
    """Log mean and interval of all headline numbers over some chains, as a run in MLflow.

    All of them must be finished. The run is one of the first chain's LM, and named after it.

    Args:
        analyses: of the chains, in the order in which a user named them.

    Returns:
        What was done, in a line.
    """
    chains = [analysis.registered.chain for analysis in analyses]
    names = [chain.name for chain in chains]
    identity = _identity(analyses)
    reports, lm_name = analyses[0].registered.ready.registry.reports, chains[0].lm_name
    title = f"replicates · {names[0]} and {len(names) - 1} more"
    if reports.has(lm_name, identity):
        return f"{title}: was made before, {reports.where(lm_name, identity, PAGE_FILE)}"
    runs = [
        reports.run_of(chain.lm_name, analysis.content_hash)
        for chain, analysis in zip(chains, analyses, strict=True)
    ]
    headline = pd.concat([read_headline(reports, run) for run in runs], ignore_index=True)
    tables = {HEADLINE: headline, REPLICATES: over_replicates(headline)}
    with tempfile.TemporaryDirectory() as draft:
        write_replicates(tables, Setting(title, "; ".join(names)), Path(draft))
        facts = {
            "kind": REPLICATES,
            "identity": identity,
            "chains": {name: run.run_id for name, run in zip(names, runs, strict=True)},
        }
        reports.log(lm_name, title, Path(draft), metrics={}, facts=facts)
    return f"{title}: {reports.where(lm_name, identity, PAGE_FILE)}"


def are_joined(analyses: Sequence[ChainAnalysis]) -> bool:
    """Whether the registry holds mean and interval over these chains."""
    first = analyses[0].registered
    return first.ready.registry.reports.has(first.chain.lm_name, _identity(analyses))


def _identity(analyses: Sequence[ChainAnalysis]) -> str:
    """The hash of what the run is made from: it is named after the first; the rest has no order."""
    first, *others = [one.content_hash for one in analyses]
    return content_hash([PAGE_VERSION, first, *sorted(others)])


def write_replicates(tables: dict[str, pd.DataFrame], setting: Setting, folder: Path) -> None:
    """Write figure, tables, and a page of both.

    Args:
        tables: `headline` of all chains, and `replicates`, as `over_replicates` makes it of them.
        setting: title of the page, and the names of the chains.
        folder: that is empty.
    """
    (folder / FIGURES).mkdir()
    over = tables[REPLICATES]
    replicates_figure(tables[HEADLINE], over, setting, folder / FIGURES / REPLICATES)
    save_tables(tables, folder / TABLES)
    section = Section(
        "Replicates",
        f"Headline numbers over {counted(tables[HEADLINE])}. Beside a control they are the chain's "
        "less the control's, on the same tokens: their mean is that of paired differences.",
        [folder / FIGURES / f"{REPLICATES}.png"],
        {_caption(axis): _told(rows) for axis, rows in over.groupby("over", sort=False)},
    )
    write_page(setting.title, setting.caption, [section], folder / PAGE_FILE)


def _caption(axis: object) -> str:
    """Over what a table is, and what its intervals are."""
    over = ALL if axis == ALL else AXES[str(axis)][1]
    one = "chain" if axis == ALL else AXES[str(axis)][0]
    return (
        f"Over {over}, a value for each {one} (n). The column interval says how low and high were "
        f"made. {INTERVALS['t']}: 95 % by Student's t, of three values and more; "
        f"{INTERVALS['range']}: of two values; {INTERVALS[FEATURES]}: 95 % of what other features "
        "of the same SAEs might have given, of one value, and of several where that is wider than "
        f"what lies between them; {INTERVALS['none']}: of verdicts, and where none was drawn. "
        "Least and most are of the n values."
    )


def _told(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `over_replicates` as a page shows them."""
    return rows[SHOWN].assign(interval=rows["interval"].replace(INTERVALS))
