"""Which split a document belongs to: training, held-out metrics, or analysis."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "held_out", "analysis"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "analysis")

# Shares of all documents; the rest is for training.
HELD_OUT_SHARE = 0.05
ANALYSIS_SHARE = 0.15


def split_of(document: str) -> Split:
    """The split of a document, by the hash of its text.

    Equal texts land in the same split, so a repeated document cannot leak from train to held-out,
    and the assignment depends neither on order nor on how much of a corpus is read.
    """
    first_bytes = hashlib.sha256(document.encode()).digest()[:8]
    uniform = int.from_bytes(first_bytes, "big") / 2**64  # from 0 to 1
    if uniform < HELD_OUT_SHARE:
        return "held_out"
    return "analysis" if uniform < HELD_OUT_SHARE + ANALYSIS_SHARE else "train"
