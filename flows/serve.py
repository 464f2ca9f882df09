"""One server in this process: `python -m flows.serve mlflow|prefect|explorer [PORT]`.

supervisord and compose.yaml start the same. Where others can reach it (SAETRACK_LISTEN), a server
asks for MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, the names by which MLflow's clients
know them, and hands out artifacts itself. Secrets travel in the environment, where `ps` does not
show them.
"""

from __future__ import annotations

import configparser
import os
import secrets
import sys
from pathlib import Path

from saetrack.utils.credentials import credentials, is_loopback
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash
from saetrack.utils.ports import EXPLORER_PORT
from saetrack.utils.settings import Settings, load_settings

# Where browsers find MLflow's pages, if not at the registry's address: an address, or a port.
MLFLOW_PAGES = "MLFLOW_PAGES"


def mlflow_server(settings: Settings, port: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the tracking server; on one machine artifacts are not sent."""
    command = ["mlflow", "server", "--host", settings.listen, "--port", port]
    command += ["--workers", "1"]  # each costs 250 MB
    environment = {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        # Its job runner is four more processes, for evaluations of chat models only.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if is_loopback(settings.listen):
        root = str(settings.artifact_dir)
        command += ["--default-artifact-root", root, "--no-serve-artifacts"]
    else:
        destination = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or str(settings.artifact_dir)
        command += ["--serve-artifacts", "--artifacts-destination", destination]
        # By whatever name: a page of another site cannot have the password that each request needs.
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = os.environ.get(
            "MLFLOW_SERVER_ALLOWED_HOSTS", "*"
        )
    if known := credentials(settings, os.environ):
        command += ["--app-name", "basic-auth"]
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(_write_auth(settings)),
            "MLFLOW_AUTH_ADMIN_USERNAME": known[0],
            "MLFLOW_AUTH_ADMIN_PASSWORD": known[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),  # of its forms
        }
    return command, environment


def _write_auth(settings: Settings) -> Path:
    """Users lie in the server's own database; beside a SQLite file, for that has one writer."""
    users = settings.tracking_uri
    if users.startswith("sqlite:///"):
        beside = Path(users.removeprefix("sqlite:///")).absolute()
        users = f"sqlite:///{beside.with_name('mlflow-auth.db')}"
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": users.replace("%", "%%"),
        # Else each request costs a password hash.
        "auth_cache_ttl_seconds": "60",
    }
    path = settings.cache_dir / f"mlflow-auth-{content_hash(users)[:8]}.ini"
    path.touch(mode=0o600)
    with path.open("w") as file:
        config.write(file)
    return path


def prefect_server(settings: Settings, port: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of Prefect's server; its database is its own setting."""
    command = ["prefect", "server", "start", "--host", settings.listen, "--port", port]
    # The page asks whichever address it was opened at.
    environment = {"PREFECT_SERVER_UI_API_URL": "/api"}
    if known := credentials(settings, os.environ):
        environment["PREFECT_SERVER_API_AUTH_STRING"] = ":".join(known)
    return command, environment


def explorer_server(settings: Settings, port: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the explorer, whose pages lead to the other two servers."""
    command = ["saetrack.cli", "explore", "--no-browser", "--port", port, "--prefect", "4200"]
    # The address of an MLflow server elsewhere is the registry's; a browser may know it by another.
    served = settings.tracking_uri.startswith("http")
    mlflow = os.environ.get(MLFLOW_PAGES, "" if served else "5000")
    return command + (["--mlflow", mlflow] if mlflow else []), {}


def main(name: str, *rest: str) -> None:
    """Become the server."""
    servers = {
        "mlflow": (mlflow_server, "5000"),
        "prefect": (prefect_server, "4200"),
        "explorer": (explorer_server, str(EXPLORER_PORT)),
    }
    make, port = servers[name]
    command, environment = make(load_settings(), *(rest or [port]))
    os.execve(sys.executable, [sys.executable, "-m", *command], {**os.environ, **environment})  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as problem:
        sys.exit(f"error: {problem}")
