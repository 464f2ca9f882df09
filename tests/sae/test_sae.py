"""The SAE, its objective and its step against plain formulas."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from saetrack.sae import metrics
from saetrack.sae.architectures.relu import ReLU
from saetrack.sae.config import ReLUConfig, WarmStart
from saetrack.sae.loss import Losses, losses, reconstruction_error
from saetrack.sae.metrics import evaluate
from saetrack.sae.model import SAE, geometric_median, new_sae
from saetrack.sae.warm_start import Parent, mean_distance, warm_start

D_IN, D_SAE, TOKENS = 12, 40, 64


def residuals(seed: int = 0, tokens: int = TOKENS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, D_IN, generator=generator) + 3.0


def some_sae(seed: int = 0) -> SAE:
    sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 2.5), seed)
    with torch.no_grad():
        sae.b_enc.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(seed))
    return sae


def test_encode_and_decode_are_the_papers_formulas() -> None:
    sae, x = some_sae(), residuals()
    feature_acts = torch.stack(
        [((x - sae.b_dec) * sae.W_enc[:, i]).sum(1) + sae.b_enc[i] for i in range(D_SAE)], dim=1
    ).clamp(min=0)
    torch.testing.assert_close(sae.encode(x), feature_acts, atol=1e-5, rtol=1e-5)
    sae_out = sum(feature_acts[:, i : i + 1] * sae.W_dec[i] for i in range(D_SAE)) + sae.b_dec
    torch.testing.assert_close(sae.decode(feature_acts), sae_out, atol=1e-5, rtol=1e-5)


def test_a_new_sae_is_unit_normed_untied_and_seeded() -> None:
    sae = new_sae(D_IN, D_SAE, torch.zeros(D_IN), seed=3)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    assert float(sae.W_enc.detach().abs().max()) <= (6 / D_SAE) ** 0.5
    cosines = torch.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
    assert float(cosines.detach().abs().mean()) < 0.5
    again = new_sae(D_IN, D_SAE, torch.zeros(D_IN), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(sae.parameters(), again.parameters(), strict=True))


def terms_of(config: ReLUConfig, sae: SAE, x: Tensor) -> Losses:
    """Of a dense pass."""
    acts = sae.encode(x)
    sparsity = ReLU(sae, config).sparsity(acts, acts)
    reconstruction = reconstruction_error(config, x, sae.decode(acts))
    return losses(reconstruction, sparsity, torch.zeros(()))


@pytest.mark.parametrize("reconstruction", ["scale_free", "mse"])
@pytest.mark.parametrize("penalty", ["unit_decoder", "decoder_norm"])
def test_losses_are_the_plain_formulas(reconstruction: str, penalty: str) -> None:
    sae, x = some_sae(), residuals()
    with torch.no_grad():
        sae.W_dec.mul_(1.7)
    sae_config = ReLUConfig(l1_coefficient=0.03, reconstruction=reconstruction, penalty=penalty)
    feature_acts = sae.encode(x)
    sae_out = sae.decode(feature_acts)
    terms = terms_of(sae_config, sae, x)
    reconstructions, penalties = [], []
    for n in range(TOKENS):
        squares = [float((sae_out[n, j] - x[n, j]) ** 2) for j in range(D_IN)]
        centred = float((x[n] - x.mean(dim=0)).norm())
        scale = centred if reconstruction == "scale_free" else 1.0
        reconstructions.append(sum(squares) / D_IN / scale)
        weights = [1.0 if penalty == "unit_decoder" else 1.7] * D_SAE
        penalties.append(sum(w * float(h) for w, h in zip(weights, feature_acts[n], strict=True)))
    expected_l1 = sum(penalties) / TOKENS
    expected = sum(reconstructions) / TOKENS + 0.03 * expected_l1
    assert float(terms.sparsity.detach()) == pytest.approx(0.03 * expected_l1, rel=1e-4)
    assert float(terms.loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_default_objective_scales_with_the_residual() -> None:
    sae, x, scale = some_sae(), residuals(), 7.0
    sae_config = ReLUConfig(l1_coefficient=0.02)
    scaled = some_sae()
    with torch.no_grad():
        scaled.b_dec.mul_(scale)
        scaled.b_enc.mul_(scale)
    before = terms_of(sae_config, sae, x)
    after = terms_of(sae_config, scaled, scale * x)
    torch.testing.assert_close(after.loss, scale * before.loss, rtol=1e-4, atol=0)
    torch.testing.assert_close(after.sparsity, scale * before.sparsity, rtol=1e-4, atol=0)


def test_equal_tokens_do_not_divide_by_zero() -> None:
    x = torch.ones(8, D_IN)
    for reconstruction in ("scale_free", "normalised"):
        config = ReLUConfig(reconstruction=reconstruction)
        assert torch.isfinite(reconstruction_error(config, x, x + 0.1))


def test_geometric_median_minimises_summed_distance() -> None:
    points = torch.cat([torch.randn(200, D_IN), torch.full((20, D_IN), 50.0)])
    median = geometric_median(points)

    def cost(at: Tensor) -> float:
        return float((points - at).norm(dim=1).sum())

    assert cost(median) < cost(points.mean(dim=0))
    for direction in torch.eye(D_IN):
        assert cost(median) <= cost(median + 0.05 * direction) + 1e-2
        assert cost(median) <= cost(median - 0.05 * direction) + 1e-2


@pytest.fixture(params=[0.0, 2.0], ids=["dense", "sparse"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation from dense products of 7 tokens at a time, or from the active pairs."""
    monkeypatch.setattr(metrics, "SPARSE_BELOW", request.param)
    monkeypatch.setattr(metrics, "DENSE_NUMBERS", 7 * D_SAE)


@pytest.mark.usefixtures("_either_way")
def test_metrics_agree_with_an_independent_calculation() -> None:
    sae, x = some_sae(), residuals(tokens=300)
    with torch.no_grad():
        sae.b_enc[:3] = -1e3
    sae_config = ReLUConfig(l1_coefficient=0.02, reconstruction="mse")
    result = evaluate(
        sae, x, sae_config, matched_l0=4, batch_tokens=70
    )  # batches that do not divide the tokens
    acts = sae.encode(x).detach().double().numpy()
    out = sae.decode(sae.encode(x)).detach().double().numpy()
    data = x.double().numpy()
    errors = ((out - data) ** 2).sum(1)
    spreads = ((data - data.mean(0)) ** 2).sum(1)
    assert result.mse == pytest.approx(errors.mean() / D_IN, rel=1e-5)
    assert result.explained_variance == pytest.approx(1 - errors.sum() / spreads.sum(), rel=1e-5)
    assert result.explained_variance_per_token == pytest.approx(
        (1 - errors / spreads).mean(), rel=1e-4
    )
    assert result.l0 == pytest.approx((acts > 0).sum(1).mean())
    assert result.l1 == pytest.approx(acts.sum(1).mean(), rel=1e-5)
    assert result.loss == pytest.approx(result.mse + 0.02 * result.l1, rel=1e-5)
    assert result.dead == pytest.approx((acts > 0).any(0).__invert__().mean())
    assert result.dead >= 3 / D_SAE
    torch.testing.assert_close(result.feature_density, torch.from_numpy((acts > 0).mean(0)).float())


def test_the_density_decides_how_an_sae_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    sae, x = some_sae(), residuals()
    with monkeypatch.context() as dense:
        dense.setattr(metrics, "_reconstruct_sparse", never)
        assert evaluate(sae, x, ReLUConfig(), matched_l0=4).l0 > 0.06 * D_SAE
    monkeypatch.setattr(metrics, "_reconstruct_dense", never)
    with torch.no_grad():
        sae.b_enc.fill_(-3.0)
    assert 0 < evaluate(sae, x, ReLUConfig(), matched_l0=4).l0 < 0.06 * D_SAE


@pytest.mark.usefixtures("_either_way")
def test_explained_variance_at_equal_l0_keeps_the_largest_activations() -> None:
    sae, x = some_sae(), residuals(tokens=60)
    at_4 = evaluate(sae, x, ReLUConfig(), matched_l0=4)
    acts = sae.encode(x).detach()
    smallest_kept = acts.flatten().sort(descending=True).values[4 * 60 - 1]
    kept = torch.where(acts >= smallest_kept, acts, torch.zeros_like(acts))
    assert float((kept > 0).sum()) / 60 == pytest.approx(4, abs=0.02)
    errors = (sae.decode(kept).detach() - x).square().sum()
    expected = 1 - errors / (x - x.mean(dim=0)).square().sum()
    assert at_4.explained_variance_at_l0 == pytest.approx(float(expected), rel=1e-5)
    all_kept = evaluate(sae, x, ReLUConfig(), matched_l0=D_SAE)
    assert all_kept.explained_variance_at_l0 == pytest.approx(all_kept.explained_variance)


def parent_of(sae: SAE, x: Tensor) -> Parent:
    return Parent(copy.deepcopy(sae), mean_distance(x))


def test_matched_biases_undo_a_growth_of_the_residual() -> None:
    sae, x, growth = some_sae(), residuals(tokens=300), 9.0
    kept, matched = (
        warm_start(parent_of(sae, x), WarmStart(scale=scale), growth * x, ReLUConfig()).step.sae
        for scale in ("kept", "matched")
    )
    expected = growth * sae.decode(sae.encode(x))
    grown = matched.decode(matched.encode(growth * x))
    torch.testing.assert_close(grown, expected, rtol=1e-4, atol=1e-3)
    assert (kept.decode(kept.encode(growth * x)) - expected).abs().max() > 0.1


def test_objective_refuses_a_negative_coefficient() -> None:
    with pytest.raises(ValueError, match="l1_coefficient=-1 must be 0 or more"):
        replace(ReLUConfig(), l1_coefficient=-1)
