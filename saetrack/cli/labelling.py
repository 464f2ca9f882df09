"""`saetrack sheet`, `saetrack agreement`: labels by hand, and what the automatic ones are worth."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from saetrack.cli.names import open_chain
from saetrack.utils.errors import UserError

ChainName = Annotated[str, typer.Argument(help="An analysed chain, or the beginning of its name.")]


def sheet(
    chain: ChainName,
    to: Annotated[Path, typer.Option(help="Where the sheet is written.")] = Path("sheet.csv"),
    features: Annotated[int, typer.Option(min=1, help="How many, at random.")] = 60,
) -> None:
    """Write a sheet of features with their strongest contexts, to be labelled by hand.

    Fill in its column `label`: token, several_tokens, weak_concept, concept or contextual; leave it
    empty where you cannot tell. The automatic labels are not in it. Then: `saetrack agreement CHAIN
    SHEET`.
    """
    import pandas as pd

    from saetrack.analysis.meaning.labelling import HAND_LABELS, SHEET_FILE

    if to.exists():
        raise UserError(f"to={to}: exists already, and may hold labels; name another file")
    registry, name = open_chain(chain)
    with registry.reports.of_chain(name) as (_, folder):
        whole = pd.read_csv(folder / SHEET_FILE, dtype=str, keep_default_na=False)
    whole.head(features).to_csv(to, index=False)
    few = f", all of the analysis' sheet ({features} were asked for)"
    count = f"{min(features, len(whole))} features{few if len(whole) < features else ''}"
    typer.echo(f"{to}: {count}; label them {', '.join(HAND_LABELS)}")


def agreement(
    chain: ChainName,
    sheet: Annotated[Path, typer.Argument(help="A sheet with labels (`saetrack sheet`).")],
) -> None:
    """Read a labelled sheet back: how well do the automatic labels agree with it?

    Cohen's kappa: 0 is chance, 1 perfect. It is kept with the analysis in MLflow.
    """
    import pandas as pd

    from saetrack.analysis.figures.analysis_page import TABLES
    from saetrack.analysis.meaning import labelling

    try:
        by_hand = labelling.read_sheet(sheet)
        registry, name = open_chain(chain, writes=True)
        with registry.reports.of_chain(name) as (run_id, folder):
            labels = pd.read_parquet(folder / TABLES / "labels.parquet")
        automatic = labels.set_index("feature")["label"]
        found = labelling.agreement(by_hand, automatic)
    except ValueError as error:
        raise UserError(str(error)) from None
    with tempfile.TemporaryDirectory() as draft:
        shutil.copyfile(sheet, Path(draft) / "labels_by_hand.csv")
        found.confusion.to_csv(Path(draft) / "confusion.csv")
        numbers = {"hand.agreement": found.agreement, "hand.features": float(found.features)}
        if not math.isnan(found.kappa):  # with one label only there is none
            numbers["hand.kappa"] = found.kappa
        registry.reports.add(run_id, Path(draft), numbers)
    typer.echo(
        f"{found.features} features, {found.unlabelled} left empty: "
        f"agreement {found.agreement:.1%}, kappa {found.kappa:.2f}\n\n{found.confusion}"
    )
