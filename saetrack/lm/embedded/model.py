"""Embedded LMs before their training: small ones of Pythia's and of GPT-2's architecture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.embedded.recipe import Recipe

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, GPTNeoXForCausalLM, PreTrainedModel


def new_model(spec: ModelSpec, recipe: Recipe) -> PreTrainedModel:
    """An LM with the weights that its recipe's seed gives."""
    torch.manual_seed(recipe.seed)
    return _gpt2(spec, recipe) if recipe.architecture == "gpt2" else _gpt_neox(spec, recipe)


def _gpt_neox(spec: ModelSpec, recipe: Recipe) -> GPTNeoXForCausalLM:
    """As Pythia: parallel blocks, rotary positions on a quarter, untied embeddings."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM(  # rotary 25 % and untied embeddings are its defaults
        GPTNeoXConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=spec.d_model,
            num_hidden_layers=spec.n_layers,
            num_attention_heads=recipe.n_heads,
            intermediate_size=4 * spec.d_model,
            max_position_embeddings=spec.max_context,
            initializer_range=math.sqrt(2 / (5 * spec.d_model)),
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    # As in Pythia: what writes into the residual stream starts smaller, by depth.
    for name, weight in model.named_parameters():
        if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
            torch.nn.init.normal_(weight, std=2 / (spec.n_layers * math.sqrt(spec.d_model)))
    return model


def _gpt2(spec: ModelSpec, recipe: Recipe) -> GPT2LMHeadModel:
    """As Stanford's models: GPT-2's own initial weights, learned positions, tied embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocabulary,
            n_embd=spec.d_model,
            n_layer=spec.n_layers,
            n_head=recipe.n_heads,
            n_positions=spec.max_context,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
