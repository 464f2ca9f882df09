"""LMs of a few weights as files, to be published on a hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)


def saved_files(model: PreTrainedModel, weights: str) -> dict[str, bytes]:
    """A checkpoint's files by name, its weights as safetensors or as torch wrote them."""
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
        if weights == "pytorch_model.bin":  # Stanford's revisions hold no safetensors
            torch.save(load(files.pop("model.safetensors")), Path(name) / weights)
            files[weights] = (Path(name) / weights).read_bytes()
    return files


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}


def tiny_neox(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Two blocks of width 32 and a vocabulary of 97; its head is its own."""
    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{"vocab_size": 97, **SIZES} | changes)).eval()


def tiny_llama(vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """The same of a Llama, with half as many keys as queries."""
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, **SIZES)
    return LlamaForCausalLM(config).eval()


def save_again(checkpoint: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Save a checkpoint's weights as something has changed them."""
    file = checkpoint / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})
