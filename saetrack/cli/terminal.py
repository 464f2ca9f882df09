"""What a command says: progress and mistakes to stderr, its result to stdout."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    import pandas as pd


ASKED_AGAIN_S = 0.1


class Stopped(Exception):  # noqa: N818  (it is no error)
    """Ctrl-C. Its text is one line: what was saved, and how to go on."""


def leads() -> bool:
    """Whether this process speaks: of those that `torchrun` starts, the first does."""
    return os.environ.get("RANK", "0") == "0"


def log_to_stderr(*, quiet: bool, verbose: bool) -> None:
    """Print the library's log lines with the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("saetrack")
    logger.handlers[:] = [handler]
    logger.propagate = False
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logger.setLevel(level if leads() else logging.ERROR)
    if not verbose:  # MLflow tells of every table that it makes
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when it is imported
        logging.getLogger("mlflow").setLevel(logging.WARNING)


def log_problems() -> None:
    """Print warnings to stderr, and how far work of more than some seconds is."""
    log_to_stderr(quiet=True, verbose=False)
    logging.getLogger("saetrack.utils.progress").setLevel(logging.INFO)


class Work(Protocol):
    """What a command does."""

    def is_finished(self) -> bool:
        """Whether the registry holds all of it."""


@contextmanager
def resumable(saved: str, work: Work | None = None) -> Iterator[None]:
    """Let Ctrl-C end a command in one line.

    Args:
        saved: what stays of the work that was done.
        work: that is done, if the registry can be asked whether it is finished.

    Raises:
        Stopped: on Ctrl-C.
    """
    try:
        with _no_interrupt_lost():
            yield
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        again = shlex.join(["saetrack", *sys.argv[1:]])
        if work is not None and work.is_finished():
            line = f"stopped, with all results registered: nothing is left to do; {again}"
            raise Stopped(f"{line} says where they are") from None
        raise Stopped(f"stopped; {saved}; to go on: {again}") from None


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Ask again for an end where compiled code has called Python and drops what that raises.

    LLVM does so while numba compiles for UMAP, seconds long: the work would go on to its end.
    """
    told = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            main_thread = threading.main_thread().ident
            again = threading.Timer(
                ASKED_AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGINT)
            )
            again.daemon = True
            again.start()
        else:
            told(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = told


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is a Ctrl-C, or what a library made of one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def say(result: dict[str, Any] | list[Any], text: str, *, as_json: bool) -> None:
    """Print a command's result, for a script or for a person."""
    if as_json:
        say_json(result)
    else:
        typer.echo(text)


def say_json(result: dict[str, Any] | list[Any]) -> None:
    """Print a result for a script; NaN and infinity, which JSON does not have, are null."""
    plain = json.loads(json.dumps(result, default=str), parse_constant=lambda _: None)
    typer.echo(json.dumps(plain, indent=2))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows for JSON: times as text, what is missing as null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", date_format="iso"))
    return rows
