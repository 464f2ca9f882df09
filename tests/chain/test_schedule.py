"""Schedules by index and by LM step."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from saetrack.analysis.pipeline.config import load_compare_config
from saetrack.chain.config import load_config
from saetrack.chain.plan import scheduled
from saetrack.chain.schedule import Piece, describe
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError
from tests.support.nano import NANO_TRACK

LM_STEPS = (0, 20, 40, 60, 100, 140)


@pytest.mark.parametrize(
    ("piece", "indices"),
    [
        ({"first": 1, "last": 5, "stride": 2}, [1, 3, 5]),
        ({"first": 4, "last": 2}, [4, 3, 2]),
        ({"first": 2, "last": None, "stride": 3}, [2, 5]),
        ({"first": 20, "last": 60, "every": 20}, [1, 2, 3]),
        ({"first": 140, "last": 20, "every": 40}, [5, 4, 3, 1]),
        ({"first": 20, "last": None, "every": 40}, [1, 3, 4, 5]),
        ({"first": 100, "last": 100, "every": 1}, [4]),
    ],
)
def test_a_piece_names_checkpoints_by_index_or_by_lm_step(
    piece: dict[str, Any], indices: list[int]
) -> None:
    assert Piece(**piece, tokens=1).checkpoint_indices(LM_STEPS) == indices


def test_a_piece_may_visit_its_checkpoints_in_a_random_order() -> None:
    permuted = Piece(first=0, last=5, tokens=1, order_seed=3)
    order = permuted.checkpoint_indices(LM_STEPS)
    assert sorted(order) == list(range(6)) != order
    assert Piece(first=0, last=5, tokens=1, order_seed=3).checkpoint_indices(LM_STEPS) == order
    assert Piece(first=0, last=5, tokens=1, order_seed=4).checkpoint_indices(LM_STEPS) != order
    values = {**NANO_TRACK, "schedule": [permuted.model_dump()]}
    config = load_config(values)
    assert config.direction == "permuted"
    assert [index for index, _ in config.planned or []] == order, "a comparison reads its end there"
    endless = [{"first": 0, "last": None, "tokens": 1, "order_seed": 1}]
    with pytest.raises(UserError, match="order_seed=1: must be left out beside last=null"):
        load_config({**NANO_TRACK, "schedule": endless})


def test_a_piece_in_order_says_nothing_of_it_so_that_names_of_chains_stay() -> None:
    piece = Piece(first=0, last=5, tokens=1)
    assert list(piece.model_dump()) == ["first", "last", "stride", "every", "tokens", "repeat"]


def test_what_an_lm_lacks_is_known_before_anything_is_done() -> None:
    assert Piece(first=20, last=140, every=40, tokens=1).absent(LM_STEPS) == []
    assert Piece(first=20, last=140, every=20, tokens=1).absent(LM_STEPS) == [80, 120]
    assert Piece(first=0, last=7, tokens=1).absent(LM_STEPS) == [6, 7]
    assert describe(LM_STEPS) == "indices 0 to 5, which are LM steps 0, 20, 40, 60, 100, 140"
    assert describe(range(0, 100, 5)) == "indices 0 to 19, which are LM steps 0, 5, 10, ..., 95"


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ([{"first": 20, "last": 70, "every": 20}], r"last=70 must be .* a multiple of every=20"),
        ([{"first": 0, "last": 4, "every": 2, "stride": 2}], r"stride=2: must be left out beside"),
        (
            [{"first": 0, "last": 0}, {"first": 20, "last": 40, "every": 20}],
            r"schedule: every .LM steps. must stand in all pieces or in none",
        ),
        (
            [{"first": 40, "last": 40, "every": 1}, {"first": 20, "last": 60, "every": 20}],
            r"schedule: LM step 20 comes after 40",
        ),
        ([{"first": 0, "last": 10**7, "every": 1}], r"makes more than 1,000,000 links"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_one_line(
    pieces: list[dict[str, Any]], line: str
) -> None:
    schedule = [{**piece, "tokens": 1_024} for piece in pieces]
    with pytest.raises(UserError, match=line) as caught:
        load_config({**NANO_TRACK, "schedule": schedule})
    assert "\n" not in str(caught.value)


def test_the_same_checkpoints_by_step_and_by_index(source: CheckpointSource) -> None:
    lm_steps = source.spec.lm_steps
    of_index = load_config(
        {**NANO_TRACK, "schedule": [{"first": 1, "last": 3, "tokens": 1_024}]},
    )
    by_step = [
        {"first": lm_step, "last": lm_step, "every": 1, "tokens": 1_024}
        for lm_step in lm_steps[1:4]
    ]
    of_step = load_config({**NANO_TRACK, "schedule": by_step})
    assert scheduled(of_step, source) == scheduled(of_index, source)
    assert of_step.direction == of_index.direction == "forward"
    compared = load_compare_config({"track": {**NANO_TRACK, "schedule": by_step}})
    assert scheduled(compared.conventional()[0], source)[0][0].checkpoint_index == 1


def test_steps_that_the_lm_does_not_have_are_refused_with_those_it_has(
    source: CheckpointSource,
) -> None:
    from saetrack.chain.compatibility import require_compatible

    spec = source.spec
    newest = spec.lm_steps[-1]
    missing = [{"first": newest + 7, "last": newest + 7, "every": 1, "tokens": 1_024}]
    with pytest.raises(UserError, match=rf"no LM step {newest + 7}; it has indices 0 to"):
        require_compatible(load_config({**NANO_TRACK, "schedule": missing}), spec)
    meant = [{"first": newest, "last": newest, "tokens": 1_024}]
    with pytest.raises(UserError, match=r"to count by LM step, write `every: N`"):
        require_compatible(load_config({**NANO_TRACK, "schedule": meant}), spec)


def test_a_folder_that_lacks_some_goes_on_and_says_which(
    source: CheckpointSource, caplog: pytest.LogCaptureFixture
) -> None:
    values = {**NANO_TRACK, "schedule": [{"first": 4, "last": 20, "tokens": 1_024}]}
    with caplog.at_level(logging.WARNING):
        found = scheduled(load_config(values), source)
    assert [checkpoint.checkpoint_index for checkpoint, _ in found] == [4, 5]
    assert "nano has no checkpoint 6 (and 14 more)" in caplog.text
