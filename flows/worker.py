"""A worker: `python -m flows.worker [NUMBER]`, the NUMBER-th of its machine, from 0.

On a machine with GPUs worker N has the N-th to itself and takes one run at a time, so that runs
land on different devices; without, one worker takes whatever comes. It begins by clearing up after
a predecessor, and from then on watches for runs of workers that are gone (flows.lost).
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from httpx import HTTPStatusError, TransportError
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_HEARTBEAT_SECONDS

from flows.gpus import gpus
from flows.logs import log_to_terminal
from flows.lost import POOL, keep_watch, recover_lost_runs
from saetrack.utils.errors import UserError


def identity(number: int) -> tuple[str, dict[str, str], list[str]]:
    """A worker's name, what it adds to the environment of its runs, and its options.

    Raises:
        UserError: the machine has no such worker.
    """
    devices = gpus()
    if not devices and number == 0:
        return socket.gethostname(), {}, []
    if number >= len(devices):
        raise UserError(f"worker={number}: this machine has GPUs {devices}, numbered from 0")
    environment = {"CUDA_VISIBLE_DEVICES": devices[number]}
    return f"{socket.gethostname()}.gpu{number}", environment, ["--limit", "1"]


def clear_up(name: str) -> None:
    """Recover what a predecessor left; the first word with the server.

    Raises:
        UserError: there is no server, it lets nobody in, or it knows no pool.
    """
    server = f"PREFECT_API_URL={PREFECT_API_URL.value()}"
    try:
        recover_lost_runs(name, is_new=True)
    except ObjectNotFound:
        raise UserError(f"{server}: has no pool {POOL} yet; `make deploy` makes it") from None
    except HTTPStatusError as error:
        if error.response.status_code != 401:
            raise
        raise UserError(f"{server}: lets nobody in without PREFECT_API_AUTH_STRING") from None
    except TransportError as error:
        raise UserError(f"{server}: no server answers ({type(error).__name__})") from None


def main(number: int) -> None:
    """Clear up, then be Prefect's worker."""
    name, environment, options = identity(number)
    os.environ.update(environment)
    log_to_terminal()
    clear_up(name)
    every_s = PREFECT_WORKER_HEARTBEAT_SECONDS.value()
    threading.Thread(target=keep_watch, args=(name, every_s), daemon=True).start()
    from prefect.cli import app

    sys.argv = ["prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    sys.argv += ["--name", name, *options]
    app()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    except UserError as problem:
        sys.exit(f"error: {problem}")
