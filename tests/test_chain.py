"""The chain: warm starts, seeds, identities, resuming. On a dictionary instead of a registry."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from saetrack.activations import ResidualStream
from saetrack.chain import run_chain
from saetrack.config import TrackConfig, load_config
from saetrack.corpus import Corpus
from saetrack.link import run_link
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.lm.residual import ResidualLM
from saetrack.plan import Chain, plan_chain
from tests.memory_store import MemoryStore
from tests.nano import NANO_TRACK

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(chain: Chain, source: CheckpointSource) -> MemoryStore:
    """The nano chain, undisturbed."""
    store = MemoryStore()
    assert run_chain(chain, source, store, CPU) == 4
    return store


def same_weights(one: MemoryStore, other: MemoryStore) -> bool:
    return list(one.links) == list(other.links) and all(
        torch.equal(a, b)
        for identity in one.links
        for a, b in zip(
            one.links[identity].sae.parameters(),
            other.links[identity].sae.parameters(),
            strict=True,
        )
    )


def test_the_chain_learns(chain: Chain, trained: MemoryStore) -> None:
    for link in chain.links:
        history = trained.metrics[link.identity]
        assert history[0][0] == 0
        assert history[-1][0] == link.tokens
        assert history[-1][1]["loss"] < history[0][1]["loss"]
    assert trained.links[chain.links[-1].identity].evaluation.explained_variance > 0.5


def test_each_link_starts_from_the_one_before(
    chain: Chain, source: CheckpointSource, trained: MemoryStore
) -> None:
    # A warm start at step 1 already explains what its parent explained at step 0.
    parent = trained.links[chain.links[0].identity].evaluation.explained_variance
    warm = trained.metrics[chain.links[1].identity][0][1]["explained_variance"]
    cold = trained.metrics[chain.links[0].identity][0][1]["explained_variance"]
    assert abs(warm - parent) < 0.05
    assert cold < parent - 0.3


def test_the_same_config_gives_bit_equal_weights(
    chain: Chain, source: CheckpointSource, trained: MemoryStore
) -> None:
    again = MemoryStore()
    run_chain(chain, source, again, CPU)
    assert same_weights(trained, again)


def test_a_chain_that_was_broken_off_goes_on_and_ends_the_same(
    chain: Chain, source: CheckpointSource, trained: MemoryStore
) -> None:
    broken = MemoryStore()
    for link in chain.links[:2]:
        run_link(chain, link, source, broken, CPU)
    assert run_chain(chain, source, broken, CPU) == 2
    assert same_weights(trained, broken)
    assert run_chain(chain, source, broken, CPU) == 0


def identities(
    source: CheckpointSource, corpus: Corpus, changes: dict[str, Any] | None = None
) -> list[str]:
    config = load_config({**NANO_TRACK, **(changes or {})})
    return [link.identity for link in plan_chain(config, source, corpus).links]


@pytest.mark.parametrize(
    "change",
    [
        {"layer": 0},
        {"d_sae": 65},
        {"convention": "raw"},
        {"lm_precision": "bfloat16"},
        {"objective": {"l1_coefficient": 2e-3}},
        {"objective": {"l1_coefficient": 1e-3, "reconstruction": "mse"}},
        {"first_link": {"learning_rate": 3e-3, "warmup_steps": 10}},
        {"revival": {"policy": "resample"}},
        {"batch_tokens": 128},
        {"buffer_tokens": 1024},
        {"seed": 1},
        {"corpus": {**NANO_TRACK["corpus"], "exclude_bos": True}},
    ],
)
def test_what_determines_weights_determines_identity(
    source: CheckpointSource, corpus: Corpus, change: dict[str, Any]
) -> None:
    before, after = identities(source, corpus), identities(source, corpus, change)
    assert not set(before) & set(after)


def test_a_longer_schedule_keeps_the_identity_of_earlier_links(
    source: CheckpointSource, corpus: Corpus
) -> None:
    shorter = [*NANO_TRACK["schedule"][:1], {"first": 1, "last": 3, "stride": 2, "tokens": 4_096}]
    before = identities(source, corpus, {"schedule": shorter})
    assert identities(source, corpus)[: len(before)] == before


def test_a_later_budget_changes_only_later_links(source: CheckpointSource, corpus: Corpus) -> None:
    longer = [
        NANO_TRACK["schedule"][0],
        {"first": 1, "last": 3, "stride": 2, "tokens": 4_096},
        {"first": 5, "last": 5, "tokens": 8_192},
    ]
    before, after = identities(source, corpus), identities(source, corpus, {"schedule": longer})
    assert before[:3] == after[:3]
    assert before[3] != after[3]


def test_learning_rate_of_later_links_leaves_the_first_alone(
    source: CheckpointSource, corpus: Corpus
) -> None:
    after = identities(source, corpus, {"later_links": {"learning_rate": 1e-3}})
    before = identities(source, corpus)
    assert before[0] == after[0]
    assert not set(before[1:]) & set(after[1:])


@pytest.mark.parametrize("carry", [{"adam": "carried"}, {"b_dec": "median"}], ids=["adam", "b_dec"])
def test_what_is_carried_over_makes_a_difference(
    source: CheckpointSource, corpus: Corpus, trained: MemoryStore, carry: dict[str, str]
) -> None:
    changed = {**NANO_TRACK, "schedule": NANO_TRACK["schedule"][:1], "carry": carry}
    changed["schedule"] = [*changed["schedule"], {"first": 1, "last": 1, "tokens": 1_024}]
    plain = {**changed, "carry": {}}
    stores = []
    for values in (changed, plain):
        store = MemoryStore()
        run_chain(plan_chain(load_config(values), source, corpus), source, store, CPU)
        stores.append(list(store.links.values()))
    (_, carried), (_, fresh) = stores
    assert not torch.equal(carried.sae.W_dec, fresh.sae.W_dec)
    assert (carried.adam is not None) == ("adam" in carry)


def test_dead_features_are_revived_if_asked(source: CheckpointSource, corpus: Corpus) -> None:
    values = {
        **NANO_TRACK,
        "d_sae": 256,
        "objective": {"l1_coefficient": 2e-2},
        "first_link": {"learning_rate": 0.3},  # violent enough to kill features
        "schedule": [{"first": 5, "last": 5, "tokens": 12_288}],
    }
    dead = {}
    for policy in ("none", "resample"):
        store = MemoryStore()
        config = load_config({**values, "revival": {"policy": policy, "window_tokens": 2_048}})
        run_chain(plan_chain(config, source, corpus), source, store, CPU)
        (link,) = store.links.values()
        dead[policy] = link.evaluation.dead
        assert bool(link.revived) == (policy == "resample")
    assert dead["resample"] < 0.8 * dead["none"]


def stream(config: TrackConfig, source: CheckpointSource, corpus: Corpus, **changes: Any) -> Any:
    checkpoint = source.resolve([5])[0]
    lm = ResidualLM(source.fetch(checkpoint), config.layer)
    return ResidualStream(lm, corpus, changes.get("exclude_bos", False), changes.get("seed", 0))


def rows_of(tensor: torch.Tensor) -> list[bytes]:
    return sorted(row.numpy().tobytes() for row in tensor)


def test_mixed_batches_serve_each_token_of_the_budget_once(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus
) -> None:
    residuals = stream(config, source, corpus)
    batches = list(residuals.mixed_batches(5_000, batch_tokens=256, buffer_tokens=2_048))
    assert [len(batch) for batch in batches[:-1]] == [256] * (len(batches) - 1)
    served = torch.cat(batches)
    expected = residuals.first_tokens(5_000)
    assert rows_of(served) == rows_of(expected)
    assert not torch.equal(served[:256], expected[:256]), "the buffer must mix"


def test_every_checkpoint_sees_the_same_tokens_in_the_same_order(
    source: CheckpointSource, corpus: Corpus
) -> None:
    class Echo:
        """An LM that gives back the tokens themselves."""

        def resid_pre(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens[..., None].float()

    one, two = (
        torch.cat(list(ResidualStream(Echo(), corpus, False, seed=0).mixed_batches(3_000, 64, 512)))
        for _ in range(2)
    )
    other = torch.cat(
        list(ResidualStream(Echo(), corpus, False, seed=1).mixed_batches(3_000, 64, 512))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_bos_is_left_out_if_asked(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus
) -> None:
    kept = len(stream(config, source, corpus).held_out())
    left = len(stream(config, source, corpus, exclude_bos=True).held_out())
    tokens = corpus.rows("held_out")
    assert kept == tokens.size
    assert left == int((tokens != corpus.bos_token_id).sum()) < kept


def test_a_reverse_chain_goes_from_the_last_checkpoint_to_the_first(
    source: CheckpointSource, corpus: Corpus
) -> None:
    schedule = [
        {"first": 5, "last": 5, "tokens": 8_192},
        {"first": 3, "last": 1, "stride": 2, "tokens": 4_096},
    ]
    reverse = plan_chain(load_config({**NANO_TRACK, "schedule": schedule}), source, corpus)
    assert [link.checkpoint.checkpoint_index for link in reverse.links] == [5, 3, 1]
    assert [link.tokens for link in reverse.links] == [8_192, 4_096, 4_096]
    assert reverse.name.startswith("nano.L1.reverse.")
    store = MemoryStore()
    assert run_chain(reverse, source, store, CPU) == 3
    parent = store.links[reverse.links[0].identity].evaluation.explained_variance
    warm = store.metrics[reverse.links[1].identity][0][1]["explained_variance"]
    cold = store.metrics[reverse.links[0].identity][0][1]["explained_variance"]
    assert abs(warm - parent) < abs(warm - cold)


def test_a_conventional_sae_is_the_first_link_of_a_chain_from_its_checkpoint(
    chain: Chain, source: CheckpointSource, corpus: Corpus
) -> None:
    alone = load_config({**NANO_TRACK, "schedule": [{"first": 0, "last": 0, "tokens": 8_192}]})
    conventional = plan_chain(alone, source, corpus)
    assert conventional.name.startswith("nano.L1.conventional.")
    assert conventional.links[0].identity == chain.links[0].identity
