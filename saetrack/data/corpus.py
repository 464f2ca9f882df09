"""Rows of tokens in three disjoint splits, made once and memory-mapped from then on."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saetrack.data.config import CorpusConfig
from saetrack.data.datasets import dataset_version, read_documents
from saetrack.data.packing import RowPacker
from saetrack.data.splits import SPLITS, Split
from saetrack.data.tokenising import bos_of, tokenised
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, file_sha256, whole_folder
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import UInt32
    from transformers import PreTrainedTokenizerFast

# Raise when tokenising or packing changes, so that an old cache is not taken for a new one.
PACKING_VERSION = 1

META_FILE = "corpus.json"


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens, each `context_size` long and beginning with BOS.

    Attributes:
        folder: holds a file of rows for each split.
        context_size: tokens of a row, BOS included.
        bos_token_id: the token that begins every document and row.
        sha256: of all rows.
    """

    folder: Path
    context_size: int
    bos_token_id: int
    sha256: str

    def rows(self, split: Split) -> UInt32[np.ndarray, "rows context_size"]:
        """The memory-mapped rows of a split."""
        flat = np.memmap(_rows_file(self.folder, split), dtype=np.uint32, mode="r")
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
            "source": dataset_version(config),
            "tokenizer": tokenizer_id,
        }
    )
    folder = cache_dir / "corpora" / key[:16]
    if not (folder / META_FILE).exists():
        with whole_folder(folder) as draft:
            _write(config, tokenizer, draft)
    try:
        return _open(folder, config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: a cached corpus that cannot be read ({str(error).splitlines()[0]}); delete "
            "the folder and run again"
        ) from None


def _open(folder: Path, config: CorpusConfig) -> Corpus:
    meta = json.loads((folder / META_FILE).read_text())
    row_bytes = config.context_size * np.dtype(np.uint32).itemsize
    for split, n_rows in _wanted_rows(config).items():
        file = _rows_file(folder, split)
        if file.stat().st_size != n_rows * row_bytes:
            raise ValueError(f"{file.name} must have {n_rows * row_bytes} bytes")
    return Corpus(folder, config.context_size, int(meta["bos_token_id"]), str(meta["sha256"]))


def _write(config: CorpusConfig, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the rows of every split and `corpus.json` into `folder`."""
    bos_token_id = bos_of(tokenizer)
    missing_rows = _wanted_rows(config)
    packers = {split: RowPacker(config.context_size, bos_token_id) for split in SPLITS}
    total_tokens = sum(_wanted_tokens(config).values())
    progress = Progress(f"tokenising {config.dataset}", total_tokens, "tokens")
    documents = read_documents(config)
    with contextlib.ExitStack() as stack:
        files = {
            split: stack.enter_context(_rows_file(folder, split).open("wb")) for split in SPLITS
        }
        for split, tokens in tokenised(documents, tokenizer, missing_rows):
            rows = packers[split].add(tokens)[: missing_rows[split]]
            files[split].write(np.asarray(rows, dtype=np.uint32).tobytes())
            missing_rows[split] -= len(rows)
            progress.advance(len(rows) * config.context_size)
    _require_enough(config, missing_rows)
    hashes = {split: file_sha256(_rows_file(folder, split)) for split in SPLITS}
    meta = {
        "context_size": config.context_size,
        "bos_token_id": bos_token_id,
        "dataset": config.dataset,
        "sha256": content_hash(hashes),
    }
    (folder / META_FILE).write_text(json.dumps(meta, indent=1))


def _require_enough(config: CorpusConfig, missing_rows: dict[Split, int]) -> None:
    for split, wanted_tokens in _wanted_tokens(config).items():
        if missing_rows[split]:
            found_tokens = max(wanted_tokens - missing_rows[split] * config.context_size, 0)
            raise UserError(
                f"corpus.{split}_tokens={wanted_tokens}: at most {found_tokens} can be had from "
                f"{config.dataset}"
            )


def _wanted_tokens(config: CorpusConfig) -> dict[Split, int]:
    return {
        "train": config.train_tokens,
        "held_out": config.held_out_tokens,
        "analysis": config.analysis_tokens,
    }


def _wanted_rows(config: CorpusConfig) -> dict[Split, int]:
    """Rows of each split, rounded up."""
    return {split: -(-n // config.context_size) for split, n in _wanted_tokens(config).items()}


def _rows_file(folder: Path, split: Split) -> Path:
    return folder / f"{split}.u32"
