"""Start and stop one machine's services: `python deployments/services.py deploy|ui|stop`.

supervisord keeps them alive (deployments/supervisord.conf); this asks it to, and says in one line
what stands in the way. All state and all logs are in mlruns/.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from supervisor.xmlrpc import SupervisorTransport

from flows.gpus import gpus
from flows.logs import log_to_terminal
from saetrack.utils.credentials import credentials
from saetrack.utils.errors import UserError
from saetrack.utils.ports import EXPLORER_PORT
from saetrack.utils.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
LOGS = Path("mlruns/logs")
SOCKET = Path("mlruns/supervisor.sock")
PIDFILE = Path("mlruns/supervisord.pid")
BIN = Path(sys.executable).parent

ANY = ("127.0.0.1", "0.0.0.0", "localhost")  # noqa: S104  (a comparison)

START_S = 90.0  # the first start makes both databases
STOP_S = 60.0


@dataclass(frozen=True)
class Server:
    """A service with a page to look at."""

    name: str
    port: int
    health: str
    page: str = ""  # to look at first

    @property
    def address(self) -> str:
        """Where a person on this machine finds it."""
        listen = load_settings().listen
        return f"http://{'127.0.0.1' if listen in ANY else listen}:{self.port}"

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            known = credentials(load_settings(), os.environ)
            return requests.get(self.address + self.health, auth=known, timeout=2).ok
        except requests.RequestException:
            return False

    def is_port_taken(self) -> bool:
        """Whether anything listens on its port."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return True
        return False


PREFECT = Server("prefect", 4200, "/api/health")
# Without the last words MLflow opens its pages for chat models. A click on an experiment there
# forgets them: the saved views have addresses of their own.
MLFLOW = Server("mlflow", 5000, "/health", "/#/experiments?workflowType=machine_learning")
EXPLORER = Server("explorer", EXPLORER_PORT, "/site.json", "/")


def deploy() -> None:
    """Start all services and register every deployment of deployments/prefect.yaml."""
    daemon = start_servers()
    _prefect("work-pool", "create", "saetrack", "--type", "process", "--overwrite")
    _prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    if not _work(daemon):
        daemon.startProcessGroup("worker", False)
    if not _wait(lambda: _work(daemon), START_S):
        raise UserError(f"the worker did not start: see {LOGS}/worker-0.log")
    ui()
    say("ready: prefect deployment run track/mini --watch")


def ui() -> None:
    """Start the servers that have pages, and say where: the explorer's leads to the others."""
    start_servers()
    say(f"{EXPLORER.address}{EXPLORER.page}")


def stop() -> None:
    """Stop everything."""
    daemon = _supervisor()
    if daemon is None:
        say("nothing is running")
        return
    pid = int(PIDFILE.read_text())
    # The worker first, while the server can still note that its runs ended with it.
    if _work(daemon):
        daemon.stopProcessGroup("worker", True)
        if PREFECT.is_healthy():
            # Importing Prefect takes a second, and reads the settings of the current folder.
            from flows.lost import crash_runs_of

            crash_runs_of(socket.gethostname())
    daemon.shutdown()
    if not _wait(lambda: not Path(f"/proc/{pid}").exists(), STOP_S):
        raise UserError(f"supervisord ({pid}) did not stop: see {LOGS}/supervisord.log")
    say("stopped")


def start_servers() -> Any:
    """The running supervisord, with every server healthy.

    Raises:
        UserError: a port is taken, or a server does not come up.
    """
    settings = load_settings()
    daemon = _supervisor()
    down = [s for s in _servers(settings) if not daemon or _state(daemon, s.name) != "RUNNING"]
    for server in down:
        if server.is_port_taken():
            raise UserError(
                f"port {server.port}, which the {server.name} server needs, is taken by another "
                "program: free it and try again"
            )
    daemon = daemon or _start_supervisor()
    # The explorer last: it reads the database that MLflow makes.
    for some in ([s for s in down if s != EXPLORER], [s for s in down if s == EXPLORER]):
        for server in some:
            daemon.startProcess(server.name, False)
        for server in some:
            if not _wait(server.is_healthy, START_S):
                raise UserError(
                    f"the {server.name} server did not come up: see {LOGS}/{server.name}.log"
                )
    return daemon


def _servers(settings: Settings) -> list[Server]:
    """A tracking server elsewhere has its own page. The explorer, which asks it, starts last."""
    is_elsewhere = settings.tracking_uri.startswith("http")
    return [PREFECT, EXPLORER] if is_elsewhere else [PREFECT, MLFLOW, EXPLORER]


def _start_supervisor() -> Any:
    LOGS.mkdir(parents=True, exist_ok=True)
    Path("mlruns/prefect").mkdir(exist_ok=True)
    command = [str(BIN / "supervisord"), "-c", "deployments/supervisord.conf"]
    subprocess.run(command, check=True)
    if not _wait(lambda: _supervisor() is not None, START_S):
        raise UserError(f"supervisord did not start: see {LOGS}/supervisord.log")
    return _supervisor()


def service_environment(settings: Settings) -> dict[str, str]:
    """What supervisord and all that it starts are given; no name may be a setting's."""
    environment = {"PYTHON": sys.executable, "WORKERS": str(len(gpus()) or 1)}
    if known := credentials(settings, os.environ):
        environment["PREFECT_API_AUTH_STRING"] = ":".join(known)
    if settings.listen not in ANY:  # else this machine is let in at 127.0.0.1
        environment["PREFECT_API_URL"] = f"{PREFECT.address}/api"
    return environment


def _supervisor() -> Any:
    """The running supervisord, or None."""
    transport = SupervisorTransport(None, None, f"unix://{SOCKET}")
    proxy: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        proxy.supervisor.getState()
    except (OSError, xmlrpc.client.Error):
        return None
    return proxy.supervisor


def _work(daemon: Any) -> bool:
    """Whether any worker runs."""
    states = [one for one in daemon.getAllProcessInfo() if one["group"] == "worker"]
    return any(one["statename"] == "RUNNING" for one in states)


def _state(daemon: Any, name: str) -> str:
    return str(daemon.getProcessInfo(name)["statename"])


def _prefect(*arguments: str) -> None:
    command = [str(BIN / "prefect"), "--no-prompt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        (LOGS / "deploy.log").write_text(done.stdout + done.stderr)
        raise UserError(f"`prefect {' '.join(arguments)}` failed: see {LOGS}/deploy.log")


def _wait(condition: Callable[[], bool], patience_s: float) -> bool:
    until_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.2)
    return True


def say(line: str) -> None:
    """Tell the user."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    os.chdir(ROOT)  # supervisord and Prefect find their files and settings from here
    log_to_terminal()
    try:
        os.environ.update(service_environment(load_settings()))
        {"deploy": deploy, "ui": ui, "stop": stop}[sys.argv[1]]()
    except UserError as problem:
        sys.exit(f"error: {problem}")
