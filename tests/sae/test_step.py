"""The training step, dense and sparse, against plain autograd and torch's own Adam."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from saetrack.sae import dense
from saetrack.sae.config import JumpReLUConfig, ReLUConfig, SAEConfig, TopKConfig
from saetrack.sae.kernels import cpu, sparse
from saetrack.sae.kernels.sparse import decode_pairs
from saetrack.sae.model import SAE, new_sae
from saetrack.sae.step import TrainStep
from tests.support.plain_sae import (
    ALL,
    OTHERS,
    RELU,
    fresh_sae,
    name_of,
    plain_acts,
    plain_gradient,
    plain_loss,
)

D_IN, D_SAE, TOKENS = 24, 200, 60
DENSE, SPARSE = 0.0, 2.0


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 features in blocks of 64, the last one smaller."""
    monkeypatch.setattr(sparse, "BLOCK_WEIGHTS", 64 * D_IN)
    monkeypatch.setattr(sparse, "PRODUCT_NUMBERS", 90 * TOKENS)
    for name, value in {"FEATURES": 64, "TOKENS": 16, "TILE_NUMBERS": 90 * TOKENS}.items():
        monkeypatch.setattr(cpu, name, value)


@pytest.fixture(params=["dense", "sparse", "sparse by torch alone"])
def sparse_below(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """The share of active pairs below which a step is sparse, with and without numba."""
    if request.param == "sparse by torch alone":
        monkeypatch.setattr(sparse, "_compiled", lambda: None)
    return DENSE if request.param == "dense" else SPARSE


def residuals(seed: int = 0, tokens: int = TOKENS) -> Tensor:
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.5


def some_sae(config: SAEConfig, b_enc: float = -0.3) -> SAE:
    """Features 0 to 2 never fire, feature 3 always does."""
    sae = fresh_sae(config, torch.full((D_IN,), 0.4), D_SAE)
    with torch.no_grad():
        sae.b_enc.fill_(b_enc)
        sae.b_enc[:3] = -1e3
        sae.b_enc[3] = 1e2
    return sae


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def projected(config: SAEConfig, sae: SAE, W_dec: Tensor) -> Tensor:
    """Without its part along the decoder rows, where these keep their norm."""
    if not config.unit_rows:
        return W_dec
    rows = sae.W_dec.detach()
    return W_dec - (W_dec * rows).sum(dim=1, keepdim=True) * rows


def moments(step: TrainStep) -> dict[str, Tensor]:
    """The gradient of the first step, from Adam's first moments."""
    found = {name: values / (1 - 0.9) for name, values in step.adam.exp_avg.items()}
    return {**found, "W_enc": found["W_enc"].T}


@pytest.mark.parametrize("config", ALL, ids=name_of)
@pytest.mark.parametrize("b_enc", [-1.5, -0.3, 0.0])
def test_the_gradient_is_that_of_the_papers_formulas(
    config: SAEConfig, b_enc: float, sparse_below: float
) -> None:
    sae, x = some_sae(config, b_enc), residuals()
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
    dead = torch.tensor([1, 2, 17, 64, 101, 102, 103, 199]) if config in OTHERS else None
    expected = plain_gradient(config, sae, x, dead)
    expected_loss = float(plain_loss(config, sae, x, dead).detach())
    expected["W_dec"] = projected(config, sae, expected["W_dec"])
    step = TrainStep(sae, config, sparse_below=sparse_below)
    if step.objective.dead_features is not None:
        is_dead = torch.zeros(D_SAE, dtype=torch.bool)
        is_dead[dead] = True
        step.objective.dead_features.start(is_dead)
    terms = step(x, learning_rate=0.0)
    assert step.sparse_steps == (sparse_below > 0)
    assert float(terms.loss) == pytest.approx(expected_loss, rel=1e-5)
    for name, found in moments(step).items():
        assert relative_error(found, expected[name]) < 2e-6, name


@pytest.mark.parametrize("config", ALL, ids=name_of)
def test_a_dense_step_in_blocks_is_that_of_the_whole_batch(
    config: SAEConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, in_blocks = (TrainStep(some_sae(config), config, sparse_below=DENSE) for _ in range(2))
    x = residuals()
    expected = whole(x, learning_rate=0.0)
    monkeypatch.setattr(dense, "WHOLE_NUMBERS", TOKENS * D_SAE - 1)
    monkeypatch.setattr(dense, "BLOCK_NUMBERS", 25 * D_SAE)  # 60 tokens in three
    found = in_blocks(x, learning_rate=0.0)
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-5)
    assert in_blocks.density == whole.density
    moments_of_whole = moments(whole)
    for name, tensor in moments(in_blocks).items():
        # Feature 3 is large everywhere; most of its gradient is projected away, not its rounding.
        assert relative_error(tensor, moments_of_whole[name]) < 3e-5, name


@pytest.mark.parametrize("config", ALL, ids=name_of)
def test_a_batch_on_which_nothing_fires_still_moves_the_bias(config: SAEConfig) -> None:
    sae, x = some_sae(config), residuals()
    with torch.no_grad():
        sae.b_enc.fill_(-1e3)
    expected = plain_gradient(config, sae, x)
    step = TrainStep(sae, config, sparse_below=SPARSE)
    step(x, learning_rate=0.0)
    found = moments(step)
    assert relative_error(found["b_dec"], expected["b_dec"]) < 1e-6
    assert not any(found[name].any() for name in ("W_enc", "b_enc", "W_dec"))


@pytest.mark.parametrize("config", ALL, ids=name_of)
def test_the_pairs_in_training_are_those_of_the_formulas(config: SAEConfig) -> None:
    sae, x = some_sae(config), residuals()
    pairs = TrainStep(sae, config).objective.active_pairs(x, "float32")
    found = torch.zeros(TOKENS, D_SAE)
    found[pairs.tokens, pairs.features] = pairs.feature_acts
    expected = plain_acts(config, sae, (x - sae.b_dec) @ sae.W_enc + sae.b_enc)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    if isinstance(config, TopKConfig):
        assert len(pairs.tokens) == config.k * TOKENS


@pytest.mark.parametrize("config", ALL, ids=name_of)
def test_active_pairs_are_what_encode_leaves(config: SAEConfig) -> None:
    sae, x = some_sae(config), residuals()
    pairs = sae.active_pairs(x)
    dense = torch.zeros(TOKENS, D_SAE)
    dense[pairs.tokens, pairs.features] = pairs.feature_acts
    torch.testing.assert_close(dense, sae.encode(x).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decode_pairs(sae, pairs), sae.decode(dense).detach())


def test_a_coarse_product_only_finds_the_pairs() -> None:
    sae, x = some_sae(RELU[0], -1.0), residuals()
    exact, coarse = sae.active_pairs(x), sae.active_pairs(x, "bfloat16")
    place = {
        (int(f), int(t)): float(a)
        for f, t, a in zip(exact.features, exact.tokens, exact.feature_acts, strict=True)
    }
    for f, t, act in zip(coarse.features, coarse.tokens, coarse.feature_acts, strict=True):
        assert float(act) == pytest.approx(place.pop((int(f), int(t))), rel=1e-4, abs=1e-5)
    assert all(act < 0.03 for act in place.values()), "only what hardly fires may be missed"
    assert len(place) < 0.02 * len(exact.tokens)


class PlainStep:
    """What a step does, with torch's optimiser and whole gradients."""

    def __init__(self, sae: SAE, config: SAEConfig) -> None:
        self.sae = sae
        self.config = config
        self.adam = torch.optim.Adam(sae.parameters())

    def __call__(self, x: Tensor, learning_rate: float) -> None:
        gradient = plain_gradient(self.config, self.sae, x)
        gradient["W_dec"] = projected(self.config, self.sae, gradient["W_dec"])
        for name, parameter in self.sae.named_parameters():
            parameter.grad = gradient[name]
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        if self.config.unit_rows:
            self.sae.normalise_decoder()
        if isinstance(self.config, JumpReLUConfig):
            self.sae.threshold.data.clamp_(min=0)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("config", ALL, ids=name_of)
def test_steps_are_adam_on_the_projected_gradient(config: SAEConfig, sparse_below: float) -> None:
    step = TrainStep(some_sae(config), config, sparse_below=sparse_below)
    plain = PlainStep(some_sae(config), config)
    start = some_sae(config)
    for seed in range(6):
        step(residuals(seed), 1e-2)
        plain(residuals(seed), 1e-2)
    assert step.sparse_steps == (6 if sparse_below else 0)
    for name, parameter in step.sae.named_parameters():
        moved = parameter - getattr(start, name)
        expected = getattr(plain.sae, name) - getattr(start, name)
        # Adam divides by the gradient's size: where that is rounding, so is the update.
        assert relative_error(moved, expected) < 2e-3, name


@pytest.mark.parametrize("penalty", ["unit_decoder", "decoder_norm"])
def test_decoder_rows_keep_their_norm_only_where_the_penalty_needs_it(
    penalty: str, sparse_below: float
) -> None:
    sae_config = ReLUConfig(l1_coefficient=0.01, penalty=penalty)
    step = TrainStep(some_sae(sae_config), sae_config, sparse_below=sparse_below)
    for seed in range(5):
        step(residuals(seed), learning_rate=0.05)
    norms = step.sae.W_dec.detach().norm(dim=1)
    assert torch.allclose(norms, torch.ones(D_SAE), atol=1e-5) == (penalty == "unit_decoder")


def test_the_decoder_gradient_has_no_part_along_its_row(sparse_below: float) -> None:
    config = RELU[0]
    step = TrainStep(some_sae(config), config, sparse_below=sparse_below)
    rows = step.sae.W_dec.detach().clone()
    expected = plain_gradient(config, some_sae(config), residuals())["W_dec"]
    along = (expected * rows).sum(dim=1, keepdim=True)
    assert float(along.abs().max()) > 1e-4, "nothing is there to project away"
    step(residuals(), learning_rate=0.0)
    found = moments(step)["W_dec"]
    left = (found * rows).sum(dim=1).abs()
    assert bool((left <= 1e-6 * expected.norm(dim=1) + 1e-8).all())


def test_the_coefficient_that_is_configured_is_the_one_that_acts() -> None:
    # In the authors' code a changed coefficient is silently ignored after the first link.
    def fresh(l1_coefficient: float) -> TrainStep:
        sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.4), seed=0)
        return TrainStep(sae, ReLUConfig(l1_coefficient=l1_coefficient))

    weak, strong = fresh(1e-4), fresh(1.0)
    for seed in range(40):
        weak(residuals(seed), 1e-2)
        strong(residuals(seed), 1e-2)
    assert strong.sae.encode(residuals(99)).sum() < 0.5 * weak.sae.encode(residuals(99)).sum()


def test_the_density_chooses() -> None:
    step = TrainStep(new_sae(D_IN, D_SAE, torch.zeros(D_IN), 0), RELU[0])
    step(residuals(), 1e-3)
    step(residuals(), 1e-3)
    assert step.sparse_steps == 0
    assert step.density == pytest.approx(0.5, abs=0.1)
    with torch.no_grad():
        step.sae.b_enc.fill_(-3.0)
    step(residuals(), 1e-3)
    assert step.sparse_steps == 0, "the last batch was dense"
    step(residuals(), 1e-3)
    assert step.sparse_steps == 1


@pytest.mark.parametrize("config", [RELU[0], *OTHERS], ids=name_of)
def test_a_saved_step_goes_on_bit_by_bit(config: SAEConfig) -> None:
    # Of ReLU with the density near the limit, so that the choice has to be carried too.
    if hasattr(config, "dead_after_tokens"):
        config = replace(config, dead_after_tokens=2 * TOKENS)  # type: ignore[call-arg]

    def fresh() -> TrainStep:
        return TrainStep(some_sae(config, -0.8), config, sparse_below=0.3)

    whole, first = fresh(), fresh()
    for seed in range(6):
        whole(residuals(seed), 1e-2)
    for seed in range(3):
        first(residuals(seed), 1e-2)
    second = fresh()
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for seed in range(3, 6):
        second(residuals(seed), 1e-2)
    assert whole.sparse_steps < 6 or config is not RELU[0]
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name
