"""Writes the files of a life store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.analysis.life_store.layout import MANIFEST_FILE, TOKENS_FILE, VOCABULARY_FILE
from saetrack.analysis.life_store.manifest import ArrayFacts, Manifest

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy import ndarray


def write_arrays(folder: Path, arrays: Mapping[str, ndarray]) -> None:
    """Write arrays as `NAME.npy`, little-endian, into a folder that may exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        np.save(folder / f"{name}.npy", little, allow_pickle=False)


def write_text(
    folder: Path, token_rows: Int[ndarray, "rows context"], vocabulary: Sequence[str]
) -> ArrayFacts:
    """Write the analysis split and the texts of all tokens.

    Returns:
        dtype and shape of the tokens, for the manifest.
    """
    dtype = np.uint16 if len(vocabulary) <= 2**16 else np.uint32
    tokens = token_rows.astype(dtype)
    write_arrays(folder, {TOKENS_FILE.removesuffix(".npy"): tokens})
    (folder / VOCABULARY_FILE).write_bytes(json.dumps(list(vocabulary)).encode())
    return facts_of(tokens)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, without which the folder is no store: last."""
    (folder / MANIFEST_FILE).write_bytes(manifest.model_dump_json().encode())


def facts_of(array: ndarray) -> ArrayFacts:
    """An array's dtype and shape, for the manifest."""
    kind: Any = f"{array.dtype.kind}{array.dtype.itemsize}"
    return ArrayFacts(dtype=kind, shape=list(array.shape))
