"""A client of a tracking server that is known to answer."""

from __future__ import annotations

import time

import requests
from mlflow import MlflowClient

from saetrack.errors import UserError


def connect(tracking_uri: str) -> MlflowClient:
    """A client that has had an answer from the address.

    Raises:
        UserError: nothing answers there.
    """
    if tracking_uri.startswith("http"):
        _require_answer(tracking_uri)
    try:
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # each database driver has its own
        raise UserError(
            f"SAETRACK_TRACKING_URI={tracking_uri}: cannot be used: {first_line(error)}"
        ) from None
    return client


def first_line(error: Exception) -> str:
    """What an error says, without the rest."""
    return str(error).strip().splitlines()[0]


def now_ms() -> int:
    """The time as MLflow counts it."""
    return time.time_ns() // 1_000_000


def _require_answer(tracking_uri: str) -> None:
    """MLflow's own client retries for minutes; a wrong address should show at once."""
    try:
        requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=10).raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"SAETRACK_TRACKING_URI={tracking_uri}: no MLflow server answers there "
            f"({type(error).__name__})"
        ) from None
