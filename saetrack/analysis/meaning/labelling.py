"""Labels by hand: a sheet to fill in, and how well the automatic labels agree with it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from saetrack.analysis.meaning.classes import JUDGED

# What an analysis calls the sheet of its sampled features.
SHEET_FILE = "sheet.csv"
HAND_LABELS = JUDGED
NAMED = 10  # features in a message
COLUMNS = ["feature", "lm_step", "label", "contexts"]


class Agreement(NamedTuple):
    """Of hand labels and automatic ones.

    Attributes:
        kappa: Cohen's: 0 is chance, 1 perfect; NaN if both know one label only.
        agreement: share of features with the same label.
        features: that have both labels.
        unlabelled: rows of the sheet that were left empty.
        confusion: features by hand label (rows) and automatic label (columns).
    """

    kappa: float
    agreement: float
    features: int
    unlabelled: int
    confusion: pd.DataFrame


def write_sheet(examples: pd.DataFrame, path: Path, seed: int) -> None:
    """Write a CSV sheet with a column `label` to fill in, without the automatic labels.

    Args:
        examples: contexts of the sampled features at one checkpoint (`examples.context_table`).
        path: of the sheet.
        seed: of the order of the rows, which must not give away the labels.
    """
    numbered = examples["rank"].astype(str) + ". " + examples["text"]
    contexts = numbered.groupby([examples["feature"], examples["lm_step"]]).agg("\n".join)
    sheet = contexts.rename("contexts").reset_index().assign(label="")
    sheet[COLUMNS].sample(frac=1, random_state=seed).to_csv(path, index=False)


def read_sheet(path: Path) -> pd.Series[str]:
    """The labels of a filled sheet, indexed by feature; "" where a row was left empty.

    Columns stand apart by a comma, or by a semicolon or a tab, as some spreadsheets write them.

    Raises:
        ValueError: in one line, what is wrong with the sheet.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            head = next(lines, "")
        apart = next((sign for sign in ";\t" if sign in head and "," not in head), ",")
        sheet = pd.read_csv(path, sep=apart, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a sheet: {str(error).splitlines()[0]}") from None
    if missing := [name for name in ("feature", "label") if name not in sheet]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    labels = sheet["label"].str.strip().str.lower().str.replace(r"[\s-]+", "_", regex=True)
    if not labels.any():
        raise ValueError(f"{path}: no row has a label")
    bad = ~labels.isin([*HAND_LABELS, ""])
    if bad.any():
        # The sheet's first row is its header.
        found = ", ".join(f"row {row + 2} {sheet['label'][row]!r}" for row in labels.index[bad])
        raise ValueError(f"{path}: labels are {', '.join(HAND_LABELS)} or empty; found {found}")
    if not sheet["feature"].str.fullmatch(r"\d+").all():
        raise ValueError(f"{path}: every row's feature must be a number")
    features = pd.Index(sheet["feature"].astype(int), name="feature")
    if twice := sorted(set(features[features.duplicated()])):
        raise ValueError(f"{path}: feature {twice[0]} is there twice")
    return labels.set_axis(features)


def agreement(by_hand: pd.Series[str], automatic: pd.Series[str]) -> Agreement:
    """Hold the automatic labels against those by hand.

    Raises:
        ValueError: a labelled feature has no automatic label.
    """
    labelled = by_hand[by_hand != ""]
    if missing := sorted(set(labelled.index) - set(automatic.index)):
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        listed = ", ".join(map(str, missing[:NAMED]))
        raise ValueError(f"features of the sheet without an automatic label: {listed}{more}")
    found = automatic.loc[labelled.index]
    names = [*HAND_LABELS, *sorted(set(found) - set(HAND_LABELS))]
    confusion = pd.DataFrame(
        confusion_matrix(labelled, found, labels=names),
        index=pd.Index(names, name="by_hand"),
        columns=pd.Index(names, name="automatic"),
    )
    return Agreement(
        kappa=float(cohen_kappa_score(labelled, found, labels=names)),
        agreement=float((labelled.to_numpy() == found.to_numpy()).mean()),
        features=len(labelled),
        unlabelled=len(by_hand) - len(labelled),
        confusion=confusion,
    )
