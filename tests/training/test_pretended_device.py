"""Tracks on a pretended GPU: what the CPU gives, bit by bit, and how often the host waits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.plan import Chain
from saetrack.data.corpus import Corpus
from saetrack.lm import loading
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hooked import HookedLM
from saetrack.sae.config import Optimiser, ReLUConfig
from saetrack.sae.kernels import sparse
from saetrack.sae.model import new_sae
from saetrack.sae.step import SPARSE_BELOW, TrainStep
from saetrack.sae.trainer import Training, train
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.link import LinkTraining
from saetrack.training.massive import find_massive
from saetrack.training.mixing_buffer import MixingBuffer
from saetrack.training.state import save_state
from saetrack.utils.device import choose_device
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.pretended_device import OnGpu, PretendedGpu, pretended_gpu
from tests.support.running import broken_off, plan, run, trained_with

# Dense steps, then sparse ones from a warm start; each hook is evaluated, with its CE loss.
TRACK: dict[str, Any] = {
    "layers": [],
    "hooks": ["resid_pre.1", "mlp_out.0"],
    "schedule": [
        {"first": 0, "last": 0, "tokens": 2_048},
        {"first": 5, "last": 5, "tokens": 1_024},
    ],
    "evaluation": {"matched_l0": 8, "ce_tokens": 256, "eval_at_fractions": [0.5]},
    "buffer_tokens": 1_024,
    "save_every_s": 60,
}
CONVENTIONAL = {**TRACK, "hooks": ["resid_pre.1"], "schedule": TRACK["schedule"][1:]}

# How often the host waits for the GPU in a step. A dense step reads how many pairs were active,
# which decides about the next step. A sparse one reads which they are, for each part of the
# encoder's product (here there is one), and then where each feature's begin. Triton's step
# (`tests/sae`) reads once, while the GPU has work to do.
WAITS = {"dense": 1, "sparse": 2}
# Half a pool is replaced after many batches: its order is read and written, and a chunk of rows
# passes through the LM, which gets tokens and says whether its activations are finite.
WAITS_OF_A_REFILL = 6
THRESHOLDS = {"dense": 0.0, "sparse": 1.1}


def compute_plainly(patch: pytest.MonkeyPatch) -> None:
    """By torch's plain operations: compiled kernels and fused attention round otherwise."""
    patch.setattr(sparse, "_compiled", lambda: None)
    patch.setattr(loading, "_has_own_scale", lambda _: True)


@pytest.fixture(autouse=True)
def _plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_plainly(monkeypatch)


@pytest.fixture(autouse=True)
def _without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interpreter is slow: `tests/sae` has its step."""
    monkeypatch.setattr("saetrack.sae.step.find_spec", lambda _: None)


def take_both_kinds_of_steps(patch: pytest.MonkeyPatch) -> None:
    """Between the densities that these SAEs have."""
    defaults = TrainStep.__init__.__defaults__ or ()
    changed = tuple(0.5 if value == SPARSE_BELOW else value for value in defaults)
    patch.setattr(TrainStep.__init__, "__defaults__", changed)


@pytest.fixture(autouse=True)
def _both_kinds_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    take_both_kinds_of_steps(monkeypatch)


@pytest.fixture(scope="module")
def expected(source: CheckpointSource, corpus: Corpus) -> MemoryStore:
    with pytest.MonkeyPatch.context() as patch:
        take_both_kinds_of_steps(patch)
        compute_plainly(patch)
        return trained_with(source, corpus, **TRACK)


def users_device(settings: Settings) -> torch.device:
    """What `auto` finds; a test that is not on the pretended GPU fails here."""
    device = choose_device(settings.model_copy(update={"device": "auto"}))
    assert device.type == "cuda"
    return device


def assert_same(found: MemoryStore, expected: MemoryStore, identities: list[str]) -> None:
    """Bit by bit, weights and metrics, the seconds apart."""
    for identity in identities:
        of_cpu, of_gpu = expected.links[identity], found.links[identity]
        for name, weight in of_cpu.sae.state_dict().items():
            there = of_gpu.sae.state_dict()[name]
            assert isinstance(there, OnGpu), name
            assert torch.equal(there.cpu(), weight), name
        assert {**of_gpu.metrics, "train_s": 0} == {**of_cpu.metrics, "train_s": 0}
        assert torch.equal(of_gpu.evaluation.feature_density, of_cpu.evaluation.feature_density)
        assert of_gpu.residual_mean_distance == of_cpu.residual_mean_distance
        assert of_gpu.warnings == of_cpu.warnings


def test_a_track_gives_what_it_gives_on_the_cpu(
    source: CheckpointSource, corpus: Corpus, settings: Settings, expected: MemoryStore
) -> None:
    with pretended_gpu():
        store = MemoryStore()
        assert run(plan(source, corpus, **TRACK), source, store, None, users_device(settings)) == 4
        assert_same(store, expected, list(expected.links))
    shares = [link.metrics["sparse_share"] for link in expected.links.values()]
    assert min(shares) < 1 and max(shares) > 0, [
        link.evaluation.l0 / 64 for link in expected.links.values()
    ]


def test_training_goes_on_from_its_state(
    source: CheckpointSource,
    corpus: Corpus,
    settings: Settings,
    expected: MemoryStore,
    tmp_path: Path,
) -> None:
    track, store = plan(source, corpus, **{**TRACK, "save_every_s": 0}), MemoryStore()
    with pretended_gpu():
        device = users_device(settings)
        with broken_off(after_batches=5):
            run(track, source, store, tmp_path, device)
        assert len(list(tmp_path.glob("*.safetensors"))) == 1
        assert run(track, source, store, tmp_path, device) == 4
        assert_same(store, expected, list(expected.links))


def test_a_gpu_without_room_for_a_state_is_no_broken_state(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    track = plan(source, corpus, **CONVENTIONAL)
    path = tmp_path / f"{track.jobs[0].key}.safetensors"
    save_state(path, {"pool": torch.zeros(1)}, {"links": {"1": {}}})
    monkeypatch.setattr(LinkTraining, "restore", full)
    with pytest.raises(torch.OutOfMemoryError):
        run(track, source, MemoryStore(), tmp_path)
    assert path.exists()


def test_massive_residuals_are_found() -> None:
    resid, tokens = torch.ones(40, 4), torch.arange(40) % 7
    resid[3] *= 1_000
    expected = find_massive(resid, tokens, torch.arange(40))
    assert expected is not None and expected.counts == {3: 1}
    with pretended_gpu():
        assert find_massive(resid.to("cuda"), tokens, torch.arange(40)) == expected


def test_conventional_training(
    source: CheckpointSource, corpus: Corpus, settings: Settings
) -> None:
    on_cpu = trained_with(source, corpus, **CONVENTIONAL)
    with pretended_gpu():
        store, track = MemoryStore(), plan(source, corpus, **CONVENTIONAL)
        assert track.config.direction == "conventional"
        run(track, source, store, None, users_device(settings))
        assert_same(store, on_cpu, list(on_cpu.links))


def waits_by_step(path: str, lm: HookedLM, corpus: Corpus, gpu: PretendedGpu) -> list[Counter[str]]:
    """Of 12 steps, the first of which fills the pool and some of which refill it."""
    sae = new_sae(lm.d_in, 64, torch.zeros(lm.d_in), seed=0).to(lm.device)
    step = TrainStep(sae, ReLUConfig(), sparse_below=THRESHOLDS[path])
    trainings = [Training(step, Optimiser(learning_rate=1e-3))]
    store = ActivationsStore(lm, corpus, exclude_bos=True, seed=0)
    found, before = [], gpu.waits
    for _ in train(trainings, MixingBuffer(store, 3_072, 256, 1_024)):
        found.append(gpu.waits - before)
        before = gpu.waits
    return found


@pytest.mark.parametrize("path", WAITS)
def test_how_often_the_host_waits_in_a_step(
    path: str, source: CheckpointSource, corpus: Corpus, chain: Chain, settings: Settings
) -> None:
    folder = source.fetch(chain.links[0].checkpoint)
    with pretended_gpu() as gpu:
        lm = HookedLM(folder, [chain.hook], device=users_device(settings))
        found = waits_by_step(path, lm, corpus, gpu)
    refills = [waits for waits in found if any("mixing_buffer" in line for line in waits)]
    plain = [waits for waits in found[1:] if waits not in refills]
    assert (len(refills), len(plain)) == (5, 7)
    for waits in plain:
        assert waits.total() <= WAITS[path], waits
    for waits in refills[1:]:
        assert waits.total() <= WAITS[path] + WAITS_OF_A_REFILL, waits
