"""Rows of tokens in three disjoint splits, made once and memory-mapped from then on."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.data.config import CorpusConfig
from saetrack.data.datasets import Documents, dataset_version, hub_repo, local_bytes
from saetrack.data.draft import Draft, Written, open_draft, rows_file
from saetrack.data.exclusion import NOTHING, Excluded
from saetrack.data.packing import RowPacker
from saetrack.data.splits import SPLITS, Split
from saetrack.data.tokenising import Counted, bos_of, special_ids, tokenised
from saetrack.utils.errors import UserError, shown
from saetrack.utils.files import content_hash, file_sha256
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, UInt32
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

# Raise when tokenising or packing changes, so that an old cache is not taken for a new one.
PACKING_VERSION = 1

META_FILE = "corpus.json"
COUNTED_ROWS, SHOWN_TOKENS = 8192, 10
_SHARES = "80 % are for train, 5 % for held_out and 15 % for analysis, by the hash of their text"


class ShortTextError(UserError):
    """A text has fewer tokens than are asked for.

    Attributes:
        had: tokens of each split, those at most that were asked for.
    """

    def __init__(self, line: str, had: dict[Split, int]) -> None:
        super().__init__(line)
        self.had = had


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens, each `context_size` long and beginning with BOS.

    Attributes:
        folder: holds a file of rows for each split.
        context_size: tokens of a row, BOS included.
        bos_token_id: the token that begins every document and row.
        sha256: of all rows.
        excluded: positions that no SAE is trained or measured on, BOS aside.
        notes: what of the text was left out, a line each.
        tokenizer: that made the rows, to name tokens.
    """

    folder: Path
    context_size: int
    bos_token_id: int
    sha256: str
    excluded: Excluded = NOTHING
    notes: tuple[str, ...] = field(default=(), compare=False)
    tokenizer: PreTrainedTokenizerFast | None = field(default=None, compare=False, repr=False)

    def rows(self, split: Split) -> UInt32[np.ndarray, "rows context_size"]:
        """The memory-mapped rows of a split."""
        flat = np.memmap(rows_file(self.folder, split), dtype=np.uint32, mode="r")
        return flat.reshape(-1, self.context_size)

    def kept(
        self, tokens: Int[Tensor, "rows context"], *, exclude_bos: bool
    ) -> Bool[Tensor, "rows context"]:
        """Which positions of rows are trained and measured on."""
        return self.left_out(exclude_bos=exclude_bos).kept(tokens)

    def left_out(self, *, exclude_bos: bool) -> Excluded:
        """What is left out of rows, BOS too if asked."""
        return self.excluded.and_token(self.bos_token_id) if exclude_bos else self.excluded


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
        UserError: the text cannot be read, or nothing of it is left.
        ShortTextError: it has fewer tokens than the config asks for.
    """
    folder = _folder_of(config, tokenizer_id, cache_dir)
    excluded = Excluded.of(config, tokenizer)
    if not folder.exists():
        with open_draft(folder, keep=hub_repo(config.dataset) is not None) as draft:
            if draft is not None:
                _write(config, tokenizer, draft)
    try:
        corpus = replace(_open(folder, config), excluded=excluded, tokenizer=tokenizer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: a cached corpus that cannot be read ({str(error).splitlines()[0]}); delete "
            "the folder and run again"
        ) from None
    for note in corpus.notes:
        log.warning("%s", note)
    excluded_notes = _excluded_notes(corpus, config, tokenizer)
    for note in excluded_notes:
        log.info("%s", note)
    return replace(corpus, notes=(*corpus.notes, *excluded_notes))


def corpus_here(
    config: CorpusConfig,
    tokenizer: PreTrainedTokenizerFast,
    tokenizer_id: str,
    cache_dir: Path,
    most_bytes: float,
) -> Corpus | None:
    """The tokenised corpus if the cache has that of the text as it is now; tokenises nothing.

    Args:
        config: as of `prepare_corpus`, like the next ones.
        tokenizer: of the LM.
        tokenizer_id: names the tokenizer's exact content.
        cache_dir: holds one folder per tokenised corpus.
        most_bytes: of files whose content may be read; of a larger text nothing is known.
    """
    if local_bytes(config) > most_bytes:
        return None
    folder = _folder_of(config, tokenizer_id, cache_dir)
    try:
        corpus = _open(folder, config)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(corpus, excluded=Excluded.of(config, tokenizer), tokenizer=tokenizer)


def _folder_of(config: CorpusConfig, tokenizer_id: str, cache_dir: Path) -> Path:
    key = content_hash(
        {
            "packing": PACKING_VERSION,
            "corpus": config.text_fields(),
            "source": dataset_version(config),
            "tokenizer": tokenizer_id,
        }
    )
    return cache_dir / "corpora" / key[:16]


def _open(folder: Path, config: CorpusConfig) -> Corpus:
    meta = json.loads((folder / META_FILE).read_text())
    row_bytes = config.context_size * np.dtype(np.uint32).itemsize
    for split, n_rows in _wanted_rows(config).items():
        file = rows_file(folder, split)
        if file.stat().st_size != n_rows * row_bytes:
            raise ValueError(f"{file.name} must have {n_rows * row_bytes} bytes")
    bos_token_id, sha256 = int(meta["bos_token_id"]), str(meta["sha256"])
    left_out = meta.get("left_out")
    notes = (str(left_out),) if left_out else ()
    return Corpus(folder, config.context_size, bos_token_id, sha256, notes=notes)


def _excluded_notes(
    corpus: Corpus, config: CorpusConfig, tokenizer: PreTrainedTokenizerFast
) -> list[str]:
    """Which positions of the text are not trained on.

    Raises:
        UserError: nothing is left of it.
    """
    if corpus.excluded == NOTHING and not config.exclude_bos:
        return []
    rows = corpus.rows("train")
    left_out, counts = 0, np.zeros(0, dtype=np.int64)
    for begin in range(0, len(rows), COUNTED_ROWS):
        tokens = torch.from_numpy(rows[begin : begin + COUNTED_ROWS].astype(np.int64))
        of_rows = tokens[~corpus.kept(tokens, exclude_bos=config.exclude_bos)].numpy()
        left_out += len(of_rows)
        of_rows = np.bincount(of_rows, minlength=len(counts))
        of_rows[: len(counts)] += counts
        counts = of_rows
    if left_out == rows.size:
        raise UserError("corpus.exclude_tokens: leave nothing of the text")
    most = [int(token_id) for token_id in np.argsort(-counts)[:SHOWN_TOKENS] if counts[token_id]]
    names = [f"{tokenizer.decode([token_id])!r} {counts[token_id]:,}" for token_id in most]
    more = " and others" if np.count_nonzero(counts) > SHOWN_TOKENS else ""
    line = (
        f"{left_out:,} of {rows.size:,} training positions ({100 * left_out / rows.size:.1f} %) "
        f"are left out of training and metrics: {', '.join(names)}{more}"
    )
    return [line]


def _write(config: CorpusConfig, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the rows of every split and `corpus.json` into `folder`, or those that it lacks."""
    bos_token_id = bos_of(tokenizer)
    with Draft(folder, config.context_size) as draft:
        documents = Documents(config)
        found = _fill(documents, config, tokenizer, bos_token_id, draft)
    _require_enough(config, found)
    hashes = {split: file_sha256(rows_file(folder, split)) for split in SPLITS}
    meta = {
        "context_size": config.context_size,
        "bos_token_id": bos_token_id,
        "dataset": config.dataset,
        "sha256": content_hash(hashes),
        "left_out": documents.left_out_line(),
    }
    (folder / META_FILE).write_text(json.dumps(meta, indent=1))


def _fill(
    read: Documents,
    config: CorpusConfig,
    tokenizer: PreTrainedTokenizerFast,
    bos_token_id: int,
    draft: Draft,
) -> Written:
    done = draft.progress
    missing_rows = {split: n - done.rows[split] for split, n in _wanted_rows(config).items()}
    packers = {
        split: RowPacker(config.context_size, bos_token_id, done.rest[split]) for split in SPLITS
    }
    if done.documents:
        log.info("%s: tokenising goes on after %d documents", config.dataset, done.documents)
    progress = Progress(
        f"tokenising {config.dataset}",
        sum(wanted_tokens(config).values()),
        "tokens",
        sum(done.rows.values()) * config.context_size,
    )
    documents = Counted(read, done.documents)
    removed = special_ids(tokenizer) if config.special_tokens == "removed" else frozenset()
    for batch in tokenised(documents, tokenizer, missing_rows, removed):
        for split, tokens in batch:
            rows = packers[split].add(tokens)[: missing_rows[split]]
            draft.append(split, rows)
            missing_rows[split] -= len(rows)
            done.taken[split] += 1
            done.rest[split] = packers[split].rest
            progress.advance(len(rows) * config.context_size)
        done.documents = documents.count
        draft.save_now_and_then()
    return done


def _require_enough(config: CorpusConfig, found: Written) -> None:
    wanted = wanted_tokens(config)
    had = {split: min(found.rows[split] * config.context_size, n) for split, n in wanted.items()}
    for split, n_wanted in wanted.items():
        if had[split] < n_wanted:
            each = ", ".join(
                f"{name} {had[name]:,} of {wanted[name]:,} tokens from {found.taken[name]:,} "
                "documents"
                for name in SPLITS
            )
            raise ShortTextError(
                f"corpus.{split}_tokens={n_wanted}: at most {had[split]} can be had from "
                f"{shown(config.dataset, 200)}. Of its {found.documents:,} documents {_SHARES}: "
                f"{each}. {_remedy(had, wanted)}",
                had,
            )


def _remedy(had: dict[Split, int], wanted: dict[Split, int]) -> str:
    if min(had.values()) == 0:
        return "Give more documents, or shorter ones (corpus.separator cuts text files)"
    factor = max(wanted[split] / had[split] for split in SPLITS)
    return f"Give about {factor:,.1f} times as much text, or ask for less"


def wanted_tokens(config: CorpusConfig) -> dict[Split, int]:
    """Tokens that a config asks for, of each split."""
    return {
        "train": config.train_tokens,
        "held_out": config.held_out_tokens,
        "analysis": config.analysis_tokens,
    }


def _wanted_rows(config: CorpusConfig) -> dict[Split, int]:
    """Rows of each split, rounded up."""
    return {split: -(-n // config.context_size) for split, n in wanted_tokens(config).items()}
