"""The GPU's sparse step against the CPU's, in Triton's interpreter.

With TRITON_INTERPRET=0 the same tests run on a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Before Triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from torch import Tensor

from saetrack.sae.config import EncoderPrecision, ReLUConfig
from saetrack.sae.kernels import fused
from saetrack.sae.kernels.fused import FusedStep
from saetrack.sae.model import SAE, new_sae
from saetrack.sae.step import TrainStep

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
# Neither powers of two nor multiples of what a program handles at a time.
D_IN, D_SAE, TOKENS = 20, 37, 43
DENSE, SPARSE = 0.0, 2.0
OBJECTIVES = [
    ReLUConfig(l1_coefficient=0.05, reconstruction=reconstruction, penalty=penalty)
    for reconstruction in ("scale_free", "mse")
    for penalty in ("unit_decoder", "decoder_norm")
]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loop goes round: 16 features per product and per update, 32 tokens at a time."""
    monkeypatch.setattr(fused, "PRODUCT_BYTES", 16 * TOKENS * 4)
    monkeypatch.setattr(fused, "BLOCK_TOKENS", 32)


def residuals(seed: int = 0, tokens: int = TOKENS) -> Tensor:
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.5


def some_sae(b_enc: float = -1.0) -> SAE:
    """Features 0 to 2 never fire, feature 3 nearly always does, feature 4 on every token."""
    sae = new_sae(D_IN, D_SAE, torch.full((D_IN,), 0.4), seed=0)
    with torch.no_grad():
        sae.b_enc.fill_(b_enc)
        sae.b_enc[:5] = torch.tensor([-1e3, -1e3, -1e3, 2.0, 9.0])
    return sae


def plain_step(sae: SAE, sae_config: ReLUConfig, sparse_below: float = SPARSE) -> TrainStep:
    return TrainStep(sae, sae_config, sparse_below=sparse_below)


def fused_step(
    sae: SAE, sae_config: ReLUConfig, precision: EncoderPrecision = "float32"
) -> TrainStep:
    step = TrainStep(sae.to(DEVICE), sae_config, precision, sparse_below=SPARSE)
    step._fused = FusedStep(step.sae, sae_config, step.adam, precision)
    return step


def relative_error(found: Tensor, expected: Tensor) -> float:
    difference = (found.cpu() - expected).detach().norm()
    return float(difference / expected.detach().norm().clamp_min(1e-30))


def assert_same(found: TrainStep, expected: TrainStep, tolerance: float, names: set[str]) -> None:
    """Up to rounding, the same weights and moments; bit by bit, the same counts."""
    state, plain = found.state(), expected.state()
    for name in names:
        assert relative_error(state[name], plain[name]) < tolerance, name
    for name in ("density", "sparse_steps", "adam_steps"):
        assert torch.equal(state[name].cpu(), plain[name]), name


WEIGHTS = {"W_enc", "b_enc", "W_dec", "b_dec"}
# After the first step, each is a multiple of the gradient, or of its square.
MOMENTS = {f"{name}.{moment}" for name in WEIGHTS for moment in ("exp_avg", "exp_avg_sq")}


@pytest.mark.parametrize("sae_config", OBJECTIVES, ids=lambda o: f"{o.reconstruction}-{o.penalty}")
def test_the_gradient_and_the_step_are_the_cpus(sae_config: ReLUConfig) -> None:
    def sae() -> SAE:
        sae = some_sae()
        if sae_config.penalty == "decoder_norm":
            with torch.no_grad():
                sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
        return sae

    step, plain = fused_step(sae(), sae_config), plain_step(sae(), sae_config)
    terms, expected = step(residuals().to(DEVICE), 1e-2), plain(residuals(), 1e-2)
    for name, found, value in zip(terms._fields, terms, expected, strict=True):
        assert float(found) == pytest.approx(float(value), rel=1e-5), name
    assert 0.1 < step.density < 0.3
    assert_same(step, plain, 5e-6, MOMENTS)
    # Adam divides by the gradient's size: where that is rounding, so is the update.
    assert_same(step, plain, 1e-4, WEIGHTS)


def test_it_agrees_through_steps() -> None:
    sae_config = OBJECTIVES[0]
    step, plain = (
        fused_step(some_sae(), sae_config, "bfloat16"),
        plain_step(some_sae(), sae_config),
    )

    def both(seed: int) -> None:
        terms, expected = step(residuals(seed).to(DEVICE), 1e-3), plain(residuals(seed), 1e-3)
        assert [float(t) for t in terms] == pytest.approx([float(t) for t in expected], rel=1e-5)

    for seed in (0, 1, 2):
        both(seed)
    assert_same(step, plain, 1e-4, WEIGHTS | MOMENTS)


def test_a_coarse_product_misses_nothing() -> None:
    # Each feature's bias makes it fire by a hair, or just not, on a token of its own.
    sae, x = some_sae(), residuals()
    centred = x - sae.b_dec
    with torch.no_grad():
        products = centred @ sae.W_enc
        feature = torch.arange(D_SAE)
        hair = torch.where(feature % 2 == 0, 2e-5, -2e-5)
        sae.b_enc.copy_(hair - products[feature, feature])
        expected = (products + sae.b_enc > 0).sum(dim=0)
        coarse = (centred.bfloat16() @ sae.W_enc.bfloat16()).float() + sae.b_enc
    found_by_sign = (coarse.diagonal()[::2] > 0).float().mean()
    assert found_by_sign < 0.8, "the product's sign alone would have done"
    step = fused_step(sae, OBJECTIVES[0], "bfloat16")
    step.adam.begin_step(0.0)
    assert step._fused is not None
    _, n_active = step._fused(x.to(DEVICE))
    assert n_active == int(expected.sum()) < step._fused.marked


def test_nothing_fires_and_everything_still_moves() -> None:
    def sae() -> SAE:
        sae = some_sae()
        with torch.no_grad():
            sae.b_enc.fill_(-1e3)
        return sae

    step, plain = fused_step(sae(), OBJECTIVES[0]), plain_step(sae(), OBJECTIVES[0])
    # Moments of an earlier step, which go on to move the features.
    for each in (step, plain):
        each.adam.exp_avg["W_enc"].fill_(0.1)
        each.adam.exp_avg_sq["W_enc"].fill_(0.1)
        each(residuals().to(each.sae.b_enc.device), 1e-2)
    assert step.density == 0.0
    moments = {name for name in MOMENTS if name.startswith(("W_enc", "b_dec"))}
    assert_same(step, plain, 1e-5, WEIGHTS | moments)
    assert not step.adam.exp_avg["W_dec"].any()
    assert not step.adam.exp_avg["b_enc"].any()


def test_too_little_room_changes_nothing_but_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, tight = (fused_step(some_sae(), OBJECTIVES[0]) for _ in range(2))
    rooms = []
    train_on = FusedStep._train_on

    def watched(self: FusedStep, *args: Tensor | int) -> object:
        before = {name: tensor.clone() for name, tensor in tight.state().items()}
        done = train_on(self, *args)
        rooms.append(args[-1])
        changed = {n for n, tensor in tight.state().items() if not torch.equal(tensor, before[n])}
        if done[1].read()[0] > args[-1]:
            assert not changed
        else:
            assert changed >= WEIGHTS
        return done

    roomy(residuals().to(DEVICE), 1e-2)
    monkeypatch.setattr(fused, "MIN_ROOM", 64)
    monkeypatch.setattr(FusedStep, "_train_on", watched)
    tight(residuals().to(DEVICE), 1e-2)
    assert rooms[0] == 64
    assert len(rooms) == 2
    for name, tensor in roomy.state().items():
        assert torch.equal(tensor, tight.state()[name]), name


def test_dense_and_fused_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many tokens at a time as in use: more than there are.
    monkeypatch.setattr(fused, "BLOCK_TOKENS", 1024)
    steps = [fused_step(some_sae(-2.0), OBJECTIVES[0]), plain_step(some_sae(-2.0), OBJECTIVES[0])]
    steps[0]._sparse_below, steps[1]._sparse_below = 0.5, DENSE
    for seed in (0, 1):
        for step in steps:
            step(residuals(seed).to(step.sae.b_enc.device), 1e-3)
    assert [step.sparse_steps for step in steps] == [1, 0]
    steps[1].sparse_steps = 1
    assert_same(*steps, 1e-4, WEIGHTS | MOMENTS)


def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """The interpreter knows no types; the compiler does, and needs no GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sae.test_triton"],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(KERNELS)


KERNELS = [f"{name}_kernel" for name in ("mark", "fill", "act", "decode", "update", "bias")]


def compile_kernels() -> None:
    """Run a step whose kernels are compiled for an H100 instead of started."""
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
        get_current_device = staticmethod(lambda: 0)
        get_current_stream = staticmethod(lambda device: 0)

    class Compiled:
        def __init__(self, kernel: object) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int]) -> object:
            def compile_it(*args: object, **options: object) -> None:
                if self.kernel.__name__ == "mark_kernel":
                    args[4].zero_()
                self.kernel.warmup(*args, grid=grid, **options)
                compiled.add(self.kernel.__name__)

            return compile_it

    compiled: set[str] = set()
    triton.runtime.driver.set_active(Driver())
    for name in KERNELS:
        setattr(fused.kernels, name, Compiled(getattr(fused.kernels, name)))
    torch.cuda.device_of = lambda _: torch.no_grad()
    for sae_config, precision in zip(OBJECTIVES[:2], ("float32", "bfloat16"), strict=True):
        sae = new_sae(64, 128, torch.zeros(64), seed=0)
        step = TrainStep(sae, sae_config)
        step.adam.begin_step(1e-3)
        FusedStep(sae, sae_config, step.adam, precision)(torch.randn(32, 64))
    sys.stdout.write(" ".join(sorted(compiled)))


if __name__ == "__main__":
    DEVICE = "cpu"
    compile_kernels()
