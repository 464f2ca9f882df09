"""Tables of an analysis as files, and tables of several matchings as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write tables as parquet files of their names."""
    folder.mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read what `save_tables` wrote."""
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


def joined_matchings(matchings: Iterable[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """`pairs` and `matching` of several matchings, without rows if there is none."""
    found = list(matchings)
    return {
        name: pd.concat([pd.DataFrame(), *(tables[name] for tables in found)], ignore_index=True)
        for name in ("pairs", "matching")
    }
