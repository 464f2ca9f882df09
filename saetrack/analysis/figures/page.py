"""Figures, tables and contexts of one analysis as a page: one file that needs no other.

MLflow shows it among a run's artifacts. Contexts are text of a corpus that nobody vouches for: the
template escapes whatever it is given.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from saetrack.analysis.contexts.datapoints import MARKS
from saetrack.analysis.meaning.classes import LABEL_COLOURS, LABEL_NAMES

TEMPLATE = "page.html.j2"
# A figure is not shown smaller than by this factor, at which its type can just be read, unless a
# screen of a desk would have to scroll: then it is as wide as this many pixels at least.
LEAST_SCALE, DESK = 0.6, 1080


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: of it.
        text: what it answers, in a sentence.
        figures: PNG files.
        tables: small ones, by their captions.
        contexts: as `saetrack.analysis.contexts.examples.context_table` gives it, with `pattern`
            and `final_label` of each row's feature; laid out as in figure 2, left.
        explored: addresses of the explorer that show what a figure shows, by the figure's name.
    """

    heading: str
    text: str = ""
    figures: Sequence[Path] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    contexts: pd.DataFrame | None = None
    explored: Mapping[str, str] = field(default_factory=dict)


class _Cell(NamedTuple):
    """What a feature was at a checkpoint; each line is the text before, the token, the text after.

    Its label is None, and there are no lines, where the feature fired nowhere.
    """

    label: str | None
    lines: list[tuple[str, str, str]]


def write_page(title: str, caption: str, sections: Sequence[Section], path: Path) -> None:
    """Write a page."""
    environment = Environment(
        loader=PackageLoader("saetrack.analysis.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "embedded": _embedded,
        "least_width": _least_width,
        "rows": _context_rows,
        "steps": lambda contexts: sorted(contexts["lm_step"].unique()),
        "shown": _shown,
        "right": pd.api.types.is_numeric_dtype,
        "words": lambda name: str(name).replace("_", " "),
    }
    page = environment.get_template(TEMPLATE).render(
        title=title, caption=caption, sections=sections, names=LABEL_NAMES, colours=LABEL_COLOURS
    )
    path.write_text(page, encoding="utf-8")


def _embedded(figure: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(figure.read_bytes()).decode()


def _least_width(figure: Path) -> int:
    """The pixels below which a figure scrolls in its box rather than shrinks."""
    # A PNG's width stands in its header (W3C, Portable Network Graphics, 11.2.2).
    width = int.from_bytes(figure.read_bytes()[16:20], "big")
    return min(round(LEAST_SCALE * width), DESK)


def _shown(value: object) -> str:
    """A cell of a table in few characters."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        whole = number.is_integer() or abs(number) >= 100
        return f"{number:,.0f}" if whole else f"{number:.3g}"
    return str(value).replace("_", " ")


def _context_rows(contexts: pd.DataFrame) -> Iterator[tuple[int, str, str, list[_Cell]]]:
    """Feature, pattern, final label, and a cell for each checkpoint, in the table's order."""
    steps = sorted(contexts["lm_step"].unique())
    for feature, rows in contexts.groupby("feature", sort=False):
        by_step = dict(list(rows.sort_values("rank").groupby("lm_step")))
        cells = [
            _Cell(
                str(by_step[step]["label"].iloc[0]),
                [_around_token(text) for text in by_step[step]["text"]],
            )
            if step in by_step
            else _Cell(None, [])
            for step in steps
        ]
        first = rows.iloc[0]
        yield int(str(feature)), str(first["pattern"]), str(first["final_label"]), cells


def _around_token(text: str) -> tuple[str, str, str]:
    """The text before the datapoint's token, the token, and the text after it."""
    before, _, rest = str(text).partition(MARKS[0])
    token, _, after = rest.partition(MARKS[1])
    return before, token, after
