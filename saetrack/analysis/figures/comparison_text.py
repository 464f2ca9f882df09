"""The tables of a comparison as text."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from saetrack.analysis.comparison.token_ratios import PAPER_RATIO, comparison_metrics
from saetrack.utils.figures.text_tables import (
    LINK_COLUMNS,
    as_text,
    empty_table,
    number,
    table_text,
)

FINALS = {
    **{name: LINK_COLUMNS[name] for name in ("tokens", "loss", "mse", "explained_variance")},
    "explained_variance_at_l0": ("at equal\nL0", "{:.3f}"),
    **{name: LINK_COLUMNS[name] for name in ("l0", "dead", "ce_loss_recovered", "nats_lost")},
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


def matching_report(matchings: pd.DataFrame, title: str) -> str:
    """One line per pair of SAEs; shares are of the matched pairs of features."""
    return table_text(matchings, MATCHINGS, title)


def comparison_report(summary: pd.DataFrame, title: str) -> str:
    """Final metrics of links and conventional SAEs, the ratios of their tokens, and the verdict."""
    found = comparison_metrics(summary)
    if not found:
        nothing = "Every link is the conventional SAE of its checkpoint: nothing to compare."
        return f"{_finals(summary, title)}\n\n{nothing}"
    return "\n\n".join((_finals(summary, title), _ratios(summary), _verdict(found)))


def _finals(summary: pd.DataFrame, title: str) -> str:
    headings = ["lm_step", "SAE", *(heading for heading, _ in FINALS.values())]
    table = empty_table(
        f"{title}: held-out, means over seeds; all: but the chain's first", headings
    )
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
                table.add_row(_lm_step(row), sae, *map(number, means[prefix], forms))
        table.add_section()
    return as_text(table)


def _ratios(summary: pd.DataFrame) -> str:
    headings = ["lm_step", "pairs", *RATIOS.values(), "link\nnever", "conv.\nnever"]
    table = empty_table("tokens, link / conventional: mean and spread over seeds", headings)
    for _, row in summary[summary["pairs"] > 0].iterrows():
        spreads = [_spread(row, name) for name in RATIOS]
        counts = [f"{row[name]}" for name in ("link_never", "conventional_never")]
        table.add_row(_lm_step(row), f"{row['pairs']}", *spreads, *counts, end_section=True)
    return as_text(table)


def _verdict(found: dict[str, float]) -> str:
    """What was found, to hold against the paper's 1/20."""
    mean, low, high = (
        found[f"equal_quality_token_ratio_{statistic}"] for statistic in ("mean", "min", "max")
    )
    return (
        f"Tokens for equal quality, link / conventional: {mean:.3f} ({low:.3f}–{high:.3f}, "
        f"{found['seeds']:.0f} seeds); the paper's: {PAPER_RATIO:g}.\n"
        f"Of {found['pairs']:.0f} links, {found['within_paper_ratio']:.0f} reach the conventional "
        f"quality within the paper's ratio, {found['link_never']:.0f} never reach it."
    )


def _lm_step(row: pd.Series[Any]) -> str:
    return "all" if pd.isna(row["lm_step"]) else f"{row['lm_step']:,}"


def _spread(row: pd.Series[Any], name: str) -> str:
    mean, low, high = (row[f"{name}_{statistic}"] for statistic in ("mean", "min", "max"))
    return "-" if pd.isna(mean) else f"{mean:.3f}\n{low:.3f}–{high:.3f}"
