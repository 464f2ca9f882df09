"""Which LM a folder holds: by its first checkpoint's content, wherever the folder lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saetrack.lm.checkpoints.hub_source import HubSource
from saetrack.lm.checkpoints.source import CheckpointSource
from tests.support.live_folder import look_into, write

pytestmark = pytest.mark.usefixtures("impatient")


def a_run(place: Path, *lm_steps: int, seed: float = 0) -> Path:
    """A folder of the name that everyone's has."""
    (place / "out").mkdir(parents=True)
    for lm_step in lm_steps:
        write(place / "out", lm_step, value=lm_step + seed)
    return place / "out"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_folders_of_one_name_with_other_weights_are_two_lms(tmp_path: Path, cache: Path) -> None:
    a, b = a_run(tmp_path / "a", 20, 60), a_run(tmp_path / "b", 20, 60, seed=0.5)
    first, second = (look_into(path, cache) for path in (a, b))
    assert first.spec.name == second.spec.name
    assert first.lm_identity != second.lm_identity
    assert len(first.lm_identity) == 40


def test_a_folder_that_is_copied_or_grows_stays_the_same_lm(tmp_path: Path, cache: Path) -> None:
    folder = a_run(tmp_path / "a", 20)
    identity = look_into(folder, cache).lm_identity
    write(folder, 60)
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "out"))
    assert look_into(folder, cache).lm_identity == identity
    assert look_into(copy, cache).lm_identity == identity
    assert look_into(copy, tmp_path / "cache of another machine").lm_identity == identity


def test_it_outlives_the_first_checkpoint_and_a_move(tmp_path: Path, cache: Path) -> None:
    folder = a_run(tmp_path / "a", 20, 60, 100)
    before = look_into(folder, cache)
    for lost in ("checkpoint-20", "checkpoint-60"):
        shutil.rmtree(folder / lost)
    assert look_into(folder, cache).lm_identity == before.lm_identity
    moved = tmp_path / "archive" / "out"
    moved.parent.mkdir()
    folder.rename(moved)
    write(moved, 140)
    after = look_into(moved, cache)
    assert after.lm_identity == before.lm_identity
    assert after.spec.lm_steps == (20, 60, 100, 140), "indices stay what they were"
    assert after.resolve([0, 1, 2]) == before.resolve([0, 1, 2])


def test_another_run_in_its_former_path_is_another_lm(tmp_path: Path, cache: Path) -> None:
    folder = a_run(tmp_path / "a", 20, 60)
    before = look_into(folder, cache).lm_identity
    moved = tmp_path / "archive" / "out"
    moved.parent.mkdir()
    folder.rename(moved)
    a_run(tmp_path / "a", 20, 60, seed=0.5)
    assert look_into(folder, cache).lm_identity != before
    assert look_into(moved, cache).lm_identity == before


def test_a_fork_shares_only_what_came_before_it(tmp_path: Path, cache: Path) -> None:
    folder = a_run(tmp_path / "a", 20, 60, 100)
    look_into(folder, cache)
    fork = a_run(tmp_path / "b", 60)
    write(fork, 140)
    assert look_into(fork, cache).spec.lm_steps == (20, 60, 140), "100 is not the fork's"


def test_a_hubs_lm_is_its_repository(source: CheckpointSource) -> None:
    assert isinstance(source, HubSource)
    assert source.lm_identity == source.repo


def test_the_same_weights_are_found_by_their_hashes(
    tmp_path: Path, cache: Path, source: CheckpointSource
) -> None:
    folder = a_run(tmp_path / "a", 20, 60)
    write(folder, 100, value=60)
    (folder / "checkpoint-100" / "config.json").write_text(
        (folder / "checkpoint-60" / "config.json").read_text() + "\n"
    )
    look = look_into(folder, cache)
    twenty, sixty, hundred = map(look.weight_digests, look.resolve([0, 1, 2]))
    assert twenty != sixty == hundred and list(twenty) == ["model.safetensors"]
    first, second = map(source.weight_digests, source.resolve([0, 1]))
    assert first and second and first != second
