"""Where a browser finds the other servers of this machine, and what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from saetrack.registry.cards import RunAt


@dataclass(frozen=True)
class Servers:
    """The other servers: an address each, or a port of the machine that the page came from.

    Attributes:
        mlflow: None where none is known.
        prefect: the same.
    """

    mlflow: str | None = None
    prefect: str | None = None

    def at(self, hostname: str) -> Servers:
        """The same, with addresses for a browser that opened the page at a host."""
        return Servers(_address(self.mlflow, hostname), _address(self.prefect, hostname))

    def run(self, at: RunAt | None, artifact: str = "") -> str | None:
        """Where MLflow shows a run, or a file of it; None where no MLflow server is known."""
        if self.mlflow is None or at is None:
            return None
        place = f"#/experiments/{quote(at.experiment_id)}/runs/{quote(at.run_id)}"
        return f"{self.mlflow}/{place}" + (f"/artifacts/{quote(artifact)}" if artifact else "")


def _address(server: str | None, hostname: str) -> str | None:
    if server is None or not server.isdecimal():
        return server.rstrip("/") if server else None
    host = f"[{hostname}]" if ":" in hostname else hostname
    return f"http://{host}:{server}"
