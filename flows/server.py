"""The Prefect server of a plain script: the one that is running, or a temporary one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import requests
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from saetrack.utils.errors import UserError

START_S = 60.0
SETTLE_S = 15.0

# The server ends when its standard input closes, so that even a SIGKILL of the script leaves none
# behind.
_SERVE = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
import uvicorn
uvicorn.run("prefect.server.api.server:create_app", factory=True,
            host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


@contextmanager
def prefect_server() -> Iterator[None]:
    """Run flows against the configured server if it is up, else against a temporary one.

    The temporary server writes to the same database, so the run is there when the UI is opened
    later. Prefect's own ephemeral mode never starts while `api.url` is configured, and imports the
    whole server into the script.

    Raises:
        UserError: the temporary server does not come up.
    """
    configured = PREFECT_API_URL.value()
    if configured and _is_healthy(configured):
        yield
        return
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    began = datetime.now(UTC).isoformat()
    process = _start(port, api)
    try:
        with temporary_settings({PREFECT_API_URL: api}):
            try:
                yield
            finally:
                _drain(api, began)
    finally:
        process.terminate()
        process.wait()


def _start(port: int, api: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(port)],
        stdin=subprocess.PIPE,
        env={
            **os.environ,
            **get_current_settings().to_environment_variables(exclude_unset=True),
            "PREFECT_API_URL": api,
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT__SERVER_EPHEMERAL": "1",  # no scheduler: nothing else may start here
        },
    )
    until_s = time.monotonic() + START_S
    while not _is_healthy(api):
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            raise UserError(
                "prefect: a temporary server did not start; `make ui` starts a lasting one"
            )
        time.sleep(0.05)
    return process


def _drain(api: str, began: str) -> None:
    """Wait until the server has written what this script did.

    Logs and events are sent in the background; the server itself takes task states from a queue in
    memory, which it writes once a second and drops when it ends.
    """
    APILogWorker.instance().drain()
    EventsWorker.drain_all()
    until_s = time.monotonic() + SETTLE_S
    last = None
    while time.monotonic() < until_s:
        now = _task_runs(api, began), _task_runs(api, began, finished=True)
        if now == last and now[0] == now[1]:
            return
        last = now
        time.sleep(1.1)


def _task_runs(api: str, began: str, *, finished: bool = False) -> int:
    body: dict[str, Any] = {"flow_runs": {"start_time": {"after_": began}}}
    if finished:
        ends = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
        body["task_runs"] = {"state": {"type": {"any_": ends}}}
    count: int = requests.post(f"{api}/task_runs/count", json=body, timeout=5).json()
    return count


def _is_healthy(api: str) -> bool:
    try:
        return requests.get(f"{api}/health", timeout=2).text == "true"
    except requests.RequestException:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
