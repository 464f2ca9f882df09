"""The compiled kernels of a CPU: the pairs of the plain search, and results that stay the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from saetrack.sae.config import EncoderPrecision, ReLUConfig
from saetrack.sae.kernels import cpu, numba_kernels, sparse
from saetrack.sae.kernels.sparse import ActivePairs, decode_pairs, dot_products, pairs_above
from saetrack.sae.model import SAE, new_sae
from saetrack.sae.step import TrainStep

D_IN, D_SAE, TOKENS = 40, 700, 150
CONFIG = ReLUConfig(l1_coefficient=0.01)


@pytest.fixture(autouse=True)
def _many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FEATURES": 64, "TOKENS": 16, "TILE_NUMBERS": 90 * TOKENS}.items():
        monkeypatch.setattr(cpu, name, value)


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def residuals(seed: int) -> Tensor:
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(seed))


def some_sae() -> SAE:
    sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.1), seed=0)
    with torch.no_grad():
        sae.b_enc.fill_(-0.7)
    return sae


def trained(precision: EncoderPrecision = "float32") -> TrainStep:
    step = TrainStep(some_sae(), CONFIG, precision, sparse_below=2.0)
    for seed in range(4):
        step(residuals(seed), 1e-2)
    return step


def assert_equal(left: TrainStep, right: TrainStep) -> None:
    for name, tensor in left.state().items():
        assert torch.equal(tensor, right.state()[name]), name


def plainly(monkeypatch: pytest.MonkeyPatch, above: Tensor) -> tuple[ActivePairs, Tensor, Tensor]:
    """Pairs, reconstruction and dot products by torch's own operations."""
    with monkeypatch.context() as patch:
        patch.setattr(sparse, "_compiled", lambda: None)
        pairs = pairs_above(some_sae(), residuals(0), above)
        products = dot_products(pairs, some_sae().W_dec.detach(), residuals(1))
        return pairs, decode_pairs(some_sae(), pairs), products


def test_each_pass_is_that_of_torchs_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    above = torch.linspace(-0.2, 0.5, D_SAE)
    expected, sae_out, products = plainly(monkeypatch, above)
    found = pairs_above(some_sae(), residuals(0), above)
    for name in ("offsets", "features", "tokens"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    torch.testing.assert_close(found.feature_acts, expected.feature_acts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(decode_pairs(some_sae(), found), sae_out, rtol=1e-5, atol=1e-5)
    again = dot_products(found, some_sae().W_dec.detach(), residuals(1))
    torch.testing.assert_close(again, products, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("_threads_as_before")
def test_weights_do_not_depend_on_the_number_of_threads() -> None:
    torch.set_num_threads(1)
    alone = trained()
    torch.set_num_threads(2)
    assert_equal(alone, trained())
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_threads_as_before")
def test_two_saes_may_train_at_the_same_time() -> None:
    torch.set_num_threads(2)
    expected = trained()
    with ThreadPoolExecutor(2) as pool:
        for step in [pool.submit(trained) for _ in range(4)]:
            assert_equal(step.result(), expected)


def test_the_kept_encoder_is_the_rounded_one() -> None:
    step = trained("bfloat16")
    _, kept = cpu._coarse[step.sae]
    assert torch.equal(kept, step.sae.W_enc.T.to(torch.bfloat16))
    with torch.no_grad():
        step.sae.W_enc.mul_(1.1)
    assert torch.equal(cpu.coarse_encoder(step.sae), step.sae.W_enc.T.to(torch.bfloat16))


def test_where_nothing_can_be_written_the_kernels_are_compiled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = numba_kernels.njit

    def no_cache(*signature: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available for file")
        return real(*signature, **options)

    monkeypatch.setattr(numba_kernels, "njit", no_cache)

    @numba_kernels._kernel("int64(int64)")
    def twice(number):
        return 2 * number

    assert twice(4) == 8


def test_numba_is_loaded_for_the_first_pairs_alone() -> None:
    program = "import sys, saetrack.sae.step; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
