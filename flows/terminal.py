"""A deployment's flow in this process, for a person at a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.logs import log_to_terminal
from flows.parameters import deployed_parameters
from flows.server import prefect_server
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings

log = logging.getLogger("saetrack")


def told_in_one_line(work: Callable[[], str]) -> State:
    """The state of a run: what came of it, or the user's mistake."""
    try:
        return Completed(message=work())
    except UserError as error:
        # In the name as well: `--watch` prints a state's name only.
        return Failed(name=f"Failed: {error}", message=str(error))


def run_here(flow: Flow[Any, State], validate: Callable[[dict[str, Any]], Any], name: str) -> int:
    """Run a deployment of a flow in this process; the exit status.

    Args:
        flow: to run.
        validate: its parameters, before any server is started.
        name: of the deployment.
    """
    log_to_terminal()
    try:
        parameters = deployed_parameters(flow.name, name)
        validate(parameters)
        load_settings()
    except UserError as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    with prefect_server():
        state = flow(**parameters, return_state=True)
    if not state.is_completed():
        log.error("error: %s", state.message)
        return 1
    log.info("%s", state.message)
    log.info("look at it: make ui, then the LM's experiment in MLflow")
    return 0
