"""Runs the nano track in a process to be killed: `python -m tests.support.nano_run WHERE`.

WHERE names a point at which the process prints a line and waits for its end; `-` names none.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from saetrack.chain.config import load_config
from saetrack.cli import main as command_line
from saetrack.lm.checkpoints import store
from saetrack.registry.link_run import LinkRun
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import train_track
from saetrack.training.prepare import prepare
from saetrack.utils.settings import load_settings
from tests.support.nano import NANO_TRACK


def hang(*_: Any, **__: Any) -> None:
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    time.sleep(600)


def hang_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but its `call`-th call waits instead."""
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return hang() if calls == call else function(*args, **kwargs)

    return counted


def run_command() -> None:
    """The nano track as people start theirs: `saetrack track FILE`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nano.yaml"
        file.write_text(yaml.safe_dump(NANO_TRACK))
        sys.argv = ["saetrack", "track", str(file)]
        command_line.main()


def main(where: str) -> None:
    if where == "in the LM's training":
        store.publish = hang_at(4, store.publish)
    elif where == "in a link's training":  # the third link, after an evaluation in its middle
        LinkRun.log = hang_at(20, LinkRun.log)
    elif where == "before a version":
        MlflowClient.create_model_version = hang_at(2, MlflowClient.create_model_version)
    elif where == "after a version":
        MlflowClient.set_terminated = hang_at(2, MlflowClient.set_terminated)
    elif where == "in a command":
        LinkRun.log = hang_at(20, LinkRun.log)
        run_command()
        return
    ready = prepare(load_config(NANO_TRACK), load_settings())
    train_track(ready.track, ready.source, ready.context)
    for chain in ready.track.chains:
        update_chain_page(ready.registry, chain)


if __name__ == "__main__":
    main(sys.argv[1])
