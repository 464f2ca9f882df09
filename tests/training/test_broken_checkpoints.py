"""Checkpoints of a folder that are broken: named at once, by plan, track and registry alike."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import source_here
from saetrack.registry import Registry
from saetrack.training import forecast as forecast_module
from saetrack.training.forecast import forecast
from saetrack.training.loop import train_missing
from saetrack.utils.settings import Settings
from tests.support.live_folder import halve, look_into, write
from tests.support.nano_folder import arrive, config, steps

pytestmark = pytest.mark.usefixtures("impatient")

PART = "step_40 has only a part of model.safetensors"


@pytest.fixture(autouse=True)
def _known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "_product_rate", lambda *_: 1e11)


def age(checkpoint: Path) -> None:
    """Nothing in it has changed for an hour."""
    for path in (*checkpoint.iterdir(), checkpoint):
        os.utime(path, (time.time() - 3600,) * 2)


def peek_at(live: Path, cache_dir: Path) -> FolderSource:
    source = source_here(find_lm(str(live)), cache_dir)
    assert isinstance(source, FolderSource)
    return source


def about(lines: list[str] | tuple[str, ...], name: str) -> list[str]:
    return [line for line in lines if name in line]


def test_what_is_waited_for_and_what_is_left_out_is_named_everywhere(
    live: Path, settings: Settings, source: CheckpointSource, caplog: pytest.LogCaptureFixture
) -> None:
    arrive(live, source, step_20=0, step_40=1, step_60=2)
    halve(live / "step_40" / "model.safetensors")
    caplog.set_level("INFO")
    planned = forecast(config(live), settings)
    (waited,) = about(planned.warnings, "step_40")
    assert waited.startswith(f"{PART}: it may be in the midst of being written, and is waited for")
    assert "so are those behind it (step_60)" in waited
    assert (planned.links, planned.registered_links) == (1, 0)
    n_trained, prepared = train_missing(config(live), settings)
    registry, (chain,) = Registry(settings), prepared.track.chains
    assert (n_trained, steps(prepared)) == (1, [20])
    said = next(n for n, line in enumerate(caplog.messages) if PART in line)
    assert said < next(n for n, line in enumerate(caplog.messages) if "links done" in line)
    assert about(registry.notes(chain.name), "step_40") == [waited]
    assert registry.chains()["warnings"].tolist() == [len(registry.notes(chain.name))]

    age(live / "step_40")
    left_out = f"{PART}, and is left out"
    planned = forecast(config(live), settings)
    assert about(planned.warnings, "step_40") == [left_out]
    assert (planned.links, planned.registered_links, planned.registered_is_exact) == (2, 1, True)
    n_trained, prepared = train_missing(config(live), settings)
    assert (n_trained, steps(prepared)) == (1, [20, 60])
    (note,) = about(registry.notes(chain.name), "step_40")
    assert note.startswith("step 60: ") and left_out in note, "the link's note says it now"

    arrive(live, source, step_80=1)  # once the chain was whole
    (live / "step_80" / "config.json").write_text("")
    age(live / "step_80")
    n_trained, prepared = train_missing(config(live), settings)
    assert n_trained == 0 and Registry(settings).is_finished(prepared.track.chains[0])
    assert about(registry.notes(chain.name), "step_80 lacks config.json, or has only a part")


def test_a_copy_with_a_broken_checkpoint_is_the_lm_that_had_it(
    live: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for lm_step in (20, 40, 60):
        write(live, lm_step)
    look_into(live, tmp_path)
    copy = live.with_name("other")
    shutil.copytree(live, copy)
    (copy / "checkpoint-40" / "config.json").unlink()
    age(copy / "checkpoint-40")
    caplog.set_level("INFO")
    for looks_ahead in (True, False):
        found = look_into(copy, tmp_path) if not looks_ahead else peek_at(copy, tmp_path)
        assert found.spec.lm_steps == (20, 40, 60), "what was trained on it stays"
        assert not found.lines
    assert [line for line in caplog.messages if "other" in line] == [
        "folder/other: 3 new checkpoints, 3 in all, up to step 60"
    ]


def test_one_that_breaks_before_it_is_tracked_is_left_out_with_its_reason(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0, step_40=1, step_60=2)
    look_into(live, settings.cache_dir)  # sees all three
    halve(live / "step_40" / "model.safetensors")
    assert forecast(config(live), settings).links == 3, "it may just be written anew"
    age(live / "step_40")
    planned = forecast(config(live), settings)
    assert planned.links == 2
    assert about(planned.warnings, "step_40") == [
        f"folder/nano-live at step_40 (LM step 40){PART.removeprefix('step_40')}, and is left out"
    ]


def test_one_that_may_not_be_read_is_named_and_does_not_hold_the_others_up(
    live: Path, settings: Settings, source: CheckpointSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(live, source, step_20=0, step_40=1, step_60=2)
    age(live / "step_40")
    as_it_is = {name: getattr(Path, name) for name in ("read_text", "iterdir", "glob")}
    for name, of_path in as_it_is.items():

        def refuse(path: Path, *words: str, of_path=of_path, **more: str) -> object:
            if "step_40" in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return of_path(path, *words, **more)

        monkeypatch.setattr(Path, name, refuse)
    planned = forecast(config(live), settings)
    (line,) = about(planned.warnings, "step_40")
    assert line.endswith(" cannot be read (Permission denied), and is left out")
    assert planned.links == 2
