"""Texts with a class each, as sets for text classification are given: a CSV file is a set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from saetrack.data.config import CorpusConfig
from saetrack.data.datasets import dataset_version, hub_repo
from saetrack.data.local_files import (
    BrokenFileError,
    csv_records,
    kind_of,
    local_files,
    open_bytes,
)
from saetrack.data.rows import listed
from saetrack.utils.errors import UserError, shown
from saetrack.utils.files import user_path

if TYPE_CHECKING:
    from jaxtyping import Bool
    from numpy import ndarray

TEXT_COLUMN, CLASS_COLUMN = "prompt", "target"


@dataclass(frozen=True)
class LabelledTexts:
    """One set.

    Attributes:
        name: of its file in the folder, without suffix.
        texts: in the file's order.
        labels: whether each text is of the later of the two classes, by alphabet, (texts,).
        left_out: why the set has no use, in half a line; then it has no texts.
    """

    name: str
    texts: tuple[str, ...]
    labels: Bool[ndarray, " texts"]
    left_out: str = ""


def labelled_sets(source: str, field: str) -> Iterator[LabelledTexts]:
    """The sets of a folder or of a dataset on the hub: those with two classes, and why others are
    left out.

    Args:
        source: a path, or owner/name; its CSV files have the columns `prompt` and `target`.
        field: of the config that names it, for messages.

    Raises:
        UserError: it cannot be read, or holds no CSV file.
    """
    files = _files(source, field)
    if not files:
        raise UserError(f"{field}={shown(source, 200)}: holds no CSV file")
    for name, open_file in files:
        try:
            found = _set(name, open_file)
        except BrokenFileError as error:
            raise UserError(f"{field}={shown(source, 200)}: {name}: {error}") from None
        yield found


def labelled_version(source: str) -> Any:
    """What the sets depend on, JSON-able: the content of files on this machine."""
    return dataset_version(CorpusConfig(dataset=source))


def require_sets(source: str, field: str) -> None:
    """Check that a folder exists, without reading it and without asking a hub.

    Raises:
        UserError: it is neither a path that exists nor a name on the hub.
    """
    if hub_repo(source) is None:
        _folder(source, field)


def _files(source: str, field: str) -> list[tuple[str, Callable[[], BinaryIO]]]:
    """Names of the files, and what opens each."""
    if (repo := hub_repo(source)) is not None:
        from saetrack.data.hub_datasets import hub_csv_files

        return hub_csv_files(repo, field)
    folder = _folder(source, field)
    files = [file for file in local_files(folder) if kind_of(file) == ".csv"]
    names = [str(file.relative_to(folder)) if file != folder else file.name for file in files]
    return [(name, partial(open_bytes, file)) for name, file in zip(names, files, strict=True)]


def _folder(source: str, field: str) -> Path:
    path = user_path(source)
    if not path.exists():
        raise UserError(
            f"{field}={shown(source, 200)}: must be a folder that exists, or owner/name of a "
            "dataset on the hub"
        )
    return path


def _set(name: str, open_file: Callable[[], BinaryIO]) -> LabelledTexts:
    """One file's."""
    title = str(Path(name).with_name(Path(name).name.partition(".")[0]))
    texts, classes = [], []
    for line, record in csv_records(name, open_file):
        if absent := [of for of in (TEXT_COLUMN, CLASS_COLUMN) if of not in record]:
            return _left_out(title, f"no column {absent[0]!r}, only {listed(record)}")
        text, of_class = record[TEXT_COLUMN], record[CLASS_COLUMN]
        if not text or of_class is None:
            raise BrokenFileError(f"line {line} lacks its text or its class")
        texts.append(text)
        classes.append(of_class)
    if len(names := sorted(set(classes))) != 2:
        return _left_out(title, f"{len(names)} classes, not two")
    return LabelledTexts(title, tuple(texts), np.array([name == names[1] for name in classes]))


def _left_out(title: str, reason: str) -> LabelledTexts:
    return LabelledTexts(title, (), np.zeros(0, bool), reason)
