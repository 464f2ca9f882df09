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
from jinja2 import Environment, StrictUndefined

from saetrack.analysis.contexts.datapoints import MARKS
from saetrack.analysis.figures.classes import LABEL_COLOURS, LABEL_NAMES


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: of it.
        text: what it answers, in a sentence.
        figures: PNG files.
        tables: small ones, by their captions.
        contexts: from `saetrack.analysis.contexts.examples.context_table`, with `pattern` and
            `final_label` of each row's feature; laid out as in figure 2, left.
    """

    heading: str
    text: str = ""
    figures: Sequence[Path] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    contexts: pd.DataFrame | None = None


class _Cell(NamedTuple):
    """What a feature was at a checkpoint; each line is the text before, the token, the text after.

    Its label is None, and there are no lines, where the feature fired nowhere.
    """

    label: str | None
    lines: list[tuple[str, str, str]]


def write_page(title: str, caption: str, sections: Sequence[Section], path: Path) -> None:
    """Write a page.

    Args:
        title: of it.
        caption: versions, sample sizes, exclusions.
        sections: in order.
        path: of the HTML file.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "embedded": _embedded,
        "rows": _context_rows,
        "steps": lambda contexts: sorted(contexts["lm_step"].unique()),
        "shown": _shown,
        "right": pd.api.types.is_numeric_dtype,
        "words": lambda name: str(name).replace("_", " "),
    }
    page = environment.from_string(_TEMPLATE).render(
        title=title, caption=caption, sections=sections, names=LABEL_NAMES, colours=LABEL_COLOURS
    )
    path.write_text(page, encoding="utf-8")


def _embedded(figure: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(figure.read_bytes()).decode()


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
            _Cell(str(by_step[step]["label"].iloc[0]), [_parted(t) for t in by_step[step]["text"]])
            if step in by_step
            else _Cell(None, [])
            for step in steps
        ]
        first = rows.iloc[0]
        yield int(str(feature)), str(first["pattern"]), str(first["final_label"]), cells


def _parted(text: str) -> tuple[str, str, str]:
    """The text before the datapoint's token, the token, and the text after it."""
    before, _, rest = str(text).partition(MARKS[0])
    token, _, after = rest.partition(MARKS[1])
    return before, token, after


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222; background: #fff;
       max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.25rem; margin-top: 2.6rem; border-bottom: 1px solid #ccc; }
p.caption, figcaption, caption { color: #555; font-size: .85rem; text-align: left; }
nav a { margin-right: 1.2rem; color: #0072B2; }
figure { margin: 1.4rem 0; }
img { max-width: 100%; height: auto; }
div.wide { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
caption { padding-bottom: .3rem; font-weight: 600; white-space: nowrap; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th:not(.number), td:not(.number) { text-align: left; }
th { background: #f6f6f6; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
table.contexts td { min-width: 13rem; max-width: 21rem; overflow-wrap: anywhere; }
table.contexts th.feature { min-width: 7rem; font-weight: normal; }
table.contexts p { margin: .15rem 0; padding-left: .8rem; text-indent: -.8rem; font-size: .78rem;
                   line-height: 1.3; }
table.contexts b { background: #fff1c9; }
.label { display: inline-block; padding: 0 .4rem; border-radius: .6rem; font-size: .72rem;
         border: 2px solid; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="caption">{{ caption }}</p>
<nav>
{% for section in sections %}
<a href="#part{{ loop.index }}">{{ section.heading }}</a>
{% endfor %}
</nav>
{% for section in sections %}
<h2 id="part{{ loop.index }}">{{ section.heading }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for figure in section.figures %}
<figure><img alt="{{ figure.stem | words }}" src="{{ figure | embedded }}"></figure>
{% endfor %}
{% for name, table in section.tables.items() %}
<div class="wide"><table>
<caption>{{ name }}</caption>
<tr>{% for column in table.columns %}<th{% if table.dtypes.iloc[loop.index0] | right %} \
class="number"{% endif %}>{{ column | words }}</th>{% endfor %}</tr>
{% for row in table.itertuples(index=False) %}
<tr>{% for value in row %}<td{% if table.dtypes.iloc[loop.index0] | right %} class="number"\
{% endif %}>{{ value | shown }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
{% if section.contexts is not none %}
<div class="wide"><table class="contexts">
<caption>Strongest contexts of some features, strongest first; in bold the token that they fire \
on</caption>
<tr><th>feature</th>{% for step in section.contexts | steps %}<th>LM step {{ step | shown }}</th>\
{% endfor %}</tr>
{% for feature, pattern, final_label, cells in section.contexts | rows %}
<tr><th class="feature">{{ feature }}<br>{{ pattern | words }}<br>to {{ names[final_label] }}</th>
{% for cell in cells %}
<td>{% if cell.label is none %}–{% else %}
<span class="label" style="border-color: {{ colours[cell.label] }}">{{ names[cell.label] }}</span>
{% for before, token, after in cell.lines %}<p>{{ before }}<b>{{ token }}</b>{{ after }}</p>
{% endfor %}{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
{% endfor %}
</body>
</html>
"""
