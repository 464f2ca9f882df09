"""What features promote over training, each measure beside its control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saetrack.analysis.figures.quantiles import (
    draw_quantiles,
    judged_classes,
    quantile_handles,
)
from saetrack.analysis.meaning.classes import LABEL_NAMES
from saetrack.utils.figures.captions import frame
from saetrack.utils.figures.steps import Setting, chain_axis, span
from saetrack.utils.figures.style import drawn, not_measured, panels

if TYPE_CHECKING:
    import pandas as pd

PANELS = {
    "agreement": "agreement with next tokens\n(standard deviations of other features')",
    "overlap_with_final": "promoted tokens in common with the end",
    "kurtosis": "excess kurtosis of the logits",
    "entropy": "entropy of the next token\nby the feature alone (nats)",
}


def logits_figure(table: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Medians by class, quartiles of all features, and the control's 5 to 95 %.

    The table is that of `saetrack.analysis.logits.tables.logit_table`.
    """
    lm_steps = sorted(table["lm_step"].unique())
    classes = judged_classes(table)
    with drawn(path, (13, 9)) as figure:
        for axes, (quantity, text) in zip(
            panels(figure, len(PANELS), 2).flat, PANELS.items(), strict=True
        ):
            rows = table[table["quantity"] == quantity]
            if rows["q50"].isna().all():
                not_measured(axes)
                continue
            draw_quantiles(axes, rows, classes)
            axes.set_ylabel(text)
            chain_axis(axes, lm_steps, setting)
        of_all = table[(table["feature_class"] == "all") & (table["quantity"] == "agreement")]
        frame(
            figure,
            setting,
            quantile_handles(classes),
            f"{_shares(of_all)}, of {span(of_all['features'])} features that are live at the end; "
            "5 % would by chance. Lines: medians by the class at the end "
            f"({_sizes(table, classes)}). "
            "Controls: " + "; ".join(_controls(table)) + ".",
        )


def _sizes(table: pd.DataFrame, classes: list[str]) -> str:
    """How many features of each class are live at the end."""
    most = table.groupby("feature_class")["features"].max()
    return ", ".join(f"{LABEL_NAMES[label]} {most[label]:,}" for label in classes)


def _shares(of_all: pd.DataFrame) -> str:
    """How many agree with next tokens beyond chance, at both ends."""
    ends = of_all.sort_values("lm_step").iloc[[0, -1]]
    said = [
        f"{100 * share:.0f} % at step {step:,}"
        for share, step in zip(ends["share_above"], ends["lm_step"], strict=True)
    ]
    return f"Promoted tokens agree with next tokens beyond 95 % of the control: {', '.join(said)}"


def _controls(table: pd.DataFrame) -> list[str]:
    by_quantity = table.drop_duplicates("quantity").set_index("quantity")["control"]
    names = {"agreement": "agreement", "overlap_with_final": "overlap", "kurtosis": "the others"}
    return [f"{name}, {by_quantity[quantity]}" for quantity, name in names.items()]
