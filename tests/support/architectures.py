"""A tiny LM of every architecture of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints import store
from saetrack.lm.checkpoints.hub_source import HubSource
from saetrack.lm.hook import Hook
from tests.support.tiny_lm import saved_files

VOCABULARY = 97
TOKENS = torch.randint(4, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
REPO = "someone/tiny"

SAME: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SAME | {"num_key_value_heads": 2}  # fewer keys than queries
# Rows are longer than the windows, and layers enough for each kind to occur.
CONFIGS: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "apertus": lambda: hf.ApertusConfig(**GROUPED),
    "bloom": lambda: hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4),
    "gemma2": lambda: hf.Gemma2Config(**GROUPED, head_dim=16, sliding_window=5),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_inner=64,
        n_positions=64,
        scale_attn_by_inverse_layer_idx=True,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SAME),
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "olmo": lambda: hf.OlmoConfig(**SAME, clip_qkv=0.1),
    "olmo2": lambda: hf.Olmo2Config(**GROUPED),
    "olmo3": lambda: hf.Olmo3Config(**GROUPED | {"num_hidden_layers": 5}, sliding_window=5),
    "olmoe": lambda: hf.OlmoeConfig(**SAME, num_experts=4, num_experts_per_tok=2),
    "opt": lambda: hf.OPTConfig(
        **{name: value for name, value in SAME.items() if name != "intermediate_size"},
        ffn_dim=64,
        word_embed_proj_dim=32,
    ),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=16),
    "smollm3": lambda: hf.SmolLM3Config(**GROUPED | {"num_hidden_layers": 5}),
}


def pre(layer: int) -> Hook:
    return Hook("resid_pre", layer)


def tiny(config: hf.PretrainedConfig) -> hf.PreTrainedModel:
    torch.manual_seed(1)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in model.parameters():  # fresh biases and norms would hide what is left out
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def in_a_cache(model: hf.PreTrainedModel, cache: Path) -> Path:
    """The folder of an LM's only checkpoint, fetched from a hub's cache."""
    store.publish(cache, REPO, "step5", saved_files(model, "model.safetensors"))
    store.publish(cache, REPO, "main", {"tokenizer.json": b"{}"})
    n_layers = model.config.num_hidden_layers
    spec = ModelSpec("tiny", REPO, "step{lm_step}", (5,), n_layers, 32, 64)
    source = HubSource(spec, REPO, cache, 10**9)
    return source.fetch(source.resolve([0])[0])
