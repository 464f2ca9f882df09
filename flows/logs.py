"""What a run says: the library's log lines, and one line for how it ended."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.gone import end_without_server
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def log_to_terminal() -> None:
    """Print the library's lines, with the time of day."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("saetrack")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # Prefect's own console would print every line again


def tell_failures_in_one_line() -> None:
    """Keep the engine from printing a traceback of its own around a run that fails in order.

    Nor one around a task that fails so, or at the end of a run whose server is gone. And let the
    library's lines through: Prefect attaches its handlers to the logger, but leaves the level at
    the root's.
    """
    logging.getLogger("saetrack").setLevel(logging.INFO)
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_one_line)


def _one_line(record: logging.LogRecord) -> bool:
    # Not above: Prefect reads its settings when it is imported, and services.py sets some first.
    from httpx import TransportError
    from prefect.exceptions import FailedRun

    error = record.exc_info[1] if record.exc_info else None
    line = None
    if isinstance(error, FailedRun | UserError):
        line = str(error)
    elif isinstance(error, TransportError):
        line = (
            f"Prefect's server does not answer any more ({type(error).__name__}), so it does not "
            "know how this run ended; every link that was trained is registered"
        )
    if line is not None:
        record.msg, record.args, record.exc_info = line, (), None
    return True


def state_in_one_line(work: Callable[[], str]) -> State:
    """The state of a run: what came of it, or the user's mistake."""
    from prefect.states import Completed, Failed

    state: State
    try:
        state = Completed(message=work())
    except UserError as error:
        # In the name as well: `--watch` prints a state's name only.
        state = Failed(name=f"Failed: {error}", message=str(error))
    end_without_server()
    return state
