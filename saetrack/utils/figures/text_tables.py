"""Tables as text, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from saetrack.utils.figures.ce_loss import worse_than_guess

LINK_COLUMNS = {
    "lm_step": ("lm_step", "{:,.0f}"),
    "tokens": ("tokens", "{:,.0f}"),
    "loss": ("loss", "{:.4g}"),
    "mse": ("MSE", "{:.4g}"),
    "start_explained_variance": ("explained\nvariance\nat start", "{:.3f}"),
    "explained_variance": ("explained\nvariance", "{:.3f}"),
    "explained_variance_per_token": ("explained\nvariance\nper token", "{:.3f}"),
    "ce_loss_recovered": ("CE\nrecovered", "{:.3f}"),
    "nats_lost": ("nats\nlost", "{:.3f}"),
    "l0": ("L0", "{:.1f}"),
    "dead": ("dead", "{:.1%}"),
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
    "version": ("registry\nversion", "{:.0f}"),
}
CHAINS = {
    "name": ("name", "{}"),
    "lm": ("LM", "{}"),
    "hook": ("hook", "{}"),
    "direction": ("direction", "{}"),
    "seed": ("seed", "{}"),
    "registered": ("links", "{:,}"),
    "planned": ("of", "{:,.0f}"),
    "warnings": ("warnings", "{:,}"),
    "lm_step": ("last\nlm_step", "{:,}"),
    "changed": ("last link", "{:%Y-%m-%d %H:%M}"),
}
IMPORTED = {name: (name, "{}") for name in ("name", "d_in", "d_sae", "residual", "lm", "hook_name")}


def report(table: pd.DataFrame, title: str) -> str:
    """One line per link, as `Registry.table` gives them; metrics are held-out.

    Below them stands what a dash means and what a negative start is, where there are any, and at
    how many links an ablation is worse than a guess.
    """
    told = [_worse_start(table), _dashes(table), worse_than_guess(table)]
    return "\n".join([table_text(table, LINK_COLUMNS, title), *filter(None, told)])


def _worse_start(table: pd.DataFrame) -> str:
    if not (table["start_explained_variance"] < 0).any():
        return ""
    return (
        "Explained variance at start is that of the weights with which a link begins, before its "
        "first token: below 0 they are worse than the residuals' mean."
    )


def _dashes(table: pd.DataFrame) -> str:
    """What '-' means, where there is any."""
    told = []
    lacks = table[list(LINK_COLUMNS)].isna()
    too_small = lacks["ce_loss_recovered"] & ~lacks["nats_lost"]
    if too_small.any():
        # Below `saetrack.lm.ce_loss.MIN_ABLATION_COST`.
        told.append(
            "CE recovered is '-' where taking the activations away costs the LM less than 0.1 "
            "nats, of which a share says nothing (as a rule at LM step 0)."
        )
    lacks.loc[too_small, "ce_loss_recovered"] = False
    if lacks.to_numpy().any():
        names = (LINK_COLUMNS[name][0] for name in LINK_COLUMNS if lacks[name].any())
        unmeasured = ", ".join(name.replace("\n", " ") for name in names)
        told.append(f"'-' was not measured: {unmeasured} (evaluation.ce_tokens: 0 measures no CE).")
    return " ".join(told)


def chains_report(chains: pd.DataFrame, title: str) -> str:
    """One line per chain, as `Registry.chains` gives them; times are UTC."""
    return table_text(chains, CHAINS, title)


def imported_report(imported: pd.DataFrame, title: str) -> str:
    """One line per imported SAE, as `ImportedSAEs.table` gives them."""
    return table_text(imported, IMPORTED, title)


def number(value: Any, form: str) -> str:
    """A number in a given form; a dash where there is none."""
    return "-" if pd.isna(value) else form.format(value)


def table_text(table: pd.DataFrame, columns: dict[str, tuple[str, str]], title: str) -> str:
    """One line per row; `columns`: heading and form of each column shown, by its name."""
    grid = empty_table(title, [heading for heading, _ in columns.values()])
    for _, row in table.iterrows():
        grid.add_row(*(number(row[name], form) for name, (_, form) in columns.items()))
    return as_text(grid)


def empty_table(title: str, headings: Sequence[str]) -> Table:
    """Headings alone; rows are added by the caller."""
    grid = Table(title=title, box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in headings:
        grid.add_column(heading, justify="right", vertical="bottom")
    return grid


def as_text(grid: Table) -> str:
    """A table as it is printed: as wide as it must be, so that no number or name is cut short."""
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip()
