"""The benchmark's tables: as text for a terminal, as CSV, and all in one JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 130

Columns = dict[str, tuple[str, str]]

STEP: Columns = {
    "contestant": ("step", "{}"),
    "version": ("version", "{}"),
    "ms_per_step": ("ms per\nstep", "{:,.1f}"),
    "least_ms": ("least", "{:,.1f}"),
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
    "times_ours": ("times\nours", "{:.2f}"),
    "loss": ("loss", "{:.5f}"),
    "explained_variance": ("explained\nvariance", "{:.4f}"),
    "l0": ("L0", "{:.1f}"),
    "peak_mb": ("peak\nMB", "{:,.0f}"),
}
ROOFLINE: Columns = {
    "shape": ("shape", "{}"),
    "batch_tokens": ("batch", "{:,}"),
    "product_ms": ("encoder's\nproduct, ms", "{:,.1f}"),
    "gflops": ("GFLOP/s", "{:,.0f}"),
    "adam_ms": ("Adam's\ntraffic, ms", "{:,.1f}"),
    "gb_per_s": ("GB/s", "{:.1f}"),
    "total_ms": ("roofline\nms", "{:,.1f}"),
    "ours_ms": ("ours\nms", "{:,.1f}"),
    "reached": ("reached", "{:.0%}"),
}
END_TO_END: Columns = {
    "contestant": ("one link", "{}"),
    "train_tokens_per_s": ("training\ntokens/s", "{:,.0f}"),
    "train_times_ours": ("times\nours", "{:.2f}"),
    "whole_tokens_per_s": ("whole link\ntokens/s", "{:,.0f}"),
    "whole_times_ours": ("times\nours", "{:.2f}"),
    "process_tokens_per_s": ("process\ntokens/s", "{:,.0f}"),
    "process_times_ours": ("times\nours", "{:.2f}"),
    "loss": ("loss", "{:.4f}"),
    "explained_variance": ("explained\nvariance", "{:.4f}"),
    "l0": ("L0", "{:.1f}"),
}
SHAPES: Columns = {
    "d_in": ("d_in", "{:,}"),
    "d_sae": ("d_sae", "{:,}"),
    "l0": ("L0", "{:.1f}"),
    "us_per_token": ("µs per\ntoken", "{:,.1f}"),
    "peak_mb": ("peak\nMB", "{:,.0f}"),
    "peak_kb_per_token": ("kB per token\nof the batch", "{:,.0f}"),
}
LAYERS: Columns = {
    "layers": ("layers\nper pass", "{}"),
    "us_per_token": ("µs per\ntoken", "{:,.1f}"),
    "us_per_token_and_layer": ("µs per token\nand layer", "{:,.1f}"),
    "peak_mb": ("peak\nMB", "{:,.0f}"),
}
CHAIN: Columns = {
    "links": ("links", "{}"),
    "part": ("of its links", "{}"),
    "registry_ms": ("registry,\nms per link", "{:,.0f}"),
    "link_ms": ("whole link,\nms", "{:,.0f}"),
    "finish_ms": ("chain's page,\nms", "{:,.0f}"),
    "resident_mb": ("process,\nMB at the end", "{:,.0f}"),
}


def show(table: pd.DataFrame, columns: Columns, title: str) -> None:
    """Print chosen columns."""
    if table.empty:
        return
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading, form in columns.values():
        shown.add_column(heading, justify="left" if form == "{}" else "right", no_wrap=True)
    for row in table[list(columns)].itertuples(index=False):
        shown.add_row(
            *(_said(form, value) for (_, form), value in zip(columns.values(), row, strict=True))
        )
    Console(file=sys.stdout, width=WIDTH).print(shown)


def thirds(chain: pd.DataFrame) -> pd.DataFrame:
    """The medians over the first, middle and last third of each chain's links."""
    names = ["first third", "middle third", "last third"]
    third = (3 * chain["number"] // chain["links"]).clip(upper=2)
    grouped = chain.assign(part=third.map(dict(enumerate(names)))).groupby(
        ["links", "part"], sort=False
    )
    return grouped.median(numeric_only=True).reset_index()


def keep(tables: dict[str, pd.DataFrame], facts: dict[str, Any], folder: Path) -> None:
    """Each table as CSV, and everything as `bench.json`; what a partial run lacks stays."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    everything = json.loads(path.read_text()) if path.exists() else {}
    everything |= facts
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
        everything[name] = json.loads(table.to_json(orient="records"))
    path.write_text(json.dumps(everything, indent=1))


def _said(form: str, value: Any) -> str:
    return "–" if pd.isna(value) else form.format(value)
