"""The SAE's steps on a pretended GPU: the weights of the CPU, and how often the host waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from saetrack.sae import tensor_parallel
from saetrack.sae.config import EncoderPrecision, ReLUConfig
from saetrack.sae.kernels import fused, sparse
from saetrack.sae.metrics import Evaluation, evaluate
from saetrack.sae.model import geometric_median, new_sae
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks
from tests.support.pretended_device import (
    MixedDevicesError,
    OnGpu,
    on_this_thread,
    pretended_gpu,
    started,
)

D_IN, D_SAE, TOKENS, STEPS = 12, 40, 48, 3
OBJECTIVES = [
    ReLUConfig(l1_coefficient=0.02, reconstruction="scale_free", penalty="unit_decoder"),
    ReLUConfig(l1_coefficient=0.02, reconstruction="mse", penalty="decoder_norm"),
]
SPARSE_BELOW = {"dense": 0.0, "sparse": 1.1}
# In all steps: see `tests/training/test_pretended_device.py`; here the product comes in two parts,
# whose active pairs are two numbers to wait for.
WAITS = {"dense": STEPS, "sparse": 3 * STEPS}


@pytest.fixture(autouse=True)
def _plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own operations on the CPU too: compiled kernels round otherwise."""
    monkeypatch.setattr(sparse, "_compiled", lambda: None)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loop goes round."""
    monkeypatch.setattr(sparse, "BLOCK_WEIGHTS", 16 * D_IN)
    monkeypatch.setattr(sparse, "GPU_BLOCK_WEIGHTS", 24 * D_IN)
    monkeypatch.setattr(sparse, "PRODUCT_NUMBERS", 25 * TOKENS)
    monkeypatch.setattr(fused, "PRODUCT_BYTES", 16 * TOKENS * 4)
    monkeypatch.setattr(fused, "BLOCK_TOKENS", 32)


@pytest.fixture
def _without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saetrack.sae.step.find_spec", lambda _: None)


@pytest.fixture
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernels in its interpreter, which gets the tensors' memory, as a GPU's would."""

    class Started:
        def __init__(self, kernel: Any) -> None:
            self._kernel = kernel

        def __getitem__(self, grid: tuple[int]) -> Callable[..., Any]:
            return partial(started, self._kernel[grid])

    names = [name for name in vars(fused.kernels) if name.endswith("_kernel")]
    kernels = {name: Started(getattr(fused.kernels, name)) for name in names}
    monkeypatch.setattr(fused, "kernels", SimpleNamespace(**kernels))


def residuals(seed: int) -> Tensor:
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.3


def trained(
    sae_config: ReLUConfig,
    sparse_below: float,
    device: str,
    precision: EncoderPrecision = "float32",
    ranks: Ranks = ALONE,
    d_sae: int = D_SAE,
) -> TrainStep:
    sae = new_sae(D_IN, d_sae, torch.full((D_IN,), 0.2), seed=1).shard(ranks).to(device)
    step = TrainStep(sae, sae_config, precision, sparse_below)
    for seed in range(STEPS):
        step(residuals(seed).to(device), 3e-3)
    return step


def on_cpu(step: TrainStep) -> dict[str, Tensor]:
    """Weights, moments and counters."""
    return {name: tensor.detach().cpu() for name, tensor in step.state().items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.usefixtures("_without_triton")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("sae_config", OBJECTIVES, ids=["unit_decoder", "decoder_norm"])
@pytest.mark.parametrize("path", SPARSE_BELOW)
def test_steps_and_moments(path: str, sae_config: ReLUConfig, precision: EncoderPrecision) -> None:
    expected = on_cpu(trained(sae_config, SPARSE_BELOW[path], "cpu", precision))
    with pretended_gpu() as gpu:
        step = trained(sae_config, SPARSE_BELOW[path], "cuda", precision)
        assert isinstance(step.sae.W_enc, OnGpu)
        of_step = {line: n for line, n in gpu.waits.items() if not line.startswith("outside")}
        found = on_cpu(step)
        fresh = TrainStep(new_sae(D_IN, D_SAE, torch.zeros(D_IN), 0).to("cuda"), sae_config)
        fresh.load(found)
        again = on_cpu(fresh)
    assert_equal(found, expected)
    assert_equal(again, expected)
    exact = STEPS if precision == "bfloat16" and path == "sparse" else 0  # which pairs are active
    assert sum(of_step.values()) <= WAITS[path] + exact, of_step


@pytest.mark.usefixtures("_interpreted")
def test_the_step_in_tritons_kernels() -> None:
    """Its sums have an order of their own: to rounding."""
    sae_config = OBJECTIVES[0]
    expected = on_cpu(trained(sae_config, 1.1, "cpu", d_sae=6))
    with pretended_gpu() as gpu:
        step = trained(sae_config, 1.1, "cuda", d_sae=6)
        of_step = {line: n for line, n in gpu.waits.items() if "sae/" in line}
        found = on_cpu(step)
    assert sum(of_step.values()) == STEPS, of_step
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def evaluated(step: TrainStep, device: str) -> Evaluation:
    return evaluate(step.sae, residuals(9).to(device), step.sae_config, 4, batch_tokens=20)


@pytest.mark.usefixtures("_without_triton")
@pytest.mark.parametrize("b_enc", [0.0, -1.5], ids=["dense", "sparse"])
def test_an_evaluation(b_enc: float) -> None:
    def measured(device: str) -> Evaluation:
        step = trained(OBJECTIVES[0], 0.0, device)
        with torch.no_grad():
            step.sae.b_enc.fill_(b_enc)
        return evaluated(step, device)

    expected = measured("cpu")
    with pretended_gpu():
        found = measured("cuda")
    assert found.scalars() == expected.scalars()
    assert torch.equal(found.feature_density, expected.feature_density)
    assert not isinstance(found.feature_density, OnGpu)


def test_the_median_where_a_dictionary_starts() -> None:
    expected = geometric_median(residuals(0))
    with pretended_gpu():
        assert torch.equal(geometric_median(residuals(0).to("cuda")).cpu(), expected)


class Threads:
    """Collectives between two threads in place of processes; as NCCL, they take no CPU tensors."""

    def __init__(self, *, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._barrier = threading.Barrier(2, timeout=60)
        self._rank = threading.local()
        self._given: list[Any] = [None, None]

    def be(self, rank: int) -> None:
        """This thread is a rank."""
        self._rank.is_ = rank

    def all_reduce(self, values: Tensor) -> None:
        values.copy_(sum(self._exchanged(values)))

    def all_gather(self, parts: list[Tensor], values: Tensor) -> None:
        for part, given in zip(parts, self._exchanged(values), strict=True):
            part.copy_(given)

    def gather(self, values: Tensor, parts: list[Tensor] | None, dst: int) -> None:
        given = self._exchanged(values)
        for part, of_rank in zip(parts or [], given if parts else [], strict=True):
            part.copy_(of_rank)

    def _exchanged(self, values: Tensor) -> list[Tensor]:
        assert isinstance(values, OnGpu) == self._on_gpu
        self._given[self._rank.is_] = values.clone()
        self._barrier.wait()
        given = list(self._given)
        self._barrier.wait()
        return given


def by_two_ranks(path: str, device: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What rank 0 gets of a dictionary that two threads train."""
    threads = Threads(on_gpu=device == "cuda")
    monkeypatch.setattr(tensor_parallel, "dist", threads)

    def train(rank: int) -> dict[str, Tensor]:
        threads.be(rank)
        if device == "cpu":
            return on_cpu(trained(OBJECTIVES[0], SPARSE_BELOW[path], device, ranks=Ranks(rank, 2)))
        with on_this_thread():
            return on_cpu(trained(OBJECTIVES[0], SPARSE_BELOW[path], device, ranks=Ranks(rank, 2)))

    with ThreadPoolExecutor(2) as pool:
        return next(iter(list(pool.map(train, range(2)))))


@pytest.mark.usefixtures("_without_triton")
@pytest.mark.parametrize("path", SPARSE_BELOW)
def test_a_dictionary_over_two_gpus(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_two_ranks(path, "cpu", monkeypatch)
    with pretended_gpu():
        found = by_two_ranks(path, "cuda", monkeypatch)
    assert_equal(found, expected)
    assert found["W_enc"].shape == (D_IN, D_SAE)


def test_mixed_devices_are_refused_as_cuda_refuses_them() -> None:
    with pretended_gpu() as gpu:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        with pytest.raises(MixedDevicesError, match="mixes cuda:0 with tensors of the CPU"):
            there + here
        with pytest.raises(MixedDevicesError):
            here[there.long()]
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(MixedDevicesError):
            torch.nn.Linear(3, 2)(there)
        assert not gpu.reads
        assert (there + torch.tensor(2.0)).cpu().tolist() == [3, 3, 3]
        assert there[torch.tensor([0, 2])].device.type == "cuda"
        assert (gpu.reads.total(), gpu.uploads.total()) == (1, 1)
        assert (there[there > 0].sum(), float(there.sum())) == (3, 3)
        assert gpu.reads.total() == 4, "a mask, a comparison, two numbers"
