"""The crosscoder: its formula, its SAE at one checkpoint, what it learns, its file."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from saetrack.sae.config import ReLUConfig
from saetrack.sae.crosscoder import (
    CONFIG_FILE,
    Crosscoder,
    CrosscoderObjective,
    CrosscoderStep,
    load_crosscoder,
    new_crosscoder,
    save_crosscoder,
)
from saetrack.sae.crosscoder_metrics import evaluate_crosscoder
from saetrack.sae.dense import dense_gradient
from saetrack.sae.loss import error_weights
from saetrack.sae.model import new_sae
from saetrack.sae.step import TrainStep

CONFIG = ReLUConfig(l1_coefficient=0.02, reconstruction="mse", penalty="decoder_norm")
K, D_RESID, D_SAE, BATCH = 3, 5, 7, 11


def residuals(seed: int = 0, tokens: int = BATCH) -> torch.Tensor:
    """Of three checkpoints whose residuals grow."""
    generator = torch.Generator().manual_seed(seed)
    growth = torch.tensor([1.0, 3.0, 10.0])[:, None, None]
    return growth * torch.randn(K, tokens, D_RESID, generator=generator)


def test_loss_and_gradient_are_those_of_the_plain_formula() -> None:
    x = residuals()
    crosscoder = new_crosscoder(x, D_SAE, CONFIG, seed=1)
    joined = crosscoder.joined(x)
    weights = error_weights(CONFIG, joined)
    found = dense_gradient(CrosscoderObjective(crosscoder, CONFIG), joined, weights)
    W_enc, b_enc, W_dec, b_dec = (
        getattr(crosscoder, name).detach().clone().requires_grad_()
        for name in ("W_enc", "b_enc", "W_dec", "b_dec")
    )
    parts = [slice(k * D_RESID, (k + 1) * D_RESID) for k in range(K)]
    scaled = [x[k] / crosscoder.spread[k] for k in range(K)]
    hidden = sum((scaled[k] - b_dec[parts[k]]) @ W_enc[parts[k]] for k in range(K)) + b_enc
    acts = torch.relu(hidden)
    errors = [
        acts @ W_dec[:, part] + b_dec[part] - of for part, of in zip(parts, scaled, strict=True)
    ]
    squares = sum(error.square().sum() for error in errors) / (BATCH * K * D_RESID)
    norms = torch.stack([W_dec[:, part].norm(dim=1) for part in parts]).sum(dim=0)
    penalty = 0.02 * (acts * norms).sum() / BATCH
    torch.testing.assert_close(found.reconstruction, squares.detach())
    torch.testing.assert_close(found.sparsity, penalty.detach())
    gradients = torch.autograd.grad(squares + penalty, (W_enc, b_enc, W_dec, b_dec))
    for name, expected in zip(("W_enc", "b_enc", "W_dec", "b_dec"), gradients, strict=True):
        torch.testing.assert_close(found.gradients[name], expected, msg=name)
    of_step = CrosscoderStep(copy.deepcopy(crosscoder), CONFIG)(joined, 1e-3)
    torch.testing.assert_close(of_step.loss, (squares + penalty).detach())


def test_sparse_steps_are_dense_ones_but_for_rounding() -> None:
    x = residuals()
    both = [new_crosscoder(x, D_SAE, CONFIG, seed=1) for _ in range(2)]
    dense = CrosscoderStep(both[0], CONFIG, sparse_below=0.0)
    sparse = CrosscoderStep(both[1], CONFIG, sparse_below=2.0)
    for number in range(3):
        batch = both[0].joined(residuals(number))
        torch.testing.assert_close(dense(batch, 1e-2).loss, sparse(batch, 1e-2).loss)
    assert (dense.sparse_steps, sparse.sparse_steps) == (0, 3)
    for name, weight in both[0].named_parameters():
        torch.testing.assert_close(both[1].get_parameter(name), weight, rtol=1e-4, atol=1e-5)


def test_of_one_checkpoint_it_is_the_sae_with_free_rows() -> None:
    x = residuals()[:1]
    crosscoder = new_crosscoder(x, D_SAE, CONFIG, seed=1)
    crosscoder.spread.fill_(1.0)
    sae = new_sae(D_RESID, D_SAE, torch.zeros(D_RESID), seed=0)
    sae.load_state_dict({name: crosscoder.get_parameter(name) for name in sae.state_dict()})
    steps = CrosscoderStep(crosscoder, CONFIG), TrainStep(sae, CONFIG)
    for number in range(3):
        batch = residuals(number)[0]
        ours, theirs = (step(batch, 1e-2).loss for step in steps)
        assert ours == theirs
    for name, weight in sae.state_dict().items():
        assert torch.equal(crosscoder.get_parameter(name), weight), name


def planted(tokens: int, seed: int) -> torch.Tensor:
    """Eight directions: four at all checkpoints, four from the second, or from the third, on."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.rand(tokens, 8, generator=generator)
    acts = acts * (torch.rand(tokens, 8, generator=generator) < 0.15)
    there = torch.tensor([[1.0] * 4 + [0.0] * 4, [1.0] * 6 + [0.0] * 2, [1.0] * 8])
    directions = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(9))).Q[
        :8
    ]
    return torch.stack([(acts * of) @ directions for of in there])


def test_planted_features_have_decoders_where_they_are() -> None:
    config = ReLUConfig(l1_coefficient=2e-3, reconstruction="mse", penalty="decoder_norm")
    crosscoder = new_crosscoder(planted(2048, 0), 24, config, seed=0)
    step = CrosscoderStep(crosscoder, config)
    for number in range(250):
        step(crosscoder.joined(planted(256, number + 1)), 2e-2 * min(1, (250 - number) / 80))
    unseen = planted(4096, 10_000)
    found = evaluate_crosscoder(crosscoder, unseen, matched_l0=2)
    assert min(found.explained_variance) > 0.9
    norms = crosscoder.decoder_norms().detach()
    directions = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(9))).Q[
        :8
    ]
    fires = found.feature_density > 1e-3
    cosines = (
        directions @ torch.nn.functional.normalize(crosscoder.decoder_at(2).W_dec.detach(), dim=1).T
    )
    of = cosines.where(fires, -1.0).argmax(dim=1)
    shares = (norms / norms.amax(dim=0))[:, of]
    expected = torch.tensor([[1.0] * 4 + [0.0] * 4, [1.0] * 6 + [0.0] * 2, [1.0] * 8])
    assert torch.equal((shares > 0.5).float(), expected)


def test_metrics_are_those_of_its_reconstructions() -> None:
    x = residuals(tokens=300)
    crosscoder = new_crosscoder(x, D_SAE, CONFIG, seed=1)
    found = evaluate_crosscoder(crosscoder, x, matched_l0=D_SAE, batch_tokens=128)
    with torch.no_grad():
        acts = crosscoder.encode(crosscoder.joined(x))
        error = (crosscoder.reconstruct(x) - x).square().sum(dim=(1, 2))
    variance = (x - x.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2))
    expected = (1 - error / variance).tolist()
    assert found.explained_variance == pytest.approx(expected, rel=1e-4)
    # Nothing is cut away where as many pairs are kept as there are features.
    assert found.explained_variance_at_l0 == pytest.approx(expected, rel=1e-4)
    assert found.l0 == pytest.approx(float((acts > 0).sum(dim=1).float().mean()))
    assert found.at(2)["explained_variance"] == found.explained_variance[2]
    fewer = evaluate_crosscoder(crosscoder, x, matched_l0=1)
    decoder = crosscoder.decoder_at(1)
    W_dec, b_dec = decoder.W_dec.detach(), decoder.b_dec.detach()
    norms = W_dec.norm(dim=1)
    added = (acts * norms).flatten()
    kept = acts * ((acts * norms) >= added.topk(300).values.min())
    out = kept @ W_dec + b_dec
    one = 1 - float((out - x[1]).square().sum()) / float(variance[1])
    assert fewer.explained_variance_at_l0[1] == pytest.approx(one, rel=1e-4)


def test_a_file_gives_the_same_crosscoder_and_a_wrong_one_a_line(tmp_path: Path) -> None:
    x = residuals()
    crosscoder = new_crosscoder(x, D_SAE, CONFIG, seed=1)
    density = torch.linspace(0, 1, D_SAE)
    save_crosscoder(tmp_path, crosscoder, density, {"note": "mine"})
    found, of_file, cfg = load_crosscoder(tmp_path)
    assert torch.equal(found.reconstruct(x), crosscoder.reconstruct(x))
    assert torch.equal(of_file, density)
    assert cfg["note"] == "mine"
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**cfg, "d_sae": D_SAE + 1}))
    with pytest.raises(ValueError, match=r"crosscoder\.safetensors: "):
        load_crosscoder(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**cfg, "d_sae": "many"}))
    with pytest.raises(ValueError, match="d_sae='many'"):
        load_crosscoder(tmp_path)


def test_rows_of_norm_one_are_refused() -> None:
    with pytest.raises(ValueError, match="unit_decoder"):
        CrosscoderStep(Crosscoder(2, 3, 4), ReLUConfig())
