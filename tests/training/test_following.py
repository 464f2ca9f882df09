"""A track over a live folder: it extends itself by the new links only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from saetrack.chain.config import TrackConfig, load_config
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import train_missing, train_track
from saetrack.training.prepare import PreparedTrack, prepare, wait_until_grown
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import trained_with

pytestmark = pytest.mark.usefixtures("impatient")

SCHEDULE = [
    {"first": 0, "last": 0, "tokens": 4_096},
    {"first": 1, "last": None, "tokens": 2_048},
]


def config(live: Path, **changes: Any) -> TrackConfig:
    values = {**NANO_TRACK, "model": str(live), "schedule": SCHEDULE, "follow_s": 0.2, **changes}
    return load_config(values)


def arrive(live: Path, source: CheckpointSource, checkpoint_index: int) -> None:
    """As the LM's training would write it."""
    (checkpoint,) = source.resolve([checkpoint_index])
    folder = live / f"checkpoint-{checkpoint.lm_step}"
    shutil.copytree(source.fetch(checkpoint), folder)
    source.tokenizer()[0].save_pretrained(folder)


def follow(config: TrackConfig, settings: Settings) -> Iterator[PreparedTrack]:
    """The track as it stands, and again each time that its folder has grown."""
    while True:
        prepared = prepare(config, settings)
        yield prepared
        if not wait_until_grown(prepared):
            return


def test_the_chain_grows_with_the_folder_and_equals_that_of_the_finished_lm(
    live: Path, settings: Settings, source: CheckpointSource, corpus: Corpus
) -> None:
    arrive(live, source, 0)
    trained, names = [], set()
    for ready in follow(config(live), settings):
        trained.append(train_track(ready.track, ready.source, ready.context))
        (chain,) = ready.track.chains
        update_chain_page(ready.registry, chain)
        assert ready.registry.is_finished(chain), "as far as it goes"
        names.add(chain.name)
        if len(trained) < 4:
            arrive(live, source, len(trained))
    assert trained == [1, 1, 1, 1]
    assert len(names) == 1, "one chain that grows"
    assert [run_again(live, settings) for _ in range(2)] == [0, 0]
    schedule = [SCHEDULE[0], {"first": 1, "last": 3, "tokens": 2_048}]
    finished = trained_with(source, corpus, schedule=schedule)
    registry = Registry(settings)
    for version, link in enumerate(finished.links.values(), start=1):
        ours = registry.pull(chain.name, version=version).sae
        pairs = zip(ours.parameters(), link.sae.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert registry.pull(chain.name, alias="final").version == 4


def run_again(live: Path, settings: Settings) -> int:
    (ready,) = follow(config(live, follow_s=0), settings)
    return train_track(ready.track, ready.source, ready.context)


@pytest.mark.parametrize(
    ("n_arrived", "changes", "line"),
    [
        (0, {}, "holds no whole checkpoint yet"),
        (1, {"layers": [2]}, r"layers=\[2\]: .*nano-live has layers 0 to 1"),
        (1, {"schedule": [{"first": 3, "last": 3, "tokens": 9}]}, "has no checkpoint 3; it has"),
    ],
)
def test_what_the_folder_lacks_is_one_line(
    live: Path,
    settings: Settings,
    source: CheckpointSource,
    n_arrived: int,
    changes: dict[str, Any],
    line: str,
) -> None:
    for checkpoint_index in range(n_arrived):
        arrive(live, source, checkpoint_index)
    with pytest.raises(UserError, match=line) as caught:
        prepare(config(live, **changes), settings)
    assert "\n" not in str(caught.value)


def test_two_lms_in_folders_of_one_name_are_two_chains(
    tmp_path: Path, settings: Settings, source: CheckpointSource
) -> None:
    names = set()
    for place, checkpoint_indices in (("a", (0, 1)), ("b", (2, 3))):
        folder = tmp_path / place / "out"
        folder.mkdir(parents=True)
        for lm_step, index in enumerate(checkpoint_indices):
            (checkpoint,) = source.resolve([index])
            shutil.copytree(source.fetch(checkpoint), folder / f"checkpoint-{lm_step}")
            source.tokenizer()[0].save_pretrained(folder / f"checkpoint-{lm_step}")
        _, prepared = train_missing(config(folder, follow_s=0), settings)
        names.add(prepared.track.chains[0].name)
    assert len(names) == 2
    assert set(Registry(settings).chain_names()) == names
    moved = tmp_path / "archive" / "out"
    moved.parent.mkdir()
    (tmp_path / "a" / "out").rename(moved)
    n_trained, again = train_missing(config(moved, follow_s=0), settings)
    assert n_trained == 0
    assert again.track.chains[0].name in names, "the same LM, wherever it lies"
    renamed = moved.rename(moved.with_name("renamed"))
    n_trained, again = train_missing(config(renamed, follow_s=0), settings)
    assert n_trained == 0, "taken over: the SAEs are those of the same checkpoints"
    assert again.track.chains[0].name.startswith("renamed.")
