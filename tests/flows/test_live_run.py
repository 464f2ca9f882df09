"""Following a training run: its tokenizer, and an LM that another process trains meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saetrack.lm import mini
from saetrack.lm.catalog.models import NANO_LM_STEPS, find_model
from saetrack.lm.checkpoints import folder
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.embedded.publish import train_into_folder
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from tests.support.live_folder import commits, halve, write

pytestmark = pytest.mark.usefixtures("impatient")

ROOT = Path(__file__).parent.parent.parent


def test_the_tokenizer_is_the_newest_checkpoints_else_the_folders(
    live: Path, look: Callable[[], FolderSource], source: CheckpointSource
) -> None:
    tokenizer, _ = source.tokenizer()
    for lm_step in (1, 2):
        write(live, lm_step)
    with pytest.raises(UserError, match="holds no tokenizer; save it into the folder"):
        look().tokenizer()
    tokenizer.save_pretrained(live)
    ours, identity = look().tokenizer()
    assert ours("def f(x):")["input_ids"] == tokenizer("def f(x):")["input_ids"]
    tokenizer.save_pretrained(live / "checkpoint-1")
    assert look().tokenizer()[1] == identity
    # The next one's is being written: the rest of it and the vocabulary come later.
    shutil.copy(live / "tokenizer_config.json", live / "checkpoint-2")
    assert look().tokenizer()[1] == identity
    shutil.rmtree(live / "checkpoint-1")
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(live / "checkpoint-2")
    assert look().tokenizer()[1] != identity
    halve(live / "checkpoint-2" / "tokenizer.json")
    with pytest.raises(UserError, match="the tokenizer in checkpoint-2 cannot be read: ") as error:
        look().tokenizer()
    assert "\n" not in str(error.value)


def test_a_tokenizer_in_the_midst_of_being_saved_is_waited_for(
    live: Path,
    look: Callable[[], FolderSource],
    source: CheckpointSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer, _ = source.tokenizer()
    write(live, 1)
    tokenizer.save_pretrained(live)
    _, identity = look().tokenizer()
    halve(live / "tokenizer.json")
    monkeypatch.setattr(folder, "SETTLED_S", 5.0)
    monkeypatch.setattr(
        folder.time,
        "sleep",
        lambda _: (tokenizer.save_pretrained(live), os.utime(live / "tokenizer.json", (0, 0))),
    )
    assert look().tokenizer()[1] == identity


def test_a_track_follows_a_training_run_in_another_process(
    live: Path, look: Callable[[], FolderSource], source: CheckpointSource
) -> None:
    """It is killed after the first checkpoint, and goes on to the LM that the hub cache holds."""
    run = [sys.executable, "-m", "saetrack.lm.mini", str(live), "--model", "nano"]
    training = subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert look().wait_for_more(0, 120)
    training.kill()
    training.communicate()
    followed = look()
    (live / "checkpoint-16").mkdir(exist_ok=True)  # as if it had died in the midst of this one
    (live / "checkpoint-16" / "model.safetensors").write_bytes(b"half")
    train_into_folder(find_model("nano"), live)

    done = look()
    assert done.spec.lm_steps == NANO_LM_STEPS
    assert commits(done)[: len(commits(followed))] == commits(followed)
    tokens = torch.randint(0, 512, (2, 32), generator=torch.Generator().manual_seed(0))
    for ours, hubs in zip(done.resolve([0, 5]), source.resolve([0, 5]), strict=True):
        a, b = done.fetch(ours), source.fetch(hubs)
        mine, theirs = (load_file(path / "model.safetensors") for path in (a, b))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        hook = Hook("resid_pre", 1)
        activations = (HookedLM(one, [hook]).activations(tokens) for one in (a, b))
        assert torch.equal(*activations)
    text = "Return the sum of all elements."
    assert done.tokenizer()[0](text)["input_ids"] == source.tokenizer()[0](text)["input_ids"]


def test_the_training_run_tells_mistakes_in_one_line(
    live: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(live, 1)
    (live / "file").write_text("")
    for arguments in (
        [str(live), "--model", "nano"],
        [str(live / "file"), "--model", "nano"],
        [str(live / "new"), "--model", "huge"],
        [],
    ):
        caplog.clear()
        assert mini.main(arguments) == 2
        (record,) = caplog.records
        assert record.getMessage().startswith("error: ") and "\n" not in record.getMessage()
    assert not (live / "new").exists()
