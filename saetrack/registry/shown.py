"""Which of several analyses of a chain is shown, explained, labelled and judged."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

ALIKE = ("release", "versions")  # tags of an analysis: that of its tables, and its links


def shown_of(analyses: Sequence[Run]) -> tuple[Run, int]:
    """The analysis that is shown: of those with the newest one's tables and links the fullest.

    It is that with the most controls, of equal ones the newest. So an analysis without controls,
    of a chain among other layers or beside another chain, does not take away what was found.

    Args:
        analyses: finished runs of one chain, one at least.

    Returns:
        The run, and how many of these are newer: all of them have fewer controls.
    """
    newest = max(analyses, key=_begun)
    tags = newest.data.tags
    alike = [
        run for run in analyses if all(run.data.tags.get(tag) == tags.get(tag) for tag in ALIKE)
    ]
    shown = max(alike, key=lambda run: (len(controls_of(run)), _begun(run)))
    return shown, sum(_begun(run) > _begun(shown) for run in alike)


def controls_of(analysis: Run) -> list[str]:
    """The names of the controls beside an analysis; none where its tag cannot be read."""
    try:
        found = ast.literal_eval(analysis.data.tags.get("controls", "{}"))
    except (SyntaxError, ValueError):
        return []
    return list(found) if isinstance(found, dict) else []


def _begun(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
