"""Embedded LMs are what the catalogue says of them."""

from __future__ import annotations

import pytest
import torch

from saetrack.lm.catalog.architectures import has_resid_mid
from saetrack.lm.catalog.models import EMBEDDED, find_model
from saetrack.lm.embedded.model import new_model
from saetrack.lm.embedded.recipe import RECIPES, learning_rate, recipe_key
from saetrack.lm.embedded.training import next_token_loss


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_model_has_the_shape_of_the_catalogue(name: str) -> None:
    spec, recipe = find_model(name), RECIPES[name]
    config = new_model(spec, recipe).config
    assert config.model_type == recipe.architecture
    assert (config.num_hidden_layers, config.hidden_size) == (spec.n_layers, spec.d_model)
    assert config.max_position_embeddings == spec.max_context
    assert has_resid_mid(config.to_dict()) == spec.has_resid_mid
    assert learning_rate(spec).at(recipe.warmup_lm_steps) == recipe.learning_rate


@pytest.mark.parametrize(
    ("name", "parameters"), [("mini", 1_841_920), ("mini-gpt2", 1_334_016), ("small", 10_512_896)]
)
def test_sizes_are_those_of_the_documentation(name: str, parameters: int) -> None:
    model = new_model(find_model(name), RECIPES[name])
    assert model.num_parameters() == parameters


def test_seeds_are_other_lms_of_one_recipe() -> None:
    names = ("mini", "mini-lm-seed1", "mini-lm-seed2")
    firsts = [
        next(new_model(find_model(name), RECIPES[name]).parameters()).detach()
        for name in (*names, "mini")
    ]
    assert torch.equal(firsts[0], firsts[3])
    assert not torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[1], firsts[2])
    assert len({recipe_key(find_model(name)) for name in names}) == 3


def test_the_loss_of_next_tokens_is_that_of_shifted_rows_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, requires_grad=True)
    tokens = torch.randint(0, 7, (3, 5), generator=generator)
    shifted = logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    losses = [next_token_loss(logits, tokens), torch.nn.functional.cross_entropy(*shifted)]
    assert losses[0].item() == losses[1].item()
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    assert torch.equal(*gradients)
    assert not gradients[0][:, -1].any()
