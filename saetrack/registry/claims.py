"""Who trains a link: at any moment at most one process that lives.

A claim is the link's MLflow run, with its owner and a heartbeat among the tags. MLflow has no lock
and no compare-and-set, but what it has written every later reader sees; so each first writes its
claim down and then looks, and of two rivals at least one sees the other (Dekker's rule). Which of
them withdraws, the order of their runs' ids says; no clock has a part in it. A claim counts for as
long as its owner lives: on this machine that is asked of the operating system, so that a restart
after SIGKILL goes on at once; of another machine it is believed while the heartbeat is fresh, for
which machines' clocks must agree to within half a minute.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from mlflow import MlflowClient

if TYPE_CHECKING:
    from mlflow.entities import Run

OWNER, HEARTBEAT, HELD = "owner", "heartbeat", "claim_held"

LOOK_S = 0.1
BEAT_S = 10.0
STALE_S = 60.0


def take_claim(
    client: MlflowClient, experiment_id: str, identity: str, name: str, tags: dict[str, str]
) -> str | None:
    """Begin the run of a link and with it the right to train it; None if a rival has it.

    Runs that broken attempts left are deleted.

    Args:
        client: of the tracking server.
        experiment_id: of the LM.
        identity: of the link.
        name: of the run.
        tags: of the run, identity included.
    """
    if any(is_alive(run) for run in runs_of(client, experiment_id, identity)):
        return None
    ours = client.create_run(
        experiment_id,
        run_name=name,
        tags={**tags, **owner_tags()},
    )
    others = _outlast(client, experiment_id, identity, ours.info.run_id)
    if others is None:
        client.delete_run(ours.info.run_id)
        return None
    client.set_tag(ours.info.run_id, HELD, "yes")
    _clear(client, [run for run in others if run.info.status != "FINISHED"], identity)
    return str(ours.info.run_id)


def _outlast(
    client: MlflowClient, experiment_id: str, identity: str, run_id: str
) -> list[Run] | None:
    """What dead rivals left, once no living one is there; None if one of them has the claim.

    A rival with a lower id wins. One with a higher id may have looked before our claim was there,
    and then it holds the claim: wait until it says so or withdraws.
    """
    while True:
        others = [
            run for run in runs_of(client, experiment_id, identity) if run.info.run_id != run_id
        ]
        alive = [run for run in others if is_alive(run)]
        if not alive:
            return others
        if any(HELD in run.data.tags or run.info.run_id < run_id for run in alive):
            return None
        time.sleep(LOOK_S)


def _clear(client: MlflowClient, broken: list[Run], identity: str) -> None:
    """Delete what broken attempts left, but no run that a registered version stands on."""
    if not broken:
        return
    versions = client.search_model_versions(f"tags.identity = '{identity}'")
    in_use = {version.run_id for version in versions}
    for run in broken:
        if run.info.run_id not in in_use:
            client.delete_run(run.info.run_id)


def is_lost(client: MlflowClient, run_id: str) -> bool:
    """Whether a rival took the claim, as it may after a minute without a heartbeat."""
    return str(client.get_run(run_id).info.lifecycle_stage) == "deleted"


def runs_of(client: MlflowClient, experiment_id: str, identity: str) -> list[Run]:
    """Every run of a link, of whichever chain."""
    return list(client.search_runs([experiment_id], f"tags.identity = '{identity}'"))


def is_alive(run: Run) -> bool:
    """Whether the run's owner still works on it."""
    if run.info.status != "RUNNING":
        return False
    machine, _, process = run.data.tags.get(OWNER, "").partition(" ")
    if machine != _machine():
        return time.time() - float(run.data.tags.get(HEARTBEAT, 0)) < STALE_S
    try:
        owner = psutil.Process(int(process.partition("@")[0]))
        return _process(owner) == process and owner.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


@contextlib.contextmanager
def heartbeat(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Tell other machines that the run's owner lives, for as long as the block lasts."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with contextlib.suppress(Exception):  # a server that is away for a moment
                client.set_tag(run_id, HEARTBEAT, str(time.time()))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def owner_tags() -> dict[str, str]:
    """By which `is_alive` knows that this process works on a run."""
    owner = f"{_machine()} {_process(psutil.Process())}"
    return {OWNER: owner, HEARTBEAT: str(time.time())}


def _process(process: psutil.Process) -> str:
    # Numbers are used again; with the time of birth they are not.
    return f"{process.pid}@{process.create_time():.2f}"


def _machine() -> str:
    # Containers may share a kernel or a name, hardly both.
    boot = Path("/proc/sys/kernel/random/boot_id")
    booted = boot.read_text().strip() if boot.exists() else f"{psutil.boot_time():.0f}"
    return f"{socket.gethostname()}/{booted}"
