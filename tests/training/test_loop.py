"""The chain: warm starts, seeds, identities, resuming. On a dictionary instead of a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain, Link, Track
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hooked import HookedLM
from saetrack.sae.step import TrainStep
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.link import LinkTraining
from saetrack.training.mixing_buffer import MixingBuffer
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import broken_off, plan, run, run_jobs, trained_with


@pytest.fixture(scope="module")
def trained(track: Track, source: CheckpointSource) -> MemoryStore:
    """The nano chain, undisturbed."""
    store = MemoryStore()
    assert run(track, source, store) == 4
    return store


def same_weights(first: MemoryStore, second: MemoryStore) -> bool:
    return list(first.links) == list(second.links) and all(
        torch.equal(a, b)
        for identity in first.links
        for a, b in zip(
            first.links[identity].sae.parameters(),
            second.links[identity].sae.parameters(),
            strict=True,
        )
    )


def evaluations(store: MemoryStore, identity: str) -> list[tuple[int, dict[str, float]]]:
    """What was measured, without what no two runs share."""
    return [
        (done_tokens, {**metrics, "train_s": 0})
        for done_tokens, metrics in store.metrics[identity]
        if "loss" in metrics
    ]


def test_what_another_process_trains_meanwhile_is_not_counted(
    track: Track, source: CheckpointSource, trained: MemoryStore
) -> None:
    class Shared(MemoryStore):
        """A rival registers each link between our look at the store and our claim."""

        def claim(self, chain: Chain, link: Link) -> None:
            self.links[link.identity] = trained.links[link.identity]

    assert run(track, source, Shared()) == 0


def test_the_chain_learns(chain: Chain, trained: MemoryStore) -> None:
    for link in chain.links:
        history = evaluations(trained, link.identity)
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


def test_a_warm_link_of_few_active_features_is_sparse_from_its_first_step(
    source: CheckpointSource, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = [{"first": 0, "last": 1, "tokens": 512}]
    densities = []
    step = TrainStep.__call__

    def noted(self: TrainStep, *args: Any) -> Any:
        densities.append(self.density)
        # Sparse as soon as the density is that of a trained SAE; 1 is that of one never measured.
        self._sparse_below = 0.9 if len(densities) > 2 else 0.0
        return step(self, *args)

    monkeypatch.setattr(TrainStep, "__call__", noted)
    cold, warm = trained_with(source, corpus, schedule=schedule).links.values()
    assert densities[0] == pytest.approx(0.5, abs=0.1)
    parent_density = float(cold.evaluation.feature_density.mean())
    assert densities[2] == pytest.approx(parent_density, rel=0.2)
    assert (cold.metrics["sparse_share"], warm.metrics["sparse_share"]) == (0, 1)


def test_the_same_config_gives_bit_equal_weights(
    track: Track, source: CheckpointSource, trained: MemoryStore
) -> None:
    again = MemoryStore()
    run(track, source, again)
    assert same_weights(trained, again)


def test_a_chain_that_was_broken_off_goes_on_and_ends_the_same(
    track: Track, source: CheckpointSource, trained: MemoryStore
) -> None:
    broken = MemoryStore()
    run_jobs(track.jobs[:2], source, broken)
    assert run(track, source, broken) == 2
    assert same_weights(trained, broken)
    assert run(track, source, broken) == 0


@pytest.mark.parametrize("after_batches", [1, 7, 20, 31])
def test_a_link_that_was_broken_off_goes_on_from_its_last_state(
    source: CheckpointSource,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_batches: int,
) -> None:
    changes = {
        "save_every_s": 0,  # after every batch
        "schedule": [{"first": 0, "last": 0, "tokens": 8_192}],
        "corpus": {**NANO_TRACK["corpus"], "exclude_bos": True},  # chunks of uneven length
    }
    undisturbed = trained_with(source, corpus, **changes)
    track = plan(source, corpus, **changes)
    store = MemoryStore()

    with broken_off(after_batches):
        run(track, source, store, tmp_path)
    states = list(tmp_path.glob("*.safetensors"))
    assert len(states) == 1

    batches, trained_batches = MixingBuffer.__iter__, 0

    def counting(self: MixingBuffer) -> Iterator[torch.Tensor]:
        nonlocal trained_batches
        for batch in batches(self):
            trained_batches += 1
            yield batch

    monkeypatch.setattr(MixingBuffer, "__iter__", counting)
    run(track, source, store, tmp_path)
    assert same_weights(undisturbed, store)
    assert trained_batches == 32 - after_batches
    (identity,) = store.links
    assert evaluations(store, identity) == evaluations(undisturbed, identity)
    assert not list(tmp_path.iterdir()), "the state of a finished link is of no use"


def test_a_state_that_cannot_be_read_is_not_used(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path
) -> None:
    changes = {"schedule": [{"first": 0, "last": 0, "tokens": 2_048}]}
    track = plan(source, corpus, **changes)
    (tmp_path / f"{track.jobs[0].key}.safetensors").write_bytes(b"not a state")
    store = MemoryStore()
    run(track, source, store, tmp_path)
    assert same_weights(trained_with(source, corpus, **changes), store)


def test_layers_of_one_pass_equal_layers_alone(
    source: CheckpointSource, corpus: Corpus, trained: MemoryStore
) -> None:
    multi_process = trained_with(source, corpus, layers=[0, 1])
    alone = {**trained_with(source, corpus, layers=[0]).links, **trained.links}
    assert set(multi_process.links) == set(alone)
    for identity, link in multi_process.links.items():
        pairs = zip(link.sae.parameters(), alone[identity].sae.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert {**link.metrics, "train_s": 0} == {**alone[identity].metrics, "train_s": 0}


def test_several_layers_run_the_lm_once_per_batch(
    source: CheckpointSource, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = [{"first": 0, "last": 0, "tokens": 2_048}]
    calls = []
    activations = HookedLM.activations

    def counted(self: HookedLM, tokens: torch.Tensor) -> torch.Tensor:
        calls.append(len(tokens))
        return activations(self, tokens)

    monkeypatch.setattr(HookedLM, "activations", counted)
    trained_with(source, corpus, schedule=schedule, layers=[1])
    alone = list(calls)
    calls.clear()
    trained_with(source, corpus, schedule=schedule, layers=[0, 1])
    assert calls == alone


def test_a_pass_broken_off_between_two_layers_registrations_does_only_the_rest(
    source: CheckpointSource, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"schedule": [{"first": 0, "last": 0, "tokens": 4_096}], "layers": [0, 1]}
    undisturbed = trained_with(source, corpus, **changes)
    track = plan(source, corpus, **changes)
    store = MemoryStore()
    finish = LinkTraining.finish

    def only_the_first(self: LinkTraining, train_s: float) -> int:
        if self.chain.layer == 1:
            raise KeyboardInterrupt
        return finish(self, train_s)

    with monkeypatch.context() as broken:
        broken.setattr(LinkTraining, "finish", only_the_first)
        with pytest.raises(KeyboardInterrupt):
            run(track, source, store, tmp_path)
    assert len(store.links) == 1
    assert run(track, source, store, tmp_path) == 1
    assert same_weights(undisturbed, store)


def identities(
    source: CheckpointSource, corpus: Corpus, changes: dict[str, Any] | None = None
) -> list[str]:
    (chain,) = plan(source, corpus, **(changes or {})).chains
    return [link.identity for link in chain.links]


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [0]},
        {"d_sae": 65},
        {"residual": "raw"},
        {"lm_precision": "bfloat16"},
        {"encoder_precision": "bfloat16"},
        {"sae": {"l1_coefficient": 2e-3}},
        {"sae": {"l1_coefficient": 1e-3, "reconstruction": "mse"}},
        {"first_link": {"learning_rate": 3e-3, "warmup_steps": 10}},
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


def test_what_is_carried_acts_on_links_with_a_parent_only(
    source: CheckpointSource, corpus: Corpus
) -> None:
    before, after = (
        identities(source, corpus),
        identities(source, corpus, {"warm_start": {"scale": "kept"}}),
    )
    assert before[0] == after[0]
    assert not set(before[1:]) & set(after[1:])


@pytest.mark.parametrize("change", [{"save_every_s": 7}, {"follow_s": 3}, {"layers": [0, 1]}])
def test_what_determines_no_weights_changes_no_identity(
    source: CheckpointSource, corpus: Corpus, chain: Chain, change: dict[str, Any]
) -> None:
    same = plan(source, corpus, **change).chains[-1]
    assert same.name == chain.name
    assert same.links == chain.links


def test_the_scale_of_a_warm_start_makes_a_difference(
    source: CheckpointSource, corpus: Corpus
) -> None:
    schedule = [*NANO_TRACK["schedule"][:1], {"first": 1, "last": 1, "tokens": 1_024}]
    (_, changed), (_, plain) = (
        list(
            trained_with(
                source, corpus, schedule=schedule, warm_start={"scale": scale}
            ).links.values()
        )
        for scale in ("kept", "matched")
    )
    assert not torch.equal(changed.sae.W_dec, plain.sae.W_dec)


def test_how_a_link_started_is_measured(chain: Chain, trained: MemoryStore) -> None:
    first, second, *_ = (trained.links[link.identity] for link in chain.links)
    assert second.metrics["start_explained_variance"] == pytest.approx(
        first.metrics["explained_variance"], abs=0.05
    )
    assert second.metrics["start_loss"] == pytest.approx(first.metrics["loss"], rel=0.5)


def stream(config: TrackConfig, source: CheckpointSource, corpus: Corpus, **changes: Any) -> Any:
    (checkpoint,) = source.resolve([5])
    lm = HookedLM(source.fetch(checkpoint), config.all_hooks)
    return ActivationsStore(lm, corpus, **{"exclude_bos": False, "seed": 0, **changes})


def rows_of(tensor: torch.Tensor) -> list[bytes]:
    return sorted(row.numpy().tobytes() for row in tensor)


@pytest.mark.parametrize("exclude_bos", [False, True])
@pytest.mark.parametrize("tokens", [300, 2_048, 5_000])
def test_mixed_batches_serve_each_token_of_the_budget_once(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus, tokens: int, exclude_bos: bool
) -> None:
    residuals = stream(config, source, corpus, exclude_bos=exclude_bos)
    batches = list(MixingBuffer(residuals, tokens, batch_tokens=256, buffer_tokens=1_500))
    sizes = [batch.shape[1] for batch in batches]
    assert sizes[:-1] == [256] * (len(sizes) - 1)
    served = torch.cat(batches, dim=1)[0]
    chunks = torch.cat([residuals.training_chunk(n)[0] for n in range(6)])
    assert rows_of(served) == rows_of(chunks[:tokens])
    assert not torch.equal(served[:256], chunks[:256]), "the buffer must mix"


def test_every_checkpoint_sees_the_same_tokens_in_the_same_order(corpus: Corpus) -> None:
    class Echo:
        """An LM that gives back the tokens themselves."""

        def activations(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens[None, ..., None].float()

    def served(seed: int) -> torch.Tensor:
        residuals = ActivationsStore(Echo(), corpus, False, seed=seed)  # type: ignore[arg-type]
        return torch.cat(list(MixingBuffer(residuals, 3_000, 64, 512)), dim=1)

    assert torch.equal(served(0), served(0))
    assert not torch.equal(served(0), served(1))


def test_bos_is_left_out_if_asked(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus
) -> None:
    kept = stream(config, source, corpus).held_out().shape[1]
    left = stream(config, source, corpus, exclude_bos=True).held_out().shape[1]
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
    track = plan(source, corpus, schedule=schedule)
    (reverse,) = track.chains
    assert [link.checkpoint.checkpoint_index for link in reverse.links] == [5, 3, 1]
    assert [link.tokens for link in reverse.links] == [8_192, 4_096, 4_096]
    assert reverse.name.startswith("nano.L1.reverse.")
    store = MemoryStore()
    assert run(track, source, store) == 3
    parent = store.links[reverse.links[0].identity].evaluation.explained_variance
    warm = store.metrics[reverse.links[1].identity][0][1]["explained_variance"]
    cold = store.metrics[reverse.links[0].identity][0][1]["explained_variance"]
    assert abs(warm - parent) < abs(warm - cold)


def test_a_conventional_sae_is_the_first_link_of_a_chain_from_its_checkpoint(
    chain: Chain, source: CheckpointSource, corpus: Corpus
) -> None:
    schedule = [{"first": 0, "last": 0, "tokens": 8_192}]
    (conventional,) = plan(source, corpus, schedule=schedule).chains
    assert conventional.name.startswith("nano.L1.conventional-step0.s0.")
    assert conventional.links[0].identity == chain.links[0].identity


def test_a_frozen_chain_shows_what_training_alone_moves(
    source: CheckpointSource, corpus: Corpus
) -> None:
    still = {"first": 2, "last": 2}
    schedule = [{**still, "tokens": 8_192}, {**still, "tokens": 4_096, "repeat": 3}]
    track = plan(source, corpus, schedule=schedule)
    (chain,) = track.chains
    assert chain.name.startswith("nano.L1.frozen-step")
    assert [link.checkpoint.checkpoint_index for link in chain.links] == [2] * 4
    assert [link.tokens for link in chain.links] == [8_192, 4_096, 4_096, 4_096]
    assert len({link.identity for link in chain.links}) == 4
    store = MemoryStore()
    assert run(track, source, store) == 4
    first, *_, last = (store.links[link.identity] for link in chain.links)
    assert not torch.equal(first.sae.W_dec, last.sae.W_dec)
