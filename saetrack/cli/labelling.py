"""`saetrack sheet`, `saetrack agreement`: labels by hand, and what the automatic ones are worth."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from saetrack.analysis import labelling
from saetrack.analyze import SHEET_FILE
from saetrack.errors import UserError
from saetrack.registry import Registry
from saetrack.settings import load_settings

ChainName = Annotated[str, typer.Argument(help="of an analysed chain (saetrack chains)")]


def sheet(
    chain: ChainName,
    to: Annotated[Path, typer.Option(help="where the sheet is written")] = Path("sheet.csv"),
    features: Annotated[int, typer.Option(min=1, help="how many, at random")] = 60,
) -> None:
    """Write a sheet of features with their strongest contexts, to be labelled by hand.

    Fill in its column `label`: token, weak_concept, concept or noise; leave it empty where you
    cannot tell. The automatic labels are not in it. Then: saetrack agreement CHAIN SHEET.
    """
    if to.exists():
        raise UserError(f"to={to}: exists already, and may hold labels; name another file")
    _, folder = Registry(load_settings()).reports.of_chain(chain)
    whole = pd.read_csv(folder / SHEET_FILE, dtype=str, keep_default_na=False)
    whole.head(features).to_csv(to, index=False)
    typer.echo(
        f"{to}: {min(features, len(whole))} features; label them {', '.join(labelling.HAND_LABELS)}"
    )


def agreement(
    chain: ChainName,
    sheet: Annotated[Path, typer.Argument(help="a sheet with labels (saetrack sheet)")],
) -> None:
    """Read a labelled sheet back: how well do the automatic labels agree with it?

    Cohen's kappa: 0 is chance, 1 perfect. It is kept with the analysis in MLflow.
    """
    try:
        by_hand = labelling.read_sheet(sheet)
    except ValueError as error:
        raise UserError(str(error)) from None
    reports = Registry(load_settings()).reports
    run_id, folder = reports.of_chain(chain)
    automatic = pd.read_parquet(folder / "labels.parquet").set_index("feature")["label"]
    try:
        found = labelling.agreement(by_hand, automatic)
    except ValueError as error:
        raise UserError(f"{sheet}: {error}") from None
    with tempfile.TemporaryDirectory() as draft:
        shutil.copyfile(sheet, Path(draft) / "labels_by_hand.csv")
        found.confusion.to_csv(Path(draft) / "confusion.csv")
        numbers = {"hand.agreement": found.agreement, "hand.features": float(found.features)}
        if not math.isnan(found.kappa):  # with one label only there is none
            numbers["hand.kappa"] = found.kappa
        reports.add(run_id, Path(draft), numbers)
    typer.echo(
        f"{found.features} features, {found.unlabelled} left empty: "
        f"agreement {found.agreement:.1%}, kappa {found.kappa:.2f}\n\n{found.confusion}"
    )
