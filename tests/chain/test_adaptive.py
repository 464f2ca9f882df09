"""Schedules that are chosen by how far activations move."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from saetrack.chain.adaptive import known_choice, least_worst_path
from saetrack.chain.budget import Plateau
from saetrack.chain.config import load_config
from saetrack.chain.planning import plan
from saetrack.lm import movement
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.training.forecast import forecast
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK

ADAPTIVE = {"adaptive": 4, "first_tokens": 1_024, "tokens": 512}


def nano(**changes: Any) -> Any:
    return load_config({**NANO_TRACK, "schedule": {**ADAPTIVE, **changes}})


def test_the_path_has_the_smallest_largest_move() -> None:
    points = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    moves = torch.cdist(points, points).tolist()
    found = least_worst_path(moves, 4)
    paths = [(0, *inner, 8) for inner in combinations(range(1, 8), 2)]
    assert tuple(found) in paths

    def worst(path: Any) -> float:
        return max(moves[i][j] for i, j in pairwise(path))

    assert worst(found) == min(map(worst, paths))


def test_lost_variance_is_what_standing_still_leaves_unexplained() -> None:
    x = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)) + 5
    lost = movement.lost_variance(x)
    assert lost.diagonal().abs().max() < 1e-9
    residue = (x[2] - x[0]).square().sum() / (x[2] - x[2].mean(dim=0)).square().sum()
    assert lost[0, 2].item() == pytest.approx(residue.item(), rel=1e-5)


def test_checkpoints_are_chosen_once_and_kept(
    settings: Settings, source: CheckpointSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nano()
    assert known_choice(config, settings.cache_dir) is None
    before = forecast(config, settings)
    assert (before.links, before.train_tokens) == (4, 1_024 + 3 * 512)
    (chain,) = plan(config, source, settings).chains
    steps = [link.checkpoint.lm_step for link in chain.links]
    assert (len(steps), steps[0], steps[-1]) == (4, 0, 16)
    assert steps == sorted(set(steps))
    assert [link.tokens for link in chain.links] == [1_024, 512, 512, 512]
    choice = known_choice(config, settings.cache_dir)
    assert choice is not None
    assert choice.lm_steps == steps

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(movement, "measure_moves", never)
    (again,) = plan(config, source, settings).chains
    assert (again.name, again.links) == (chain.name, chain.links)
    # The chain is that of a schedule which names these steps: a registry needs no cache to read it.
    schedule = [{"first": s, "last": s, "every": 1, "tokens": 512} for s in steps]
    schedule[0]["tokens"] = 1_024
    named = load_config({**NANO_TRACK, "schedule": schedule})
    (written,) = plan(named, source, settings).chains
    assert (written.name, written.links) == (chain.name, chain.links)


def test_a_choice_of_another_lm_is_not_kept(settings: Settings, source: CheckpointSource) -> None:
    config = nano(adaptive=3)
    plan(config, source, settings)
    (path,) = (
        path
        for path in (settings.cache_dir / "schedules").glob("*.json")
        if len(json.loads(path.read_text())["lm_steps"]) == 3
    )
    right = json.loads(path.read_text())
    path.write_text(json.dumps({**right, "lm": "another", "lm_steps": [0, 1, 2]}))
    plan(config, source, settings)
    assert json.loads(path.read_text()) == right


def test_a_stride_leaves_out_candidates_and_a_plateau_ends_links(
    settings: Settings, source: CheckpointSource
) -> None:
    budget = {"max": 1_024, "until": "plateau"}
    (chain,) = plan(nano(adaptive=3, stride=3, tokens=budget), source, settings).chains
    assert [link.checkpoint.checkpoint_index for link in chain.links] == [0, 3, 5]
    assert [type(link.budget) for link in chain.links] == [int, Plateau, Plateau]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"adaptive": 1}, r"schedule.adaptive=1: input should be greater than or equal to 2$"),
        ({"tokens": 0}, r"schedule.tokens=0: input should be greater than 0$"),
        (
            {"links": 4},
            r"schedule.links=4: unknown name; known: adaptive, first_tokens, stride, tokens$",
        ),
        (
            {"adaptive": 7},
            r"schedule.adaptive=7: nano has 6 checkpoints to choose from at stride=1$",
        ),
    ],
)
def test_a_bad_adaptive_schedule_is_refused(
    settings: Settings, change: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        forecast(nano(**change), settings)
