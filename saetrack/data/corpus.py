"""Text to fixed rows of tokens, in three disjoint splits, tokenised once and memory-mapped."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.data.config import HUB_DATASETS, CorpusConfig
from saetrack.data.documents import (
    SPLITS,
    Split,
    embedded_documents,
    embedded_text_version,
    split_of,
)
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, file_sha256, whole_folder
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

# Raise when tokenising or packing changes, so that an old cache is not taken for a new one.
PACKING_VERSION = 1
TOKENISE_BATCH_DOCUMENTS = 256


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens, each `context_size` long and beginning with BOS."""

    folder: Path
    context_size: int
    bos_token_id: int
    sha256: str

    def rows(self, split: Split) -> NDArray[np.uint32]:
        """The memory-mapped rows of a split, (rows, context_size)."""
        flat = np.memmap(self.folder / f"{split}.u32", dtype=np.uint32, mode="r")
        return flat.reshape(-1, self.context_size)


def prepare_corpus(
    config: CorpusConfig, tokenizer: PreTrainedTokenizerFast, tokenizer_id: str, cache_dir: Path
) -> Corpus:
    """Open the tokenised corpus, making it first if the cache has none.

    Args:
        config: what to read and how much.
        tokenizer: of the LM; its BOS (or else EOS) begins every document and row.
        tokenizer_id: names the tokenizer's exact content, for the cache key.
        cache_dir: holds one folder per tokenised corpus.

    Raises:
        UserError: the text cannot be read, or has fewer tokens than the config asks for.
    """
    key = content_hash(
        {
            "packing": PACKING_VERSION,
            "corpus": config.text_fields(),
            "source": _source_version(config.dataset),
            "tokenizer": tokenizer_id,
        }
    )
    folder = cache_dir / "corpora" / key[:16]
    if not (folder / "corpus.json").exists():
        with whole_folder(folder) as draft:
            _tokenise(config, tokenizer, draft)
    try:
        return _open(folder, config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: a cached corpus that cannot be read ({str(error).splitlines()[0]}); delete "
            "the folder and run again"
        ) from None


def _open(folder: Path, config: CorpusConfig) -> Corpus:
    meta = json.loads((folder / "corpus.json").read_text())
    for split, tokens in _wanted_tokens(config).items():
        row_bytes = config.context_size * np.dtype(np.uint32).itemsize
        expected_bytes = -(-tokens // config.context_size) * row_bytes
        if (folder / f"{split}.u32").stat().st_size != expected_bytes:
            raise ValueError(f"{split}.u32 must have {expected_bytes} bytes")
    return Corpus(folder, config.context_size, int(meta["bos_token_id"]), str(meta["sha256"]))


class RowPacker:
    """Joins documents and cuts them into rows; every document and every row begins with BOS.

    What a full row cuts off goes on in the next one, behind a fresh BOS (the packing of the
    authors' code, less its dropped remainders).
    """

    def __init__(self, context_size: int, bos_token_id: int) -> None:
        self._context_size = context_size
        self._bos = bos_token_id
        self._row: list[int] = []

    def add(self, document: list[int]) -> list[list[int]]:
        """Append a document's tokens; the rows that became full by it."""
        full = []
        rest = [self._bos, *document]
        while rest:
            if not self._row and rest[0] != self._bos:
                self._row = [self._bos]
            room = self._context_size - len(self._row)
            self._row += rest[:room]
            rest = rest[room:]
            if len(self._row) == self._context_size:
                full.append(self._row)
                self._row = []
        return full


def bos_of(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id that begins documents: BOS, or EOS where a tokenizer has no BOS."""
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise UserError("corpus: the LM's tokenizer has neither a BOS nor an EOS token")


def read_documents(dataset: str) -> Iterable[str]:
    """Documents of `mini` (embedded), of a known hub dataset (streamed), or of local files."""
    if dataset == "mini":
        return embedded_documents()
    from datasets import load_dataset

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


def require_dataset(dataset: str) -> None:
    """Check that a dataset exists, as far as can be known without asking a hub.

    Raises:
        UserError: it is neither a known name nor a path that exists.
    """
    known = ["mini", *HUB_DATASETS]
    if dataset not in known and not Path(dataset).expanduser().exists():
        raise UserError(
            f"corpus.dataset={dataset!r}: unknown dataset; must be {', '.join(known)}, or a path "
            "that exists"
        )


def local_files(dataset: str) -> list[Path]:
    """The .txt and .jsonl files that a local `dataset` names, sorted."""
    path = Path(dataset).expanduser()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.suffix in (".txt", ".jsonl")]


def _local_source(dataset: str) -> dict[str, Any]:
    files = local_files(dataset)
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


def _source_version(dataset: str) -> Any:
    if dataset == "mini":
        return embedded_text_version()
    if dataset in HUB_DATASETS:
        return HUB_DATASETS[dataset]
    return [[file.name, file_sha256(file)] for file in local_files(dataset)]


def _wanted_tokens(config: CorpusConfig) -> dict[Split, int]:
    return {
        "train": config.train_tokens,
        "held_out": config.held_out_tokens,
        "analysis": config.analysis_tokens,
    }


def _tokenise(config: CorpusConfig, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write `<split>.u32` and `corpus.json` into `folder`."""
    bos = bos_of(tokenizer)
    wanted_tokens = _wanted_tokens(config)
    missing_rows = {split: -(-n // config.context_size) for split, n in wanted_tokens.items()}
    packers = {split: RowPacker(config.context_size, bos) for split in SPLITS}
    progress = Progress(f"tokenising {config.dataset}", sum(wanted_tokens.values()), "tokens")
    with contextlib.ExitStack() as stack:
        files = {
            split: stack.enter_context((folder / f"{split}.u32").open("wb")) for split in SPLITS
        }
        for split, tokens in _tokenised_documents(config.dataset, tokenizer, missing_rows):
            rows = packers[split].add(tokens)[: missing_rows[split]]
            files[split].write(np.asarray(rows, dtype=np.uint32).tobytes())
            missing_rows[split] -= len(rows)
            progress.advance(len(rows) * config.context_size)
    for split, rows_short in missing_rows.items():
        if rows_short:
            held = wanted_tokens[split] - rows_short * config.context_size
            raise UserError(
                f"corpus.{split}_tokens={wanted_tokens[split]}: at most {max(held, 0)} "
                f"can be had from {config.dataset}"
            )
    meta = {
        "context_size": config.context_size,
        "bos_token_id": bos,
        "dataset": config.dataset,
        "sha256": content_hash({split: file_sha256(folder / f"{split}.u32") for split in SPLITS}),
    }
    (folder / "corpus.json").write_text(json.dumps(meta, indent=1))


def _tokenised_documents(
    dataset: str, tokenizer: PreTrainedTokenizerFast, missing_rows: dict[Split, int]
) -> Iterator[tuple[Split, list[int]]]:
    """Documents as tokens with their split, read until no split misses any rows."""
    wanted = (
        (split, document)
        for document in itertools.takewhile(
            lambda _: any(missing_rows.values()), read_documents(dataset)
        )
        if missing_rows[split := split_of(document)]
    )
    while batch := list(itertools.islice(wanted, TOKENISE_BATCH_DOCUMENTS)):
        texts = [document for _, document in batch]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        yield from zip((split for split, _ in batch), encoded, strict=True)
