"""Whom this machine's servers let in."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings

# The names by which MLflow's clients know them.
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
MIN_PASSWORD = 12  # MLflow takes no shorter one


def credentials(settings: Settings, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """User and password that the servers ask for; None: whoever is on this machine is let in.

    Raises:
        UserError: others could reach the servers and nobody would ask who they are.
    """
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if not user and not password:
        if is_loopback(settings.listen):
            return None
        raise UserError(
            f"SAETRACK_LISTEN={settings.listen!r}: others can reach the servers there, so they "
            f"must ask for a user and a password: set {USER} and {PASSWORD}, or use 127.0.0.1"
        )
    if not user or ":" in user:
        raise UserError(f"{USER}={user!r}: must be a name without a colon, beside {PASSWORD}")
    if len(password) < MIN_PASSWORD:
        raise UserError(f"{PASSWORD}: must have {MIN_PASSWORD} characters or more")
    return user, password


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
