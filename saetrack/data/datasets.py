"""Where documents come from: the embedded text, datasets on the hub, local files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saetrack.data.config import HUB_DATASETS
from saetrack.data.embedded import embedded_documents, embedded_text_version
from saetrack.utils.errors import UserError
from saetrack.utils.files import file_sha256

EMBEDDED = "mini"


def require_dataset(dataset: str) -> None:
    """Check that a dataset exists, as far as this can be known without asking a hub.

    Raises:
        UserError: it is neither a known name nor a path that exists.
    """
    known = [EMBEDDED, *HUB_DATASETS]
    if dataset not in known and not Path(dataset).expanduser().exists():
        raise UserError(
            f"corpus.dataset={dataset!r}: unknown dataset; must be {', '.join(known)}, or a path "
            "that exists"
        )


def read_documents(dataset: str) -> Iterable[str]:
    """The documents of a dataset; one on the hub is streamed.

    Raises:
        UserError: it cannot be read.
    """
    if dataset == EMBEDDED:
        return embedded_documents()
    from datasets import load_dataset  # takes seconds to import

    source: dict[str, Any]
    if dataset in HUB_DATASETS:
        source = {"path": HUB_DATASETS[dataset], "streaming": True}
    else:
        source = _local_source(dataset)
    try:
        rows = load_dataset(**source, split="train")
    except Exception as error:  # the library raises many kinds; the user needs the one reason
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"corpus.dataset={dataset!r}: cannot be read: {reason}") from None
    return (str(row["text"]) for row in rows)


def dataset_version(dataset: str) -> Any:
    """What a dataset's content depends on, JSON-able: a cache made from it is valid as long."""
    if dataset == EMBEDDED:
        return embedded_text_version()
    if dataset in HUB_DATASETS:
        return HUB_DATASETS[dataset]
    return [[file.name, file_sha256(file)] for file in _local_files(dataset)]


def _local_files(dataset: str) -> list[Path]:
    """The .txt and .jsonl files that a path names, sorted."""
    path = Path(dataset).expanduser()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.suffix in (".txt", ".jsonl")]


def _local_source(dataset: str) -> dict[str, Any]:
    files = _local_files(dataset)
    kinds = {file.suffix for file in files}
    if len(kinds) != 1:
        raise UserError(
            f"corpus.dataset={dataset!r}: must hold .txt or .jsonl files (with a field 'text'), "
            f"not both; found {sorted(kinds) or 'none'}"
        )
    names = [str(file) for file in files]
    if kinds == {".txt"}:
        return {"path": "text", "data_files": names, "sample_by": "document"}
    return {"path": "json", "data_files": names}
