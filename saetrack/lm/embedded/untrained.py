"""The tokenizer and the untrained weights of an embedded LM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.embedded.recipe import Recipe

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def new_model(spec: ModelSpec, recipe: Recipe) -> GPTNeoXForCausalLM:
    """An LM with the weights that its recipe's seed gives."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(recipe.seed)
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
