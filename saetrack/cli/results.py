"""`saetrack results`: the paper's claims, each with a verdict, from the newest analyses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saetrack.cli.options import AsJson
from saetrack.cli.terminal import log_problems, records, say

COLUMNS = {name: (name, "{}") for name in ("claim", "group", "verdict")}


def results(
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where pages are written.")
    ] = Path("results-generated"),
    as_json: AsJson = False,
) -> None:
    """Say of each claim of the paper whether it stands on the chains that were analysed.

    Verdicts follow rules that are stated on the pages: a number beside its null, with an interval
    over replicates. Every number stands with the run and the release that it is of. Written are a
    table of all claims (index.md), a page for each, and all numbers as CSV; pages of the same names
    are replaced.

    ```sh
    saetrack analyze mini-replicates --with-controls
    saetrack results
    ```
    """
    log_problems()
    from saetrack.analysis.pipeline.results import newest_groups
    from saetrack.analysis.results.pages import verdicts, write_results
    from saetrack.registry import Registry
    from saetrack.utils.errors import UserError
    from saetrack.utils.figures.text_tables import table_text
    from saetrack.utils.settings import load_settings

    groups = newest_groups(Registry.existing(load_settings()))
    try:
        written = write_results(groups, to)
    except OSError as error:
        raise UserError(f"--to {to}: cannot be written ({error.strerror})") from None
    found = verdicts(groups)
    text = table_text(found, COLUMNS, "claims of the paper")
    say(
        {"verdicts": records(found), "files": [str(path) for path in written]},
        f"{text}\n\n{written[0]} and {len(written) - 1} more",
        as_json=as_json,
    )
