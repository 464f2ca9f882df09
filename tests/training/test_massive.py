"""Positions that are left out of training and metrics, and those that a warning names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import Excluded
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.massive import find_massive, warn_of_massive
from tests.support.nano import NANO_TRACK

D_IN = 16


class Massive:
    """An LM whose residuals are as long as one another, but for one token's."""

    device = torch.device("cpu")

    def __init__(self, token_id: int, times: float) -> None:
        self._token_id, self._times = token_id, times

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(int(tokens.sum()))
        resid = torch.randn(1, *tokens.shape, D_IN, generator=generator)
        return resid * torch.where(tokens == self._token_id, self._times, 1.0)[None, ..., None]


def store_of(corpus: Corpus, token_id: int, times: float) -> ActivationsStore:
    lm = Massive(token_id, times)
    return ActivationsStore(lm, corpus, exclude_bos=False, seed=0)  # type: ignore[arg-type]


@pytest.fixture
def frequent(corpus: Corpus) -> int:
    """The most frequent token that is not BOS."""
    counts = np.bincount(corpus.rows("held_out").ravel())
    counts[corpus.bos_token_id] = 0
    return int(counts.argmax())


def test_a_massive_token_is_named_with_what_leaves_it_out(
    corpus: Corpus, frequent: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(corpus, frequent, 2_000)
    held_out = store.held_out()[0]
    found = find_massive(held_out, *store.held_out_positions())
    assert found is not None
    is_massive = corpus.rows("held_out") == frequent
    assert found.counts == {frequent: is_massive.sum()}
    assert found.of_positions == pytest.approx(is_massive.mean())
    assert found.share > 0.99
    lines = [warn_of_massive("a chain of this test", held_out, store) for _ in range(2)]
    (record,) = caplog.records
    assert lines == [(record.getMessage().removeprefix("a chain of this test: "),)] * 2
    assert corpus.tokenizer is not None
    assert f"({corpus.tokenizer.decode([frequent])!r})" in record.getMessage()
    assert "corpus.exclude_tokens" in record.getMessage()


def test_massive_first_positions_are_told_as_such(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(corpus, -1, 1)
    held_out = store.held_out()[0]
    _, positions = store.held_out_positions()
    held_out[positions < 2] *= 500
    warn_of_massive("another chain of this test", held_out, store)
    assert "all among the first 2 of their rows" in caplog.text


def test_nothing_is_said_where_no_token_outweighs_the_others(
    corpus: Corpus, frequent: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(corpus, frequent, 3)
    assert find_massive(store.held_out()[0], *store.held_out_positions()) is None
    left_out = dataclasses.replace(corpus, excluded=Excluded((frequent,)))
    store = store_of(left_out, frequent, 2_000)
    assert warn_of_massive("a third chain of this test", store.held_out()[0], store) == ()
    assert not caplog.records


def test_excluded_positions_leave_training_and_held_out_residuals(
    corpus: Corpus, frequent: int
) -> None:
    whole = store_of(corpus, frequent, 2_000)
    left_out = dataclasses.replace(corpus, excluded=Excluded((frequent,), 1))
    store = store_of(left_out, frequent, 2_000)
    rows = torch.from_numpy(corpus.rows("held_out").astype(np.int64))
    is_kept = rows != frequent
    is_kept[:, 0] = False
    assert torch.equal(store.held_out(), whole.held_out()[:, is_kept.flatten()])
    assert store.training_chunk(0).norm(dim=2).max() < 100
    assert store.training_chunk(0).shape[1] < whole.training_chunk(0).shape[1]


def test_leaving_out_changes_identities_and_leaving_nothing_out_does_not(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus
) -> None:
    def identities(config: TrackConfig, corpus: Corpus) -> list[str]:
        (chain,) = plan_track(config, source, scheduled(config, source), corpus).chains
        return [chain.name, *(link.identity for link in chain.links)]

    before = identities(config, corpus)
    same = {**NANO_TRACK["corpus"], "exclude_tokens": [], "exclude_first_positions": 0}
    assert identities(load_config({**NANO_TRACK, "corpus": same}), corpus) == before
    other = {**NANO_TRACK["corpus"], "exclude_tokens": [5]}
    left_out = dataclasses.replace(corpus, excluded=Excluded((5,)))
    changed = identities(load_config({**NANO_TRACK, "corpus": other}), left_out)
    assert not set(changed) & set(before)
