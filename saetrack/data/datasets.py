"""Where documents come from: the embedded text, datasets on the hub, files on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from saetrack.data.config import EMBEDDED, HUB_DATASETS, CorpusConfig
from saetrack.data.embedded import embedded_documents, embedded_text_version
from saetrack.data.local_files import SUFFIXES, TEXT, kind_of, local_files, open_bytes, rows_of
from saetrack.data.rows import Row, checked, no_field
from saetrack.utils.errors import UserError, first_line, shown
from saetrack.utils.files import counted_from, file_sha256, user_path

OWNER_AND_NAME = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}")
# What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` leave in a folder.
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
# Raise when the same local files become other documents.
READING_VERSION = 1


def hub_repo(dataset: str) -> str | None:
    """The repository on the hub that a dataset's name means; None for any other dataset.

    What exists as a path on this machine is that path.
    """
    if dataset in HUB_DATASETS:
        return HUB_DATASETS[dataset]
    if OWNER_AND_NAME.fullmatch(dataset) and ".." not in dataset and _path(dataset) is None:
        return dataset
    return None


def require_dataset(config: CorpusConfig) -> None:
    """Check that a text exists and that its first document can be read, without asking a hub.

    Raises:
        UserError: it is neither a known name nor a path that exists, or its first row is no text.
    """
    if config.dataset == EMBEDDED:
        _require_defaults(config, "config", "revision", "split", "text_field", "separator")
    elif hub_repo(config.dataset) is not None:
        _require_defaults(config, "separator")
    else:
        next(iter(Documents(config)), None)


def describe_dataset(config: CorpusConfig) -> str:
    """Where the text comes from, in half a line."""
    if config.dataset == EMBEDDED:
        return "embedded"
    if (repo := hub_repo(config.dataset)) is not None:
        parts = [f"config {config.config}"] if config.config else []
        parts += [f"split {config.split}", f"field {config.text_field}"]
        return f"{repo} on the hub, {', '.join(parts)}"
    files = local_files(_existing(config))
    kinds: dict[str, int] = {}
    for file in files:
        kinds[str(kind_of(file))] = kinds.get(str(kind_of(file)), 0) + 1
    size_bytes = sum(file.stat().st_size for file in files)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{_named(config)}, {counts}, {size_bytes / 1e6:,.1f} MB"


class Documents:
    """The documents of a text, always in the same order; one on the hub is streamed.

    Attributes:
        left_out: rows so far that are no text and were left out, as `skip_bad_rows` asks.
        first_left_out: where the first of them is, and what is wrong with it.
    """

    def __init__(self, config: CorpusConfig) -> None:
        """Reads nothing yet."""
        self._config = config
        self.left_out, self.first_left_out = 0, ""

    def __iter__(self) -> Iterator[str]:
        """From the first document on.

        Raises:
            UserError: the text cannot be read, or a row is no text and is not to be left out.
        """
        config = self._config
        self.left_out, self.first_left_out = 0, ""
        if config.dataset == EMBEDDED:
            yield from embedded_documents()
            return
        for row in _rows(config):
            if isinstance(row.text, str):
                yield row.text
                continue
            problem = f"{row.where}: {row.text.reason}"
            if not config.skip_bad_rows:
                raise UserError(
                    f"corpus.dataset={_named(config)}: {problem}; skip_bad_rows=true leaves such "
                    "rows out"
                )
            self.left_out += 1
            self.first_left_out = self.first_left_out or problem

    def left_out_line(self) -> str:
        """How many rows were left out, and the first of them; or nothing."""
        if not self.left_out:
            return ""
        return f"{self.left_out:,} rows were left out; the first: {self.first_left_out}"


def _rows(config: CorpusConfig) -> Iterator[Row]:
    if (repo := hub_repo(config.dataset)) is not None:
        from saetrack.data.hub_datasets import hub_rows

        yield from hub_rows(repo, config)
        return
    path = _existing(config)
    if (path / SAVED).is_file() or (path / SAVED_SPLITS).is_file():
        _require_defaults(config, "config", "revision", "separator")
        yield from _saved_rows(path, config)
        return
    _require_defaults(config, "config", "revision", "split")
    files = local_files(path)
    if not files:
        raise UserError(
            f"corpus.dataset={_named(config)}: holds no file of text; those taken are "
            f"{', '.join(SUFFIXES)}, each also with .gz or .zst behind it, and a folder that "
            "save_to_disk wrote"
        )
    kinds = {kind_of(file) for file in files}
    if kinds <= set(TEXT):
        _require_defaults(config, "text_field")
    if not kinds & set(TEXT):
        _require_defaults(config, "separator")
    for file in files:
        yield from rows_of(str(file), partial(open_bytes, file), config, alone=len(files) == 1)


def _saved_rows(path: Path, config: CorpusConfig) -> Iterator[Row]:
    """The rows of a folder that `save_to_disk` wrote."""
    from datasets import load_from_disk  # takes seconds to import

    chosen = path if (path / SAVED).is_file() else path / config.split
    try:
        rows: Any = load_from_disk(str(chosen))
    except Exception as error:  # the library raises many kinds; the user needs the one reason
        splits = sorted(folder.name for folder in path.iterdir() if (folder / SAVED).is_file())
        hint = f"; its splits are {', '.join(splits)} (corpus.split)" if splits else ""
        raise UserError(
            f"corpus.dataset={_named(config)}: cannot be read: {first_line(error)}{hint}"
        ) from None
    names = list(rows.column_names)
    if config.text_field not in names:
        yield Row(f"{chosen}: row 1", no_field(config.text_field, names))
        return
    for number, row in enumerate(rows.select_columns([config.text_field]), 1):
        text = checked(row[config.text_field], config.text_field, names)
        yield Row(f"{chosen}: row {number}", text)


def dataset_version(config: CorpusConfig) -> Any:
    """What a dataset's content depends on, JSON-able: a cache made from it is valid as long."""
    if config.dataset == EMBEDDED:
        return embedded_text_version()
    if (repo := hub_repo(config.dataset)) is not None:
        return repo
    return [READING_VERSION, [[file.name, file_sha256(file)] for file in _files(config)]]


def local_bytes(config: CorpusConfig) -> int:
    """Size of the files of a text on this machine, which `dataset_version` reads; 0 of others."""
    if config.dataset == EMBEDDED or hub_repo(config.dataset) is not None:
        return 0
    return sum(file.stat().st_size for file in _files(config))


def _files(config: CorpusConfig) -> list[Path]:
    """The files of a text on this machine, sorted."""
    path = _existing(config)
    if (path / SAVED).is_file() or (path / SAVED_SPLITS).is_file():
        return [file for file in sorted(path.rglob("*")) if file.is_file()]
    return local_files(path)


def _named(config: CorpusConfig) -> str:
    return shown(config.dataset, 200)


def _path(dataset: str) -> Path | None:
    try:
        path = user_path(dataset)
        return path if path.exists() else None
    except (OSError, ValueError):  # too long, a null byte
        return None


def _existing(config: CorpusConfig) -> Path:
    path = _path(config.dataset)
    if path is None:
        raise UserError(
            f"corpus.dataset={_named(config)}: unknown dataset; must be "
            f"{', '.join([EMBEDDED, *HUB_DATASETS])}, or a path that exists, or owner/name of a "
            f"dataset on the hub{counted_from(config.dataset)}"
        )
    return path


def _require_defaults(config: CorpusConfig, *names: str) -> None:
    """Refuse fields that mean nothing for this kind of dataset, rather than ignore them."""
    for name in names:
        value = getattr(config, name)
        if value != CorpusConfig.model_fields[name].default:
            raise UserError(
                f"corpus.{name}={shown(value)}: means nothing for corpus.dataset={_named(config)}"
            )
