"""Chains of every architecture: they learn, go on bit by bit, and are of one kind throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.config import load_config
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import broken_off, plan, run, trained_with

KINDS: dict[str, dict[str, Any]] = {
    "topk": {"architecture": "topk", "k": 3, "dead_after_tokens": 1_024},
    "matryoshka": {"architecture": "batchtopk", "k": 3, "matryoshka": [16, 32]},
    "batchtopk": {"architecture": "batchtopk", "k": 3, "dead_after_tokens": 1_024},
    "jumprelu": {
        "architecture": "jumprelu",
        "l0_coefficient": 0.01,
        "dead_after_tokens": 1_024,
    },
}
SHORT = [{"first": 0, "last": 0, "tokens": 8_192}, {"first": 1, "last": 2, "tokens": 2_048}]


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    values: dict[str, Any] = KINDS[request.param]
    return values


@pytest.fixture(scope="module")
def undisturbed(kind: dict[str, Any], source: CheckpointSource, corpus: Corpus) -> MemoryStore:
    return trained_with(source, corpus, sae=kind, schedule=SHORT)


def test_the_chain_learns_and_keeps_its_sparsity(
    kind: dict[str, Any], undisturbed: MemoryStore
) -> None:
    for trained in undisturbed.links.values():
        evaluation = trained.evaluation
        assert trained.sae.architecture == kind["architecture"]
        assert evaluation.explained_variance > 0.4
        # Of JumpReLU a coefficient decides, which has pushed it far below the half it began with.
        assert evaluation.l0 == pytest.approx(kind.get("k", 12), rel=0.5)
    starts = [of[0][1]["explained_variance"] for of in undisturbed.metrics.values()]
    assert starts[0] < starts[1], "a link starts from its parent's weights"


def test_a_chain_that_is_broken_off_ends_the_same(
    kind: dict[str, Any],
    undisturbed: MemoryStore,
    source: CheckpointSource,
    corpus: Corpus,
    tmp_path: Path,
) -> None:
    track = plan(source, corpus, sae=kind, schedule=SHORT, save_every_s=0)
    store = MemoryStore()
    with broken_off(after_batches=3, of_pass=2):
        run(track, source, store, tmp_path)
    assert len(store.links) == 1
    run(track, source, store, tmp_path)
    for identity, trained in undisturbed.links.items():
        again = store.links[identity].sae.state_dict()
        for name, tensor in trained.sae.state_dict().items():
            assert torch.equal(tensor, again[name]), name


@pytest.mark.parametrize(
    ("sae", "message"),
    [
        (
            {"architecture": "gated"},
            r"sae=.*: 'gated' is none of 'relu', 'topk', 'batchtopk', 'jumprelu'",
        ),
        ({"architecture": "topk", "k": 0}, r"sae=.*: k=0 must be 1 or more"),
        ({"architecture": "topk", "k": 65}, r"sae.k=65: must be at most d_sae=64"),
        (
            {"architecture": "topk", "l1_coefficient": 1e-3},
            r"sae.l1_coefficient=0.001: unknown name",
        ),
        ({"architecture": "batchtopk", "matryoshka": [32, 16]}, r"matryoshka=\[32, 16\] must asc"),
        ({"architecture": "topk", "matryoshka": [64]}, r"sae.matryoshka=\[64\]: .*d_sae=64"),
        ({"architecture": "jumprelu", "bandwidth": 0}, r"bandwidth=0.* must be more than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(sae: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config({**NANO_TRACK, "sae": sae})
    assert "\n" not in str(refused.value)


def test_the_former_name_of_the_group_is_answered_with_the_present_one() -> None:
    values = {name: value for name, value in NANO_TRACK.items() if name != "sae"}
    with pytest.raises(UserError, match=r"loss: is called sae"):
        load_config({**values, "loss": {"l1_coefficient": 1e-3}})
