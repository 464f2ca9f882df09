"""Checkpoints of Pythia's shape with random weights, and a text, for a hub on this machine."""

from __future__ import annotations

import io
import math
import mmap
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from saetrack.data.config import HUB_DATASETS
from saetrack.data.embedded import embedded_documents
from saetrack.lm.embedded.training import train_tokenizer
from tests.support.faulty_hub import FaultyHub

DOCUMENTS = 1_200
# How far the weights of a later checkpoint are from the first one's, in their own spread.
MOVED = 0.1


class LMShape(NamedTuple):
    """An LM's name and shape."""

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    vocabulary: int

    @property
    def repo(self) -> str:
        """Where the hub has it."""
        return f"EleutherAI/{self.name}"


def add_random_lm(hub: FaultyHub, shape: LMShape, lm_step: int, folder: Path) -> None:
    """Serve a checkpoint, and with the first one its tokenizer; weights stay in a file."""
    folder.mkdir(exist_ok=True)
    config = _config(shape)
    path = folder / f"step{lm_step}.safetensors"
    save_file(_weights(config, lm_step), path, metadata={"format": "pt"})
    with path.open("rb") as file:
        weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    files = {"config.json": config.to_json_string().encode(), "model.safetensors": weights}
    hub.add(shape.repo, f"step{lm_step}", files)
    if lm_step == 0:
        tokenizer = train_tokenizer(_documents(), vocabulary=512)
        saved = tokenizer.save_pretrained(folder / "tokenizer")
        hub.add(shape.repo, "main", {Path(name).name: Path(name).read_bytes() for name in saved})


def add_text(hub: FaultyHub) -> None:
    """Serve a text under the name of the Pile."""
    file = io.BytesIO()
    parquet.write_table(pa.table({"text": _documents()}), file)
    hub.add(HUB_DATASETS["pile"], "main", {"data/train-0.parquet": file.getvalue()})


def _documents() -> list[str]:
    return list(islice(embedded_documents(), DOCUMENTS))


def _config(shape: LMShape) -> GPTNeoXConfig:
    config = GPTNeoXConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.d_model,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        intermediate_size=4 * shape.d_model,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
        dtype="float16",
    )
    config.architectures = ["GPTNeoXForCausalLM"]
    return config


def _weights(config: GPTNeoXConfig, lm_step: int) -> dict[str, Tensor]:
    """Drawn as Pythia's are; those of later checkpoints are moved."""
    with torch.device("meta"):
        shapes = {name: w.shape for name, w in GPTNeoXForCausalLM(config).state_dict().items()}
    d_model, n_layers = config.hidden_size, config.num_hidden_layers
    weights = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if name.endswith("bias") or "norm" in name:
            weights[name] = torch.full(shape, float(not name.endswith("bias"))).half()
            continue
        sd = math.sqrt(2 / (5 * d_model))
        if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
            sd = 2 / (n_layers * math.sqrt(d_model))
        weight = _drawn(shape, number, 0)
        if lm_step:
            weight += MOVED * _drawn(shape, number, lm_step)
        weights[name] = (sd * weight).half()
    return weights


def _drawn(shape: torch.Size, number: int, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(1_000 * step + number)
    return torch.randn(shape, generator=generator)
