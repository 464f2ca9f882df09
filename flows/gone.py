"""A run whose Prefect server is gone: the work is whole, and the run ends in order without it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import State
    from prefect.client.schemas.responses import OrchestrationResult

log = logging.getLogger("saetrack")

PATIENCE_S, BETWEEN_S = 15.0, 3.0  # a server that is started anew answers within that


def end_without_server() -> bool:
    """Let the current run end by itself if its server does not answer any more; whether that is so.

    Else its last state would be offered to the server for minutes, and then the run would fail
    although all of its work is done.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or _answers(context.client):
        return False
    context.client.set_flow_run_state = _accept  # type: ignore[method-assign,assignment]
    logging.raiseExceptions = False  # Prefect would print each line that it cannot send
    for name in ("prefect.events.clients", "EventsWorker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    log.warning(
        "Prefect's server does not answer any more: its record of this run is incomplete; the work "
        "is done, and the registry is complete"
    )
    return True


def _answers(client: Any) -> bool:
    import httpx

    given_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            # Not by the client itself, which would ask again for a minute.
            httpx.get(f"{str(client.api_url).rstrip('/')}/health", timeout=BETWEEN_S)
        except httpx.TransportError:
            if time.monotonic() >= given_up_s:
                return False
            time.sleep(BETWEEN_S)
        else:
            return True


def _accept(_: UUID, state: State, force: bool = False) -> OrchestrationResult[Any]:  # noqa: ARG001
    """What the server would say to a state."""
    from prefect.client.schemas.responses import (
        OrchestrationResult,
        SetStateStatus,
        StateAcceptDetails,
    )

    accepted: OrchestrationResult[Any] = OrchestrationResult(
        state=state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails()
    )
    return accepted
