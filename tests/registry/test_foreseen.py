"""How many links of a track are registered, of its text and checkpoints as they are now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saetrack.chain.config import TrackConfig, load_config
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import foreseen
from saetrack.registry.foreseen import foresee
from saetrack.training.loop import train_missing
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK


def write_text(path: Path, n_documents: int) -> None:
    line = "The parser reads line {} of the file, and the line has a name.\n"
    rows = [json.dumps({"text": line.format(n) * 4}) for n in range(n_documents)]
    path.write_text("\n".join(rows))


def on_text(path: Path) -> TrackConfig:
    corpus = {**NANO_TRACK["corpus"], "dataset": str(path), "train_tokens": 4_096}
    corpus |= {"held_out_tokens": 256, "analysis_tokens": 256}
    schedule = [{"first": 0, "last": 0, "tokens": 512}]
    quick = {"corpus": corpus, "schedule": schedule, "evaluation": {"ce_tokens": 0}}
    return load_config({**NANO_TRACK, **quick})


def told(config: TrackConfig, settings: Settings) -> tuple[int, int, bool]:
    found = foresee(config, settings)
    return len(found.budgets), found.registered, found.is_exact


def test_a_text_that_has_changed_makes_other_links(
    settings: Settings,
    source: CheckpointSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = tmp_path / "text.jsonl"
    write_text(text, 300)
    config = on_text(text)
    assert told(config, settings) == (1, 0, True)
    assert train_missing(config, settings)[0] == 1
    assert told(config, settings) == (1, 1, True)
    write_text(text, 305)
    text.write_text("\n".join(reversed(text.read_text().splitlines())))
    assert told(config, settings) == (1, 0, True), "as track would find it"
    with monkeypatch.context() as patch:
        patch.setattr(foreseen, "READ_BYTES", 0)
        assert told(config, settings) == (1, 1, False), "at most: nobody has read the text"
    assert train_missing(config, settings)[0] == 1
    assert told(config, settings) == (1, 1, True)
    with monkeypatch.context() as patch:
        patch.setattr(foreseen, "READ_BYTES", 0)
        assert told(config, settings) == (1, 1, False), "never more than there are links"
