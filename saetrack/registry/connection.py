"""A client of a tracking server that is known to answer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient

from saetrack.utils.errors import UserError, first_line


def connect(tracking_uri: str) -> MlflowClient:
    """A client that has had an answer from the address.

    Raises:
        UserError: nothing answers there.
    """
    if tracking_uri.startswith("http"):
        _require_answer(tracking_uri)
    try:
        with _alone(tracking_uri):
            client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # each database driver has its own
        raise UserError(f"{named(tracking_uri)}: {_reason(error)}") from None
    return client


def is_made(tracking_uri: str) -> bool:
    """Whether there is a registry; a server's is, or the server says what is wrong."""
    path = file_of(tracking_uri)
    return path is None or path.exists()


def require_made(tracking_uri: str) -> None:
    """Check that there is a registry, for who reads: MLflow makes what is not there.

    Raises:
        UserError: its file is not there.
    """
    if not is_made(tracking_uri):
        raise UserError(
            f"{named(tracking_uri)}: there is no registry yet; the first track makes it "
            "(saetrack track mini)"
        )


def file_of(tracking_uri: str) -> Path | None:
    """The file of a SQLite database; None of any other."""
    name = tracking_uri.removeprefix("sqlite:///")
    return None if name == tracking_uri else Path(name)


@contextlib.contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """One process at a time makes the tables of a SQLite file, which MLflow leaves to chance.

    Another database makes them in a transaction: of two processes that come first together, one
    may fail, in one line, and finds them when it is started again.
    """
    path = file_of(tracking_uri)
    with contextlib.ExitStack() as stack:
        if path is not None:
            with contextlib.suppress(OSError):  # a folder to read from only, with its tables
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(path.with_name(f"{path.name}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    said = first_line(error)
    if "401" not in said:
        return f"cannot be used: {said}"
    names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return f"does not let {user!r} in: check {names}"
    return f"asks who you are: set {names}"


def named(tracking_uri: str) -> str:
    """The setting as it may be shown: without a password."""
    address = urlsplit(tracking_uri)
    if address.password:
        masked = address.netloc.replace(f":{address.password}@", ":***@")
        tracking_uri = address._replace(netloc=masked).geturl()
    return f"SAETRACK_TRACKING_URI={tracking_uri}"


def now_ms() -> int:
    """The time as MLflow counts it."""
    return time.time_ns() // 1_000_000


def _require_answer(tracking_uri: str) -> None:
    """MLflow's own client retries for minutes; a wrong address should show at once."""
    try:
        requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=10).raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"{named(tracking_uri)}: no MLflow server answers there ({type(error).__name__})"
        ) from None
