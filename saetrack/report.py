"""A chain's table as text for a terminal or a log."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = {
    "lm_step": ("lm_step", "{:,.0f}"),
    "tokens": ("tokens", "{:,.0f}"),
    "loss": ("loss", "{:.4g}"),
    "mse": ("MSE", "{:.4g}"),
    "explained_variance": ("explained\nvariance", "{:.3f}"),
    "l0": ("L0", "{:.1f}"),
    "dead": ("dead", "{:.1%}"),
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
    "version": ("registry\nversion", "{:.0f}"),
}


def report(table: pd.DataFrame, title: str) -> str:
    """One line per link; metrics are held-out.

    Args:
        table: as `Registry.table` gives it.
        title: printed above.
    """
    drawn = Table(title=title, box=box.SIMPLE_HEAD)
    for heading, _ in COLUMNS.values():
        drawn.add_column(heading, justify="right", vertical="bottom")
    for _, row in table.iterrows():
        drawn.add_row(*(form.format(row[name]) for name, (_, form) in COLUMNS.items()))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip()
