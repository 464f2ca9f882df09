"""A track over hooks of several kinds: trained, broken off, gone on, registered, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.plan import Chain
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import Registry
from saetrack.registry.formats.export import export_chain
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.running import broken_off, plan, run, trained_with

HOOKS: dict[str, Any] = {
    "layers": [],
    "hooks": ["attn_out.0", "mlp_out.1"],
    "schedule": [{"first": 0, "last": 1, "tokens": 4_096}],
}


@pytest.fixture(scope="module")
def trained(source: CheckpointSource, corpus: Corpus) -> MemoryStore:
    return trained_with(source, corpus, **HOOKS)


def weights(store: MemoryStore) -> dict[str, torch.Tensor]:
    return {identity: link.sae.W_dec.detach() for identity, link in store.links.items()}


def test_a_layer_is_short_for_what_enters_its_block(
    source: CheckpointSource, corpus: Corpus, chain: Chain
) -> None:
    (same,) = plan(source, corpus, layers=[], hooks=["resid_pre.1"]).chains
    (by_full_name,) = plan(source, corpus, layers=[], hooks=["blocks.1.hook_resid_pre"]).chains
    assert (same.name, same.links) == (chain.name, chain.links)
    assert (by_full_name.name, by_full_name.links) == (chain.name, chain.links)
    beside = plan(source, corpus, hooks=["resid_post.1", "attn_out.1"]).chains
    assert [one.hook_name for one in beside] == [
        f"blocks.1.hook_{kind}" for kind in ("resid_pre", "attn_out", "resid_post")
    ]
    assert (beside[0].name, beside[0].links) == (chain.name, chain.links)
    assert beside[1].name.startswith("nano.L1-attn_out.forward.s0.")
    assert len({link.identity for one in beside for link in one.links}) == 3 * len(chain.links)


def test_each_of_several_hooks_trains_as_if_it_were_alone(
    source: CheckpointSource, corpus: Corpus, trained: MemoryStore
) -> None:
    alone = [trained_with(source, corpus, **{**HOOKS, "hooks": [hook]}) for hook in HOOKS["hooks"]]
    expected = weights(alone[0]) | weights(alone[1])
    together = weights(trained)
    assert together.keys() == expected.keys()
    assert all(torch.equal(together[identity], expected[identity]) for identity in expected)
    for link in trained.links.values():
        assert link.evaluation.explained_variance > 0.2


def test_a_pass_over_two_hooks_that_was_broken_off_goes_on_and_ends_the_same(
    source: CheckpointSource,
    corpus: Corpus,
    trained: MemoryStore,
    tmp_path: Path,
) -> None:
    track, store = plan(source, corpus, **HOOKS, save_every_s=0), MemoryStore()
    with broken_off(after_batches=6):
        run(track, source, store, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert run(track, source, store, tmp_path) == 4
    found, expected = weights(store), weights(trained)
    assert list(found) == list(expected)
    assert all(torch.equal(found[identity], expected[identity]) for identity in expected)


def test_the_ce_loss_is_that_of_the_hook_that_was_read(
    source: CheckpointSource, corpus: Corpus, trained: MemoryStore
) -> None:
    mlp = plan(source, corpus, **HOOKS).chains[1]
    link = mlp.links[-1]
    lm = HookedLM(source.fetch(link.checkpoint), [mlp.hook], whole=True)
    tokens = torch.from_numpy(corpus.rows("held_out")[:32].astype("int64"))
    found = trained.links[link.identity].metrics
    zero = lm.spliced_loss(tokens, Hook("mlp_out", 1), torch.zeros_like)
    assert found["ce_loss_zero"] == pytest.approx(zero, abs=1e-5)
    assert found["ce_loss"] == pytest.approx(lm.spliced_loss(tokens, mlp.hook, None), abs=1e-5)


def test_what_is_registered_and_exported_says_its_hook(
    settings: Settings, source: CheckpointSource, corpus: Corpus, tmp_path: Path
) -> None:
    registry = Registry(settings)
    track = plan(source, corpus, **HOOKS)
    assert run(track, source, registry) == 4
    assert run(track, source, registry) == 0
    assert registry.registered(track.config)[1] == 4
    for chain, words in zip(track.chains, ("of attention", "of the MLP"), strict=True):
        found = registry.config_of(chain.name)
        assert (found.layers, found.hooks) == ((), (chain.hook,))
        assert registry.pull(chain.name, version=1).cfg["hook_name"] == chain.hook.name
        (name, *_) = export_chain(registry, chain.name, tmp_path / chain.hook.short)["folder"]
        exported = json.loads((tmp_path / chain.hook.short / name / "cfg.json").read_text())
        assert exported["metadata"]["hook_name"] == chain.hook.name
        card = (tmp_path / chain.hook.short / "README.md").read_text()
        assert f"on `{chain.hook.name}`" in card
        assert f"trained on the output {words} less its mean" in card
    one = track.config.model_copy(update={"hooks": track.config.hooks[:1]})
    assert registry.registered(one)[1] == 2
