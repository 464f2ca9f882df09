"""Every architecture of SAE by the formulas of its paper, whole matrices and autograd alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saetrack.sae.architectures import empty_sae, objective_of
from saetrack.sae.config import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from saetrack.sae.model import SAE

RELU: list[SAEConfig] = [
    ReLUConfig(l1_coefficient=0.05, reconstruction=reconstruction, penalty=penalty)
    for reconstruction in ("scale_free", "mse")
    for penalty in ("unit_decoder", "decoder_norm")
]
# Of some 200 features; dead ones are given by a test.
OTHERS: list[SAEConfig] = [
    TopKConfig(k=7, auxk=5, auxk_coefficient=0.5),
    TopKConfig(k=7, auxk_coefficient=0.5, reconstruction="mse", matryoshka=(30, 100)),
    BatchTopKConfig(k=7, auxk=5, auxk_coefficient=0.5, reconstruction="scale_free"),
    BatchTopKConfig(k=7, auxk_coefficient=0.0, matryoshka=(30, 100, 150)),
    JumpReLUConfig(l0_coefficient=0.01, bandwidth=0.4, pre_act_coefficient=0.1),
    JumpReLUConfig(l0_coefficient=0.01, bandwidth=0.4, reconstruction="mse", pre_act_coefficient=0),
]
ALL = RELU + OTHERS


def name_of(config: SAEConfig) -> str:
    """Of a test's parameter."""
    words = [config.architecture, config.reconstruction]
    if isinstance(config, ReLUConfig):
        words.append(config.penalty)
    if getattr(config, "matryoshka", ()):
        words.append("matryoshka")
    return "-".join(words)


def fresh_sae(config: SAEConfig, b_dec: Tensor, d_sae: int, seed: int = 0) -> SAE:
    """With random weights, and thresholds where the architecture has them."""
    sae = empty_sae(config, len(b_dec), d_sae)
    objective_of(sae, config).draw(b_dec, seed)
    with torch.no_grad():
        if hasattr(sae, "threshold"):
            sae.threshold.copy_(torch.linspace(0.05, 0.6, d_sae))
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.7)
    return sae


def weighted_square(config: SAEConfig, x: Tensor, error: Tensor) -> Tensor:
    """The reconstruction term: a mean over tokens, scaled as the config says."""
    squares = error.square().sum(dim=1)
    distances = (x - x.mean(dim=0)).norm(dim=1)
    if config.reconstruction == "mse":
        return squares.mean() / x.shape[1]
    if config.reconstruction == "scale_free":
        return (squares / distances).mean() / x.shape[1]
    return squares.sum() / distances.square().sum()


def plain_acts(config: SAEConfig, sae: SAE, hidden_pre: Tensor) -> Tensor:
    """Feature activations in training."""
    if isinstance(config, JumpReLUConfig):
        return hidden_pre * (hidden_pre > sae.threshold)  # type: ignore[operator]
    acts = torch.relu(hidden_pre)
    if isinstance(config, BatchTopKConfig):
        bound = acts.flatten().sort(descending=True).values[config.k * len(acts) - 1]
        return acts * (acts >= bound)
    if isinstance(config, TopKConfig):
        bounds = acts.sort(dim=1, descending=True).values[:, config.k - 1 : config.k]
        return acts * (acts >= bounds)
    return acts


def plain_loss(
    config: SAEConfig, sae: SAE, x: Tensor, dead: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """All terms; the gradient by thresholds is not autograd's and stands in `plain_gradient`.

    Args:
        config: of the architecture.
        sae: its weights.
        x: residuals.
        dead: indices of dead features.
        scale: the residuals' mean distance, the unit of JumpReLU's lengths.
    """
    hidden_pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    acts = plain_acts(config, sae, hidden_pre)
    ends = [*getattr(config, "matryoshka", ()), sae.d_sae]
    outs = [acts[:, :end] @ sae.W_dec[:end] + sae.b_dec for end in ends]
    loss = torch.stack([weighted_square(config, x, out - x) for out in outs]).sum()
    if isinstance(config, ReLUConfig):
        lengths = sae.W_dec.norm(dim=1) if config.penalty == "decoder_norm" else 1.0
        return loss + config.l1_coefficient * (acts * lengths).sum(dim=1).mean()
    if isinstance(config, JumpReLUConfig):
        l0 = (hidden_pre > sae.threshold).float().sum(dim=1)  # type: ignore[operator]
        loss += config.l0_coefficient * l0.mean()
        if dead is not None:
            missing = torch.relu(sae.threshold[dead] - hidden_pre[:, dead])  # type: ignore[index]
            loss += config.pre_act_coefficient * missing.sum(dim=1).mean() / scale
        return loss
    assert isinstance(config, TopKConfig)
    if dead is not None and config.auxk_coefficient:
        auxk = config.auxk or x.shape[1] // 2
        share = min(len(dead) / auxk, 1.0)
        top = hidden_pre[:, dead].topk(min(auxk, len(dead)), dim=1)
        learnt = torch.zeros(len(x), len(dead)).scatter(1, top.indices, top.values)
        error = (x - outs[-1]).detach()
        auxiliary = weighted_square(config, x, learnt @ sae.W_dec[dead] - error)
        loss += config.auxk_coefficient * share * auxiliary
    return loss


def plain_gradient(
    config: SAEConfig, sae: SAE, x: Tensor, dead: Tensor | None = None, scale: float = 1.0
) -> dict[str, Tensor]:
    """By autograd; of thresholds by the paper's pseudo-derivatives, pair by pair."""
    names, parameters = zip(*sae.named_parameters(), strict=True)
    loss = plain_loss(config, sae, x, dead, scale)
    found = dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
    if isinstance(config, JumpReLUConfig):
        learnt: Any = found["threshold"]
        found["threshold"] = _threshold_gradient(config, sae, x, scale) + (
            0 if learnt is None else learnt
        )
    return found


def _threshold_gradient(config: JumpReLUConfig, sae: SAE, x: Tensor, scale: float) -> Tensor:
    """Rajamanoharan et al. 2024, Eq 11 and 12, with a rectangle of the bandwidth as kernel."""
    bandwidth, threshold = config.bandwidth * scale, sae.threshold.detach()  # type: ignore[operator,union-attr]
    with torch.no_grad():
        hidden_pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        acts = hidden_pre * (hidden_pre > threshold)
    out = (acts @ sae.W_dec.detach() + sae.b_dec.detach()).requires_grad_()
    (of_out,) = torch.autograd.grad(weighted_square(config, x, out - x), out)
    of_acts = of_out @ sae.W_dec.detach().T
    kernel = ((hidden_pre - threshold).abs() < bandwidth / 2).float() / bandwidth
    of_l0 = config.l0_coefficient / len(x)
    gradient: Tensor = -(kernel * (threshold * of_acts + of_l0)).sum(dim=0)
    return gradient
