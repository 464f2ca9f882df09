"""The training step, dense and sparse, against plain autograd and torch's own Adam."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saetrack.sae import dense
from saetrack.sae.config import LossConfig
from saetrack.sae.dense import dense_gradient
from saetrack.sae.kernels import sparse
from saetrack.sae.kernels.sparse import active_pairs, decode_pairs, sparse_gradient
from saetrack.sae.loss import losses
from saetrack.sae.model import SAE, new_sae
from saetrack.sae.step import TrainStep

D_IN, D_SAE, TOKENS = 24, 200, 60
DENSE, SPARSE = 0.0, 2.0
OBJECTIVES = [
    LossConfig(l1_coefficient=0.05, reconstruction=reconstruction, penalty=penalty)
    for reconstruction in ("scale_free", "mse")
    for penalty in ("unit_decoder", "decoder_norm")
]


def name_of(loss_config: LossConfig) -> str:
    return f"{loss_config.reconstruction}-{loss_config.penalty}"


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 features in blocks of 64, the last one smaller."""
    monkeypatch.setattr(sparse, "BLOCK_WEIGHTS", 64 * D_IN)
    monkeypatch.setattr(sparse, "PRODUCT_NUMBERS", 90 * TOKENS)


def residuals(seed: int = 0, tokens: int = TOKENS) -> Tensor:
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.5


def some_sae(b_enc: float = -0.3) -> SAE:
    """Features 0 to 2 never fire, feature 3 always does."""
    sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.4), seed=0)
    with torch.no_grad():
        sae.b_enc.fill_(b_enc)
        sae.b_enc[:3] = -1e3
        sae.b_enc[3] = 1e2
    return sae


def plain_gradient(sae: SAE, loss_config: LossConfig, x: Tensor) -> dict[str, Tensor]:
    """By autograd, of the formulas as the paper writes them."""
    feature_acts = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc)
    sae_out = feature_acts @ sae.W_dec + sae.b_dec
    names, parameters = zip(*sae.named_parameters(), strict=True)
    loss = losses(loss_config, sae, x, feature_acts, sae_out).loss
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def sparse_gradient_whole(sae: SAE, loss_config: LossConfig, x: Tensor) -> dict[str, Tensor]:
    gradient = sparse_gradient(sae, loss_config, x)
    of_blocks = list(gradient.blocks())
    assert len(of_blocks) == 4
    return {
        "W_enc": torch.cat([block.W_enc for block in of_blocks]).T,
        "b_enc": torch.cat([block.b_enc for block in of_blocks]),
        "W_dec": torch.cat([block.W_dec for block in of_blocks]),
        "b_dec": gradient.b_dec,
    }


@pytest.mark.parametrize("loss_config", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "blocks"])
def test_the_dense_gradient_is_autograds(
    loss_config: LossConfig, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "WHOLE_NUMBERS", TOKENS * D_SAE - (not whole))
    monkeypatch.setattr(dense, "BLOCK_NUMBERS", 25 * D_SAE)
    sae, x = some_sae(), residuals()
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
    found = dense_gradient(sae, loss_config, x)
    for name, expected in plain_gradient(sae, loss_config, x).items():
        assert relative_error(getattr(found, name), expected) < 1e-5, name
    feature_acts = sae.encode(x)
    terms = losses(loss_config, sae, x, feature_acts, sae.decode(feature_acts))
    for name, term in zip(terms._fields, terms, strict=True):
        assert float(getattr(found.losses, name)) == pytest.approx(float(term.detach()), rel=1e-5)
    assert found.n_active == int((feature_acts > 0).sum())


@pytest.mark.parametrize("loss_config", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("b_enc", [-1.5, -0.3, 0.0])
def test_the_sparse_gradient_is_autograds(loss_config: LossConfig, b_enc: float) -> None:
    sae, x = some_sae(b_enc), residuals()
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
    expected = plain_gradient(sae, loss_config, x)
    for name, found in sparse_gradient_whole(sae, loss_config, x).items():
        assert relative_error(found, expected[name]) < 1e-6, name
    found_losses = sparse_gradient(sae, loss_config, x).losses
    feature_acts = sae.encode(x)
    for found, plain in zip(
        found_losses,
        losses(loss_config, sae, x, feature_acts, sae.decode(feature_acts)),
        strict=True,
    ):
        assert float(found) == pytest.approx(float(plain.detach()), rel=1e-5)


def test_a_batch_on_which_nothing_fires_still_moves_the_bias() -> None:
    sae, x = some_sae(), residuals()
    with torch.no_grad():
        sae.b_enc.fill_(-1e3)
    expected = plain_gradient(sae, OBJECTIVES[0], x)
    found = sparse_gradient_whole(sae, OBJECTIVES[0], x)
    assert relative_error(found["b_dec"], expected["b_dec"]) < 1e-6
    assert not any(found[name].any() for name in ("W_enc", "b_enc", "W_dec"))


def test_active_pairs_are_the_positive_activations() -> None:
    sae, x = some_sae(), residuals()
    pairs = active_pairs(sae, x)
    dense = torch.zeros(TOKENS, D_SAE)
    dense[pairs.tokens, pairs.features] = pairs.feature_acts
    torch.testing.assert_close(dense, sae.encode(x).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decode_pairs(sae, pairs), sae.decode(dense).detach())


def test_a_coarse_product_only_finds_the_pairs() -> None:
    sae, x = some_sae(-1.0), residuals()
    exact, coarse = active_pairs(sae, x), active_pairs(sae, x, "bfloat16")
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

    def __init__(self, sae: SAE, loss_config: LossConfig) -> None:
        self.sae = sae
        self.loss_config = loss_config
        self.adam = torch.optim.Adam(sae.parameters())

    def __call__(self, x: Tensor, learning_rate: float) -> None:
        gradient = plain_gradient(self.sae, self.loss_config, x)
        unit_rows = self.loss_config.penalty == "unit_decoder"
        if unit_rows:
            rows = self.sae.W_dec.detach()
            along = (gradient["W_dec"] * rows).sum(dim=1, keepdim=True)
            gradient["W_dec"] = gradient["W_dec"] - along * rows
        for name, parameter in self.sae.named_parameters():
            parameter.grad = gradient[name]
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        if unit_rows:
            self.sae.normalise_decoder()


@pytest.mark.parametrize("loss_config", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("sparse_below", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_steps_are_adam_on_the_projected_gradient(
    loss_config: LossConfig, sparse_below: float
) -> None:
    step = TrainStep(some_sae(), loss_config, sparse_below=sparse_below)
    plain = PlainStep(some_sae(), loss_config)
    start = some_sae()
    for seed in range(6):
        step(residuals(seed), 1e-2)
        plain(residuals(seed), 1e-2)
    assert step.sparse_steps == (6 if sparse_below else 0)
    for name, parameter in step.sae.named_parameters():
        moved = parameter - getattr(start, name)
        expected = getattr(plain.sae, name) - getattr(start, name)
        # Adam divides by the gradient's size: where that is rounding, so is the update.
        assert relative_error(moved, expected) < 2e-3, name


@pytest.mark.parametrize("sparse_below", [DENSE, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize("penalty", ["unit_decoder", "decoder_norm"])
def test_decoder_rows_keep_their_norm_only_where_the_penalty_needs_it(
    penalty: str, sparse_below: float
) -> None:
    loss_config = LossConfig(l1_coefficient=0.01, penalty=penalty)
    step = TrainStep(some_sae(), loss_config, sparse_below=sparse_below)
    for seed in range(5):
        step(residuals(seed), learning_rate=0.05)
    norms = step.sae.W_dec.detach().norm(dim=1)
    assert torch.allclose(norms, torch.ones(D_SAE), atol=1e-5) == (penalty == "unit_decoder")


@pytest.mark.parametrize("sparse_below", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_the_decoder_gradient_has_no_part_along_its_row(sparse_below: float) -> None:
    step = TrainStep(some_sae(), OBJECTIVES[0], sparse_below=sparse_below)
    rows = step.sae.W_dec.detach().clone()
    expected = plain_gradient(some_sae(), OBJECTIVES[0], residuals())["W_dec"]
    along = (expected * rows).sum(dim=1, keepdim=True)
    assert float(along.abs().max()) > 1e-4, "nothing is there to project away"
    step(residuals(), learning_rate=0.0)
    found = step.adam.exp_avg["W_dec"] / (1 - 0.9)
    assert relative_error(found, expected - along * rows) < 1e-5
    left = (found * rows).sum(dim=1).abs()
    assert bool((left <= 1e-6 * expected.norm(dim=1) + 1e-8).all())


def test_the_coefficient_that_is_configured_is_the_one_that_acts() -> None:
    # In the authors' code a changed coefficient is silently ignored after the first link.
    def fresh(l1_coefficient: float) -> TrainStep:
        sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.4), seed=0)
        return TrainStep(sae, LossConfig(l1_coefficient=l1_coefficient))

    weak, strong = fresh(1e-4), fresh(1.0)
    for seed in range(40):
        weak(residuals(seed), 1e-2)
        strong(residuals(seed), 1e-2)
    assert strong.sae.encode(residuals(99)).sum() < 0.5 * weak.sae.encode(residuals(99)).sum()


def test_the_density_chooses() -> None:
    step = TrainStep(new_sae(D_IN, D_SAE, torch.zeros(D_IN), 0), OBJECTIVES[0])
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


def test_a_saved_step_goes_on_bit_by_bit() -> None:
    # With the density near the limit, so that the choice has to be carried too.
    def fresh() -> TrainStep:
        return TrainStep(some_sae(-0.8), OBJECTIVES[0], sparse_below=0.3)

    whole, first = fresh(), fresh()
    for seed in range(6):
        whole(residuals(seed), 1e-2)
    for seed in range(3):
        first(residuals(seed), 1e-2)
    second = fresh()
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for seed in range(3, 6):
        second(residuals(seed), 1e-2)
    assert 0 < whole.sparse_steps < 6
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name
