"""The loss' gradient at a hook, against differences of the loss itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM, next_token_losses
from tests.support.architectures import CONFIGS, TOKENS, in_a_cache, pre, tiny

HOOKS = [pre(1), Hook("resid_post", 0), Hook("mlp_out", 1), Hook("resid_mid", 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_a_cache(tiny(CONFIGS["gpt2"]()), tmp_path_factory.mktemp("lm"))


@pytest.mark.parametrize("residual", ["raw", "centred"])
@pytest.mark.parametrize("hook", HOOKS, ids=repr)
def test_it_is_the_slope_of_the_loss(folder: Path, hook: Hook, residual: Any) -> None:
    lm = HookedLM(folder, [hook], residual=residual, whole=True)
    found = lm.loss_gradient(TOKENS, hook)
    torch.testing.assert_close(found.x, lm.activations(TOKENS)[0], atol=1e-6, rtol=0)
    move = torch.randn(found.x.shape, generator=torch.Generator().manual_seed(0))
    ends = [
        float(next_token_losses(lm.log_p(TOKENS, hook, lambda x, s=s: x + s * move), TOKENS).sum())
        for s in (-0.005, 0.005)
    ]
    slope = (ends[1] - ends[0]) / 0.01
    assert float((found.gradient * move).sum()) == pytest.approx(slope, rel=0.01, abs=0.01)
    assert abs(slope) > 0.1, "or nothing is tested"


@pytest.mark.parametrize("hook", HOOKS, ids=repr)
def test_what_was_found_once_stands_for_the_blocks_below(folder: Path, hook: Hook) -> None:
    lm = HookedLM(folder, [hook], whole=True)
    found = lm.loss_gradient(TOKENS, hook)
    again = lm.log_p(TOKENS[1:], hook, lambda x: 2 * x, found.raw[1:])
    torch.testing.assert_close(again, lm.log_p(TOKENS[1:], hook, lambda x: 2 * x))
    same = lm.gradient_at(TOKENS, hook, lambda x: x, found.raw)
    torch.testing.assert_close(same, found.gradient)


def test_a_gradient_elsewhere_is_the_slope_there(folder: Path) -> None:
    lm = HookedLM(folder, [pre(1)], whole=True)
    found = lm.loss_gradient(TOKENS, pre(1))
    move = torch.randn(found.x.shape, generator=torch.Generator().manual_seed(0))
    losses = [
        float(
            next_token_losses(lm.log_p(TOKENS, pre(1), lambda x, s=s: x + s * move), TOKENS).sum()
        )
        for s in (0.495, 0.505)
    ]
    there = lm.gradient_at(TOKENS, pre(1), lambda x: x + 0.5 * move, found.raw)
    slope = (losses[1] - losses[0]) / 0.01
    assert float((there * move).sum()) == pytest.approx(slope, rel=0.01, abs=0.01)
    assert float((found.gradient * move).sum()) != pytest.approx(slope, rel=0.1)


def test_probabilities_and_losses_are_those_of_the_lm(folder: Path) -> None:
    lm = HookedLM(folder, [pre(1)], whole=True)
    log_p = lm.loss_gradient(TOKENS, pre(1)).log_p
    torch.testing.assert_close(log_p, lm.log_p(TOKENS, pre(1), lambda x: x))
    losses = next_token_losses(log_p, TOKENS)
    assert losses.shape == (len(TOKENS), TOKENS.shape[1] - 1)
    torch.testing.assert_close(losses[1, 4], -log_p[1, 4, TOKENS[1, 5]])
    mean = cross_entropy(log_p[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    torch.testing.assert_close(losses.mean(), mean)
    assert float(losses.mean()) == pytest.approx(lm.spliced_loss(TOKENS, pre(1), None), rel=1e-5)


def test_no_weight_gets_a_gradient(folder: Path) -> None:
    lm = HookedLM(folder, [pre(1)], whole=True)
    lm.loss_gradient(TOKENS, pre(1))
    assert not any(weight.requires_grad for weight in lm._lm.model.parameters())
