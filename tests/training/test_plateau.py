"""Links that end at a plateau: where, on which tokens, broken off and gone on, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.budget import Plateau
from saetrack.chain.config import load_config
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hooked import HookedLM
from saetrack.registry import Registry
from saetrack.training.plateau import PlateauWatch
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import broken_off, plan, run, trained_with

FIRST = {"first": 0, "last": 0, "tokens": 2_048}
BARE = {"eval_at_fractions": [0.5], "matched_l0": 8, "ce_tokens": 0}


def until_plateau(within: float, **changes: Any) -> dict[str, Any]:
    budget = {"max": 8_192, "until": "plateau", "within": within}
    return {
        "schedule": [FIRST, {"first": 3, "last": 4, "tokens": budget}],
        "evaluation": BARE,
        **changes,
    }


# Two hooks of which one ends before the other.
TWO = until_plateau(0.04, layers=[0, 1])


@pytest.fixture(scope="module")
def trained(source: CheckpointSource, corpus: Corpus) -> MemoryStore:
    return trained_with(source, corpus, **TWO)


def found(store: MemoryStore) -> dict[str, tuple[int, torch.Tensor]]:
    return {name: (of.tokens, of.sae.W_dec.detach()) for name, of in store.links.items()}


def test_a_link_that_ends_as_early_as_it_can_is_told() -> None:
    watch = PlateauWatch(Plateau(max=60_000, until="plateau", within=0.05))
    watch.found = [(3_584, 100.0), (5_376, 97.0)]
    assert watch.is_reached()
    assert watch.early_line() == (
        "ended after 5,376 of 60,000 tokens, as early as it can: its loss fell by 3.0% since the "
        "check before (within=0.05; a smaller one trains longer)"
    )
    watch.found = [(3_584, 100.0), (5_376, 90.0), (7_936, 89.0)]
    assert watch.is_reached() and watch.early_line() is None


def test_a_plateau_is_a_small_gain_over_the_last_interval() -> None:
    watch = PlateauWatch(Plateau(max=1_024, until="plateau", within=0.1))
    losses = iter([1.0, 0.8, 0.7, 0.68])
    for done_tokens in range(64, 1_025, 64):
        if watch.is_due(done_tokens):
            watch.found.append((done_tokens, next(losses)))
            if watch.is_reached():
                break
    assert watch.found == [(64, 1.0), (128, 0.8), (192, 0.7), (256, 0.68)]


def test_a_batch_that_passes_several_checks_counts_once() -> None:
    watch = PlateauWatch(Plateau(max=1_024, until="plateau"))
    assert watch.is_due(512)
    watch.found.append((512, 1.0))
    assert not watch.is_due(512)
    assert watch.is_due(1_024)


@pytest.mark.parametrize(("within", "is_short"), [(0.9, True), (1e-9, False)])
def test_a_link_ends_where_its_loss_hardly_falls(
    source: CheckpointSource, corpus: Corpus, within: float, is_short: bool
) -> None:
    store = trained_with(source, corpus, **until_plateau(within))
    first, *later = (link.tokens for link in store.links.values())
    assert first == 2_048
    # The second of the checks at 8192 / 1.5^7, 8192 / 1.5^6, ..., in whole batches of 256.
    assert later == ([768] * 2 if is_short else [8_192] * 2)
    for identity, link in store.links.items():
        history = [tokens for tokens, metrics in store.metrics[identity] if "loss" in metrics]
        assert history == sorted(set(history)) and history[-1] == link.tokens


def test_it_is_looked_for_on_rows_that_no_link_trains_on(
    source: CheckpointSource, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    activations = HookedLM.activations

    def noted(self: HookedLM, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(tokens)
        return activations(self, tokens)

    def rows_of(tokens: Any) -> list[tuple[int, ...]]:
        with monkeypatch.context() as patched:
            patched.setattr(HookedLM, "activations", noted)
            seen.clear()
            schedule = [{"first": 0, "last": 0, "tokens": tokens}]
            trained_with(source, corpus, schedule=schedule)
        return [tuple(row) for chunk in seen for row in chunk.tolist()]

    held_out = {tuple(row) for row in corpus.rows("held_out").tolist()}
    last = [tuple(row) for row in corpus.rows("train")[-4:].tolist()]
    # 128 tokens are 4 rows of 32; the budget makes two rounds of the text where it can.
    whole = [row for row in rows_of(16_384) if row not in held_out]
    budget = {"max": 16_256, "until": "plateau", "within": 1e-9}
    with_plateau = [row for row in rows_of(budget) if row not in held_out]
    assert sorted(set(with_plateau) & set(last)) == sorted(set(last))
    trained = [row for row in with_plateau if row not in set(last)]
    assert len(with_plateau) - len(trained) == 4, "once, to look for the plateau"
    kept = [row for row in whole if row not in set(last)]
    assert trained == kept, "the same rows in the same order"


def test_several_hooks_end_each_for_itself(
    source: CheckpointSource, corpus: Corpus, trained: MemoryStore
) -> None:
    (low, high) = plan(source, corpus, **TWO).chains
    ends = [[trained.links[link.identity].tokens for link in of.links[1:]] for of in (low, high)]
    assert any(a != b for a, b in zip(*ends, strict=True)), "the test shows nothing"
    alone: dict[str, tuple[int, torch.Tensor]] = {}
    for layer in (0, 1):
        alone |= found(trained_with(source, corpus, **{**TWO, "layers": [layer]}))
    together = found(trained)
    assert together.keys() == alone.keys()
    for identity, (tokens, W_dec) in together.items():
        assert tokens == alone[identity][0]
        assert torch.equal(W_dec, alone[identity][1])


@pytest.mark.parametrize("after_batches", [2, 4, 7, 11])
def test_a_link_that_was_broken_off_ends_where_it_would_have(
    source: CheckpointSource,
    corpus: Corpus,
    trained: MemoryStore,
    tmp_path: Path,
    after_batches: int,
) -> None:
    track, store = plan(source, corpus, **TWO, save_every_s=0), MemoryStore()
    with broken_off(after_batches, of_pass=2):
        run(track, source, store, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    run(track, source, store, tmp_path)
    expected = found(trained)
    for identity, (tokens, W_dec) in found(store).items():
        assert tokens == expected[identity][0]
        assert torch.equal(W_dec, expected[identity][1])


def test_what_was_trained_on_is_registered(
    settings: Settings, source: CheckpointSource, corpus: Corpus, trained: MemoryStore
) -> None:
    registry, track = Registry(settings), plan(source, corpus, **TWO)
    run(track, source, registry)
    shorter = plan(
        source,
        corpus,
        **{
            **TWO,
            "layers": [0],
            "schedule": [*TWO["schedule"][:1], {**TWO["schedule"][1], "last": 3}],
        },
    )
    assert run(shorter, source, registry) == 0, "taken over from the other chain"
    for chain in (*track.chains, *shorter.chains):
        tokens = [trained.links[link.identity].tokens for link in chain.links]
        assert list(registry.table(chain)["tokens"]) == tokens
        assert registry.history(chain.name, 2)["tokens"].max() == tokens[1]
        assert registry.pull(chain.name, version=2).cfg["tokens"] == tokens[1]


def test_the_rule_is_part_of_the_identity(source: CheckpointSource, corpus: Corpus) -> None:
    def identities(tokens: Any) -> list[str]:
        schedule = [FIRST, {"first": 3, "last": 4, "tokens": tokens}]
        return [link.identity for link in plan(source, corpus, schedule=schedule).chains[0].links]

    rules = [
        8_192,
        {"max": 8_192, "until": "plateau"},
        {"max": 8_192, "until": "plateau", "within": 0.02},
        {"max": 4_096, "until": "plateau"},
    ]
    of_rules = [identities(rule) for rule in rules]
    assert len({first for first, *_ in of_rules}) == 1
    assert len({identity for _, *later in of_rules for identity in later}) == 8
    assert identities({"max": 8_192, "until": "plateau", "within": 0.01}) == of_rules[1]


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ({"max": 0, "until": "plateau"}, r"max=0: input should be greater than 0"),
        ({"max": 9, "until": "bored"}, r"until='bored': input should be 'plateau'"),
        ({"max": 9}, r"until: missing"),
        ({"max": 9, "until": "plateau", "within": 1}, r"within=1: input should be less than 1"),
        ({"max": 9, "until": "plateau", "share": 1}, r"share=1: unknown name"),
        ("many", r"schedule.1.tokens='many': input should be a valid integer"),
        (
            {"max": 16_384, "until": "plateau"},
            r"tokens.max=16384: must be at most 16256, which is corpus.train_tokens=16384 without",
        ),
    ],
)
def test_a_bad_rule_is_refused(tokens: Any, line: str) -> None:
    schedule = [FIRST, {"first": 3, "last": 3, "tokens": tokens}]
    with pytest.raises(UserError, match=line) as caught:
        load_config({**NANO_TRACK, "schedule": schedule})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("schedule")


def test_rows_of_which_nothing_is_kept_are_refused(
    source: CheckpointSource, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Corpus.kept
    last = corpus.rows("train")[-2:].tolist()

    def none_of_the_last(self: Corpus, tokens: torch.Tensor, *, exclude_bos: bool) -> torch.Tensor:
        is_last = torch.tensor([row in last for row in tokens.tolist()])
        return kept(self, tokens, exclude_bos=exclude_bos) & ~is_last[:, None]

    monkeypatch.setattr(Corpus, "kept", none_of_the_last)
    with pytest.raises(UserError, match="hold nothing but what corpus"):
        trained_with(source, corpus, **until_plateau(0.01))
