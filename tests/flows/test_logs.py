"""What Prefect prints of a run that fails in order: a line."""

from __future__ import annotations

import logging

import pytest
from httpx import ConnectError
from prefect.exceptions import FailedRun

from flows.logs import tell_failures_in_one_line
from saetrack.utils.errors import UserError

GONE = (
    "Prefect's server does not answer any more (ConnectError), so it does not know how this run "
    "ended; every link that was trained is registered"
)


@pytest.mark.parametrize(
    ("logger", "error", "line"),
    [
        ("prefect.flow_runs", FailedRun("layers=[9]: too many"), "layers=[9]: too many"),
        ("prefect.task_runs", UserError("layers=[9]: too many"), "layers=[9]: too many"),
        (
            "prefect.engine",
            ConnectError("All connection attempts failed"),
            GONE,
        ),
    ],
)
def test_a_failure_in_order_is_one_line(logger: str, error: Exception, line: str) -> None:
    assert printed(logger, error) == line


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    assert "Traceback" in printed("prefect.task_runs", ZeroDivisionError())


def printed(logger: str, error: Exception) -> str:
    """What a handler of Prefect's logger is given of an error."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    tell_failures_in_one_line()
    logging.getLogger(logger).addHandler(handler)
    try:
        raise error
    except type(error):
        logging.getLogger(logger).exception("Encountered %r", error)
    finally:
        logging.getLogger(logger).removeHandler(handler)
    (text,) = texts
    return text
