"""Live folders for tests: checkpoints without an LM, whole and broken."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.open import open_source

CONFIG = {"num_hidden_layers": 2, "hidden_size": 8, "max_position_embeddings": 16}


def look_into(live: Path, cache_dir: Path) -> FolderSource:
    source = open_source(find_lm(str(live)), cache_dir, limit_bytes=0)
    assert isinstance(source, FolderSource)
    return source


def weights(value: float) -> bytes:
    return save({"a": np.full((4, 8), value, np.float32), "b": np.zeros(3, np.float32)})


def write(live: Path, lm_step: int, value: float | None = None, name: str = "checkpoint-") -> Path:
    path = live / f"{name}{lm_step}"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "model.safetensors").write_bytes(weights(lm_step if value is None else value))
    return path


def shard(path: Path) -> None:
    """As a large model is saved."""
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        (path / name).write_bytes(weights(len(name)))
    (path / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict(zip("ab", names, strict=True))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def pickle(path: Path) -> None:
    """As old releases save; a .bin is a zip."""
    (path / "model.safetensors").unlink()
    with zipfile.ZipFile(path / "pytorch_model.bin", "w") as file:
        file.writestr("archive/data.pkl", b"0" * 5000)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def commits(source: FolderSource) -> list[str]:
    return [c.commit for c in source.resolve(list(range(len(source.spec.lm_steps))))]
