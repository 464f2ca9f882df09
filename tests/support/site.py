"""A site of several workers on this machine: PostgreSQL, both servers with passwords, workers.

Everything is started by the commands of deployments/compose.yaml, without its containers.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parent.parent.parent
START_S = 120.0


def postgres_bin() -> Path | None:
    """Where initdb and postgres are; None on a machine without them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = START_S) -> None:
    until_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until_s, f"{what}: not within {patience_s:.0f} s"
        time.sleep(0.3)


def kill_tree(process: subprocess.Popen[bytes], how: int) -> None:
    """Send a signal to a process and all that it started, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(how)
    process.wait(30)


@contextlib.contextmanager
def postgres(databases: list[str]) -> Iterator[str]:
    """A PostgreSQL with a password; yields `user:password@host:port`."""
    binaries = postgres_bin()
    assert binaries is not None
    password, port = secrets.token_urlsafe(), free_port()
    # Not in pytest's folders: another user must get there, and a socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    (home / "password").write_text(password)
    who: dict[str, int] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses root
        user = pwd.getpwnam("postgres")
        who = {"user": user.pw_uid, "group": user.pw_gid}
        for path in (home, home / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = str(home / "data")
    make = [binaries / "initdb", "-D", data, "-U", "saetrack", "-A", "scram-sha-256"]
    make += ["--pwfile", str(home / "password"), "-E", "UTF8", "--locale=C"]
    quiet = {"stdout": subprocess.DEVNULL, "cwd": home, **who}
    subprocess.run(make, check=True, **quiet)  # type: ignore[call-overload]
    serve = [binaries / "postgres", "-D", data, "-p", str(port), "-k", str(home)]
    serve += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(serve, stderr=subprocess.DEVNULL, **quiet)  # type: ignore[call-overload]
    try:
        import psycopg

        address = f"saetrack:{password}@127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"postgresql://{address}/postgres").close()
                return True
            return False

        wait_for(answers, "PostgreSQL")
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            for name in databases:
                connection.execute(f"create database {name}")
        yield address
    finally:
        server.send_signal(signal.SIGINT)  # do not wait for clients
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


class Site:
    """Servers and workers, each a process; logs lie in `place`."""

    def __init__(self, place: Path, cache: Path, database: str) -> None:
        self.place = place
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.password = secrets.token_urlsafe()
        self.mlflow, self.prefect = free_port(), free_port()
        self._database = database
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_USERNAME": "reader",
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "PREFECT_API_AUTH_STRING": f"reader:{self.password}",
            "PREFECT_API_URL": f"http://127.0.0.1:{self.prefect}/api",
            "PREFECT_HOME": str(place / "prefect"),
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
            "SAETRACK_TRACKING_URI": f"http://127.0.0.1:{self.mlflow}",
            "SAETRACK_CACHE_DIR": str(cache),
            "SAETRACK_RUNNER": "workers",
            # Not a GPU is needed: torch sees none, but the workers share out what is named here.
            "CUDA_VISIBLE_DEVICES": "0,1,2",
        }

    def start(self, name: str, *arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        with (self.place / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.environment, **changes},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.processes[name]

    def start_servers(self) -> None:
        """Both, and wait until they answer."""
        address = f"{self._database}"
        self.start(
            "mlflow",
            *("-m", "flows.serve", "mlflow", str(self.mlflow)),
            SAETRACK_LISTEN="0.0.0.0",
            SAETRACK_TRACKING_URI=f"postgresql://{address}/mlflow",
            SAETRACK_ARTIFACT_DIR=str(self.place / "artifacts"),
        )
        self.start(
            "prefect",
            *("-m", "flows.serve", "prefect", str(self.prefect)),
            SAETRACK_LISTEN="0.0.0.0",
            PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{address}/prefect",
            PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS="2",
        )
        for path in (f"{self.mlflow}/health", f"{self.prefect}/api/health"):
            wait_for(lambda path=path: _answers(path), path)  # type: ignore[misc]

    def run(self, *arguments: str) -> str:
        """A command to its end; what it said."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                kill_tree(process, signal.SIGKILL)


def _answers(path: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{path}", timeout=5).ok
    return False
