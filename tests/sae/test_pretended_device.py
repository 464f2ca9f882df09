"""The SAE's steps on a pretended GPU: the weights of the CPU, and how often the host waits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saetrack.sae.config import ReLUConfig
from saetrack.sae.kernels import sparse
from saetrack.sae.model import new_sae
from saetrack.sae.step import TrainStep
from tests.support.pretended_device import OnGpu, pretended_gpu

D_IN, D_SAE, TOKENS, STEPS = 12, 40, 48, 3
OBJECTIVES = [
    ReLUConfig(l1_coefficient=0.02, reconstruction=reconstruction, penalty=penalty)
    for reconstruction, penalty in (("scale_free", "unit_decoder"), ("mse", "decoder_norm"))
]
PATHS = {"dense": 0.0, "sparse": 1.1}


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "BLOCK_WEIGHTS", 16 * D_IN)
    monkeypatch.setattr(sparse, "PRODUCT_NUMBERS", 25 * TOKENS)
    monkeypatch.setattr("saetrack.sae.step.find_spec", lambda name: None)


def residuals(seed: int) -> Tensor:
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.3


def trained(sae_config: ReLUConfig, sparse_below: float, device: str) -> TrainStep:
    sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.2), seed=1).to(device)
    step = TrainStep(sae, sae_config, sparse_below=sparse_below)
    for seed in range(STEPS):
        step(residuals(seed).to(device), 3e-3)
    return step


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sae_config", OBJECTIVES)
def test_a_step(sae_config: ReLUConfig, path: str) -> None:
    expected = trained(sae_config, PATHS[path], "cpu")
    with pretended_gpu() as gpu:
        found = trained(sae_config, PATHS[path], "cuda")
        print(gpu)
        assert isinstance(found.sae.W_enc, OnGpu)
        tensors = {name: tensor.cpu() for name, tensor in found.state().items()}
    for name, tensor in expected.state().items():
        assert torch.equal(tensors[name], tensor), name
