"""An analysis as a page: which figures and tables belong together, in the paper's order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from saetrack.figures.analysis import Drawn
from saetrack.figures.page import Section, write_page

PAGE = "analysis.html"


def write_analysis(drawn: Drawn, folder: Path) -> None:
    """Write the page of figures that `saetrack.figures.analysis.draw` put into the folder."""
    path = folder / PAGE
    write_page(f"analysis · {drawn.title}", drawn.caption, _sections(drawn.tables, folder), path)


def _sections(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Section]:
    def figures(*names: str) -> list[Path]:
        return [path for name in names if (path := folder / f"{name}.png").exists()]

    def table(name: str, caption: str) -> dict[str, pd.DataFrame]:
        return {caption: tables[name]} if len(tables.get(name, ())) else {}

    return [
        Section(
            "What features mean",
            "Labels by the criteria of saetrack.analysis.semantics; a concept is more coherent "
            "than 95 % of random directions (section 3, appendices F, G).",
            figures("labels", "patterns", "polysemy"),
            table("labels_of_random_directions", "labels of random directions, a control"),
            _with_patterns(tables),
        ),
        Section(
            "How they form",
            "Regions, progress measure and formation points (section 4, appendices D, J).",
            figures(
                *("regions", "progress", "progress_paper", "progress_of_features", "formed"),
                *("umap_joint", "umap_separate"),
            ),
            table("phases", "phases of the curves, in LM steps"),
        ),
        Section(
            "How they drift",
            "Directions over training, beside chains that show what training an SAE does by "
            "itself (section 5).",
            figures(
                *("drift_histograms", "drift", "drift_by_class", "drift_of_features"),
                "trajectories",
            ),
            table("drift_verdicts", "what stands against the controls"),
        ),
        Section(
            "Continuity and collapse",
            "How far residuals move between checkpoints, and what that costs a warm start "
            "(theorem 2.1, appendices C, L).",
            figures("continuity", "collapse"),
            table("warm_starts", "how well a move tells the cost of the warm start"),
        ),
        Section(
            "The same features elsewhere",
            "Matched one to one with those of other chains.",
            figures("identity"),
            table("matching", "matched features"),
        ),
    ]


def _with_patterns(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    patterns = tables["patterns"][["feature", "pattern", "final_label"]]
    return tables["contexts"].merge(patterns, on="feature")
