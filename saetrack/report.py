"""Tables as text for a terminal or a log: a chain's, and those of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from saetrack.analysis.comparison import PAPER_RATIO, headline

COLUMNS = {
    "lm_step": ("lm_step", "{:,.0f}"),
    "tokens": ("tokens", "{:,.0f}"),
    "loss": ("loss", "{:.4g}"),
    "mse": ("MSE", "{:.4g}"),
    "start_explained_variance": ("at\nstart", "{:.3f}"),
    "explained_variance": ("explained\nvariance", "{:.3f}"),
    "ce_loss_recovered": ("CE\nrecovered", "{:.3f}"),
    "l0": ("L0", "{:.1f}"),
    "dead": ("dead", "{:.1%}"),
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
    "version": ("registry\nversion", "{:.0f}"),
}
CHAINS = {
    "name": ("name", "{}"),
    "lm": ("LM", "{}"),
    "layer": ("layer", "{}"),
    "direction": ("direction", "{}"),
    "seed": ("seed", "{}"),
    "registered": ("links", "{:,}"),
    "planned": ("of", "{:,.0f}"),
    "lm_step": ("last\nlm_step", "{:,}"),
    "changed": ("last link", "{:%Y-%m-%d %H:%M}"),
}
IMPORTED = {
    name: (name, "{}") for name in ("name", "d_in", "d_sae", "convention", "lm", "hook_name")
}
FINALS = {
    **{name: COLUMNS[name] for name in ("tokens", "loss", "mse", "explained_variance")},
    "explained_variance_at_l0": ("at equal\nL0", "{:.3f}"),
    **{name: COLUMNS[name] for name in ("l0", "dead", "ce_loss_recovered")},
}
RATIOS = {
    "token_ratio": "link reaches\nconventional",
    "reverse_token_ratio": "conventional\nreaches link",
    "equal_quality_token_ratio": "equal\nquality",
    "equal_quality_train_s_ratio": "the same,\nin seconds",
}
MATCHINGS = {
    "lm_step": ("lm_step", "{:,}"),
    "comparison": ("matched", "{}"),
    "seeds": ("seeds", "{}"),
    "pairs": ("pairs", "{:,}"),
    "left_dead": ("left\ndead", "{:,}"),
    "right_dead": ("right\ndead", "{:,}"),
    "median_cosine": ("median\ncosine", "{:.3f}"),
    "share_above_0.7": ("above\n0.7", "{:.1%}"),
    "share_above_0.9": ("above\n0.9", "{:.1%}"),
}
WIDTH = 110
WIDE = 160  # names that people copy are never cut short


def report(table: pd.DataFrame, title: str) -> str:
    """One line per link; metrics are held-out.

    Args:
        table: as `Registry.table` gives it.
        title: printed above.
    """
    return _listed(table, COLUMNS, title)


def chains_report(chains: pd.DataFrame, title: str) -> str:
    """One line per chain; times are UTC.

    Args:
        chains: as `Registry.chains` gives it.
        title: printed above.
    """
    return _listed(chains, CHAINS, title, WIDE)


def imported_report(imported: pd.DataFrame, title: str) -> str:
    """One line per imported SAE.

    Args:
        imported: as `ImportedSAEs.table` gives it.
        title: printed above.
    """
    return _listed(imported, IMPORTED, title, WIDE)


def matching_report(matchings: pd.DataFrame, title: str) -> str:
    """One line per pair of SAEs; shares are of the matched pairs of features.

    Args:
        matchings: as `saetrack.analysis.matching.matching_table` gives it.
        title: printed above.
    """
    return _listed(matchings, MATCHINGS, title)


def comparison_report(summary: pd.DataFrame, title: str) -> str:
    """Final metrics of links and conventional SAEs, the ratios of their tokens, and the verdict.

    Args:
        summary: as `saetrack.analysis.comparison.summarise` gives it.
        title: printed above.
    """
    found = headline(summary)
    if not found:
        nothing = "Every link is the conventional SAE of its checkpoint: nothing to compare."
        return f"{_finals(summary, title)}\n\n{nothing}"
    return "\n\n".join((_finals(summary, title), _ratios(summary), _verdict(found)))


def _finals(summary: pd.DataFrame, title: str) -> str:
    headings = ["lm_step", "SAE", *(heading for heading, _ in FINALS.values())]
    drawn = _empty(f"{title}: held-out, means over seeds; all: but the chain's first", headings)
    forms = [form for _, form in FINALS.values()]
    for _, row in summary.iterrows():
        means = {
            prefix: [row.get(f"{prefix}_{name}_mean", math.nan) for name in FINALS]
            for prefix in ("link", "cold", "conventional")
        }
        # The conventional SAE at the link's budget, measured in quality alone.
        means["cold"][0] = row["link_tokens_mean"]
        for prefix, sae in (("link", "link"), ("cold", "cold"), ("conventional", "conv.")):
            if prefix != "cold" or row["pairs"]:
                drawn.add_row(_lm_step(row), sae, *map(_number, means[prefix], forms))
        drawn.add_section()
    return _text(drawn)


def _ratios(summary: pd.DataFrame) -> str:
    headings = ["lm_step", "pairs", *RATIOS.values(), "link\nnever", "conv.\nnever"]
    drawn = _empty("tokens, link / conventional: mean and spread over seeds", headings)
    for _, row in summary[summary["pairs"] > 0].iterrows():
        spreads = [_spread(row, name) for name in RATIOS]
        counts = [f"{row[name]}" for name in ("link_never", "conventional_never")]
        drawn.add_row(_lm_step(row), f"{row['pairs']}", *spreads, *counts, end_section=True)
    return _text(drawn)


def _verdict(found: dict[str, float]) -> str:
    """What was found, to hold against the paper's 1/20."""
    mean, least, most = (
        found[f"equal_quality_token_ratio_{statistic}"] for statistic in ("mean", "min", "max")
    )
    return (
        f"Tokens for equal quality, link / conventional: {mean:.3f} ({least:.3f}–{most:.3f}, "
        f"{found['seeds']:.0f} seeds); the paper's: {PAPER_RATIO:g}.\n"
        f"Of {found['pairs']:.0f} links, {found['within_paper_ratio']:.0f} reach the conventional "
        f"quality within the paper's ratio, {found['link_never']:.0f} never reach it."
    )


def _lm_step(row: pd.Series[Any]) -> str:
    return "all" if pd.isna(row["lm_step"]) else f"{row['lm_step']:,}"


def _spread(row: pd.Series[Any], name: str) -> str:
    mean, least, most = (row[f"{name}_{statistic}"] for statistic in ("mean", "min", "max"))
    return "-" if pd.isna(mean) else f"{mean:.3f}\n{least:.3f}–{most:.3f}"


def _number(value: Any, form: str) -> str:
    return "-" if pd.isna(value) else form.format(value)


def _listed(
    table: pd.DataFrame, columns: dict[str, tuple[str, str]], title: str, width: int = WIDTH
) -> str:
    drawn = _empty(title, [heading for heading, _ in columns.values()])
    for _, row in table.iterrows():
        drawn.add_row(*(_number(row[name], form) for name, (_, form) in columns.items()))
    return _text(drawn, width)


def _empty(title: str, headings: Sequence[str]) -> Table:
    drawn = Table(title=title, box=box.SIMPLE_HEAD)
    for heading in headings:
        drawn.add_column(heading, justify="right", vertical="bottom")
    return drawn


def _text(drawn: Table, width: int = WIDTH) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip()
