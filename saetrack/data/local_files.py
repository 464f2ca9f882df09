"""Files of text on this machine, each read row by row: what is wrong is said with its line."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from saetrack.data.config import CorpusConfig
from saetrack.data.rows import Problem, Row, checked, no_field, text_of
from saetrack.utils.errors import UserError, first_line, shown

COMPRESSED = (".gz", ".zst")
# A .txt or .md file that is larger than this, or that stands alone, holds more than one document.
ONE_DOCUMENT_CHARACTERS = 1_000_000
CSV_FIELD_BYTES = 2**31 - 1

# What gzip, Arrow (whose errors are among these) and JSON raise about broken files.
READ_ERRORS = (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error)

Rows = Iterator[tuple[int, str | Problem]]


class BrokenFileError(Exception):
    """A file cannot be read on from some line."""


def local_files(path: Path) -> list[Path]:
    """The files of text that a path names, sorted; hidden ones are left out."""
    if path.is_file():
        return [path] if kind_of(path) else []
    return [
        file
        for file in sorted(path.rglob("*"))
        if kind_of(file)
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file is read, such as .jsonl of `a.jsonl.gz`."""
    name = path.name.lower()
    for compression in COMPRESSED:
        name = name.removesuffix(compression)
    suffix = Path(name).suffix
    return suffix if suffix in SUFFIXES else None


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes."""
    return path.open("rb")


def rows_of(
    name: str, open_file: Callable[[], BinaryIO], config: CorpusConfig, *, alone: bool
) -> Iterator[Row]:
    """The documents of a file.

    Args:
        name: of the file; its suffix says how it is read.
        open_file: gives its bytes.
        config: names the field, or column, and the separator.
        alone: whether it is the only file of the dataset.

    Raises:
        UserError: the file cannot be read to its end.
    """
    kind = kind_of(Path(name))
    unit = "line" if kind in BY_LINE else "row"
    try:
        with open_file() as packed, _unpacked(packed, name) as stream:
            if kind in TEXT:
                rows = _text_documents(stream, config.separator, alone=alone)
            else:
                rows = TABLES[str(kind)](stream, config.text_field)
            for number, text in rows:
                yield Row(f"{name}: {unit} {number}", text)
    except (BrokenFileError, *READ_ERRORS) as error:
        dataset = shown(config.dataset)
        raise UserError(f"corpus.dataset={dataset}: {name}: {first_line(error)}") from None


def csv_records(
    name: str, open_file: Callable[[], BinaryIO]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, compressed or not, by the names of its columns, with their lines.

    Raises:
        BrokenFileError: the file cannot be read on from some line.
    """
    try:
        with open_file() as packed, _unpacked(packed, name) as stream:
            yield from _csv_records(stream)
    except READ_ERRORS as error:
        raise BrokenFileError(first_line(error)) from None


def _unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    if name.lower().endswith(".gz"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if name.lower().endswith(".zst"):
        import pyarrow as pa

        return cast("BinaryIO", io.BufferedReader(pa.input_stream(stream, compression="zstd")))
    return stream


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | Problem]]:
    """Lines with their ends, decoded one by one so that a wrong byte has a line."""
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            reason = f"is not UTF-8 (byte {byte:#x} at column {error.start + 1}); save it as UTF-8"
            yield number, Problem(reason)
        else:
            yield number, text.replace("\r\n", "\n")


def _whole_lines(stream: BinaryIO) -> Iterator[str]:
    for number, line in _lines(stream):
        if isinstance(line, Problem):
            raise BrokenFileError(f"line {number} {line.reason}")
        yield line


def _text_documents(stream: BinaryIO, separator: str | None, *, alone: bool) -> Rows:
    """The text in pieces, by the rule of `CorpusConfig.separator`."""
    lines = _lines(stream)
    if separator is None and not alone:
        head, characters = [], 0
        for number, line in lines:
            head.append((number, line))
            characters += 0 if isinstance(line, Problem) else len(line)
            if characters > ONE_DOCUMENT_CHARACTERS:
                break
        else:
            yield from ((number, line) for number, line in head if isinstance(line, Problem))
            yield 1, "".join(line for _, line in head if isinstance(line, str))
            return
        lines = itertools.chain(head, lines)
    pieces = _paragraphs(lines) if separator is None else _separated(lines, separator)
    for number, piece in pieces:
        if isinstance(piece, Problem):
            yield number, piece
        elif piece.strip():
            yield number, piece.strip("\n")


def _paragraphs(lines: Rows) -> Rows:
    text: list[str] = []
    begins = 1
    for number, line in lines:
        if isinstance(line, Problem):
            yield number, line
        elif line.strip():
            text.append(line)
        else:
            yield begins, "".join(text)
            text, begins = [], number + 1
    yield begins, "".join(text)


def _separated(lines: Rows, separator: str) -> Rows:
    text, begins, searched = "", 1, 0
    for number, line in lines:
        if isinstance(line, Problem):
            yield number, line
            continue
        text += line  # in time linear in the text: CPython extends a text that nothing else holds
        if text.find(separator, searched) >= 0:
            *whole, text = text.split(separator)
            for piece in whole:
                yield begins, piece
            begins = number
        searched = max(len(text) - len(separator) + 1, 0)
    yield begins, text


def _jsonl(stream: BinaryIO, field: str) -> Rows:
    for number, line in _lines(stream):
        if isinstance(line, Problem):
            yield number, line
        elif line.strip():
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                column = f" at column {error.colno}" if isinstance(error, ValueError) else ""
                yield number, Problem(f"is not JSON: {str(error).partition(':')[0]}{column}")
            else:
                yield number, text_of(record, field)


def _json(stream: BinaryIO, field: str) -> Rows:
    """A list of objects, one object, or lines that each hold one."""
    whole = "".join(_whole_lines(stream))
    try:
        content = json.loads(whole)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _jsonl(io.BytesIO(whole.encode()), field)
            return
        raise BrokenFileError(
            f"line {error.lineno} is not JSON: {error.msg} at column {error.colno}"
        ) from None
    for number, record in enumerate(content if isinstance(content, list) else [content], 1):
        yield number, text_of(record, field)


def _csv(stream: BinaryIO, field: str) -> Rows:
    for number, record in _csv_records(stream):
        yield number, text_of(record, field)


def _csv_records(stream: BinaryIO) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(CSV_FIELD_BYTES)
    records = csv.DictReader(_whole_lines(stream), strict=True)
    try:
        for record in records:
            yield records.line_num, record
    except csv.Error as error:
        raise BrokenFileError(f"line {records.line_num} is not CSV: {error}") from None


def _parquet(stream: BinaryIO, field: str) -> Rows:
    from pyarrow import parquet

    with parquet.ParquetFile(_seekable(stream)) as file:
        names = file.schema_arrow.names
        if field not in names:
            yield 1, no_field(field, names)
            return
        yield from _columns(file.iter_batches(1024, columns=[field]), field, names)


def _arrow(stream: BinaryIO, field: str) -> Rows:
    """Arrow's two formats: a file, or a stream, which `datasets` writes."""
    from pyarrow import ipc

    batches: Iterator[Any]
    if cast("Any", stream).peek(6)[:6] == b"ARROW1":
        file = ipc.open_file(_seekable(stream))
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
        names = file.schema.names
    else:
        opened = ipc.open_stream(stream)
        batches, names = iter(opened), opened.schema.names
    if field not in names:
        yield 1, no_field(field, names)
        return
    yield from _columns(batches, field, names)


def _seekable(stream: BinaryIO) -> BinaryIO:
    """A file as it is, the content of a compressed one in memory."""
    is_plain = isinstance(stream, io.BufferedReader) and stream.seekable()
    return stream if is_plain else io.BytesIO(stream.read())


def _columns(batches: Iterator[Any], field: str, names: list[str]) -> Rows:
    number = 0
    for batch in batches:
        for value in batch.column(batch.schema.names.index(field)).to_pylist():
            number += 1
            yield number, checked(value, field, names)


TEXT = (".txt", ".md")
TABLES: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
SUFFIXES = (*TEXT, *TABLES)
# Of these the number of a row is that of a line.
BY_LINE = (*TEXT, ".jsonl", ".csv")
