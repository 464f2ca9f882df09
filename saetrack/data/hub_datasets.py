"""Datasets on the hub: streamed, only their text; an unreachable hub is one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from saetrack.data.config import CorpusConfig
from saetrack.data.local_files import kind_of, rows_of
from saetrack.data.rows import Row, checked, listed, no_field
from saetrack.utils.errors import UserError, first_line

# The first answer of the hub must come within these; what follows is asked for again.
FIRST_ANSWER_S = 8.0
# After 1, 2 and 4 s.
RETRIES = 3
# What a dataset's files may be. The others hold no text, or are unpacked by code.
FORMATS = {"parquet", "json", "csv", "text", "arrow"}
BY_FILE = {"json", "text"}


def hub_rows(repo: str, config: CorpusConfig) -> Iterator[Row]:
    """The rows of a dataset's split.

    All is read at the commit that the revision has when reading begins. No code of a repository is
    ever run, and its card cannot name files elsewhere.

    Raises:
        UserError: the hub cannot be reached, or has no such dataset, configuration or split.
    """
    with _in_one_line(f"corpus.dataset={config.dataset!r}"):
        builder = _opened(repo, config)
        if _kind(builder) in BY_FILE:
            yield from _rows_by_file(builder, config)
        else:
            yield from _rows_by_column(builder, config)


def hub_csv_files(repo: str, field: str) -> list[tuple[str, Callable[[], BinaryIO]]]:
    """The CSV files of a dataset, compressed or not, by name, and what opens each.

    Args:
        repo: of the dataset.
        field: of the config that names it, for messages.

    Raises:
        UserError: the hub cannot be reached, or has no such dataset.
    """
    with _in_one_line(f"{field}={repo!r}"):
        _settle_client()
        from datasets.download.streaming_download_manager import xopen

        info = _dataset_info(repo, None)
        names = sorted(file.rfilename for file in info.siblings or ())
        at = f"hf://datasets/{repo}@{info.sha}"
        return [
            (name, partial(xopen, f"{at}/{name}", "rb"))
            for name in names
            if kind_of(Path(name)) == ".csv"
        ]


def _dataset_info(repo: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        raise UserError("offline mode is on (HF_HUB_OFFLINE)")
    return HfApi().dataset_info(repo, revision=revision, timeout=FIRST_ANSWER_S)


def _opened(repo: str, config: CorpusConfig) -> Any:
    """What `datasets` knows of the files of a configuration."""
    _settle_client()
    from datasets import load_dataset_builder  # takes seconds to import

    info = _dataset_info(repo, config.revision)
    builder: Any = load_dataset_builder(repo, config.config, revision=info.sha)
    _require_own_files(repo, builder)
    splits = [str(split) for split in builder.config.data_files]
    if config.split not in splits:
        raise UserError(f"it has no split {config.split!r} (corpus.split), only {listed(splits)}")
    return builder


def _rows_by_file(builder: Any, config: CorpusConfig) -> Iterator[Row]:
    """As files on this machine are read: a field that only some files have does no harm."""
    from datasets.download.streaming_download_manager import xopen

    files = [str(file) for file in builder.config.data_files[config.split]]
    for file in files:
        yield from rows_of(file, partial(xopen, file, "rb"), config, alone=len(files) == 1)


def _rows_by_column(builder: Any, config: CorpusConfig) -> Iterator[Row]:
    field, rows = config.text_field, builder.as_streaming_dataset(split=config.split)
    names = rows.column_names
    if names is not None and field in names and hasattr(builder.config, "columns"):
        builder.config.columns = [field]  # Parquet: the other columns are not even fetched
        rows = builder.as_streaming_dataset(split=config.split)
    for number, row in enumerate(rows, 1):
        found = checked(row[field], field, names or row) if field in row else no_field(field, row)
        yield Row(f"row {number} of split {config.split}", found)


def _kind(builder: Any) -> str:
    return str(type(builder).__module__.rpartition(".")[2])


def _require_own_files(repo: str, builder: Any) -> None:
    """A repository's card lists data files; ones on this machine or elsewhere are not read."""
    if (kind := _kind(builder)) not in FORMATS:
        raise UserError(f"its files are of the kind {kind}; must be {', '.join(sorted(FORMATS))}")
    own = f"hf://datasets/{repo}@"
    for files in (builder.config.data_files or {}).values():
        for file in files:
            if not str(file).startswith(own):
                raise UserError(f"its card names a file outside the repository: {str(file)[:80]!r}")


@contextlib.contextmanager
def _in_one_line(asked: str) -> Iterator[None]:
    """Whatever goes wrong while a hub is read, as one line that begins with what was asked."""
    try:
        yield
    except ImportError as error:
        missing = error.name or first_line(error)
        raise UserError(
            f"{asked}: cannot be read without the package {missing}: pip install {missing}"
        ) from None
    except Exception as error:  # the libraries raise many kinds; the user needs the one reason
        raise UserError(f"{asked}: cannot be read: {first_line(error)}") from None


def _settle_client() -> None:
    """Let the client ask a few times only, without a word, and draw no bars."""
    import datasets
    from datasets import config
    from huggingface_hub import hf_file_system
    from huggingface_hub.utils import _http
    from huggingface_hub.utils import logging as hub_logging

    # Both libraries would ask again and again, for minutes in all.
    config.STREAMING_READ_MAX_RETRIES = config.STREAMING_OPEN_MAX_RETRIES = 1
    config.STREAMING_READ_RETRY_INTERVAL = config.STREAMING_OPEN_RETRY_INTERVAL = 0
    config.STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL = 0
    for ask in (_http.http_backoff, _http.http_stream_backoff):
        setattr(hf_file_system, ask.__name__, partial(ask, max_retries=RETRIES))
    datasets.logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
