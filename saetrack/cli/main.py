"""`saetrack COMMAND`: train, analyse, look, take out, bring in."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from saetrack.cli.analyze import analyze
from saetrack.cli.bring import bring
from saetrack.cli.chains import chains
from saetrack.cli.compare import compare
from saetrack.cli.explain import explain
from saetrack.cli.explore import explore
from saetrack.cli.export import export
from saetrack.cli.families import families
from saetrack.cli.init import init
from saetrack.cli.labelling import agreement, sheet
from saetrack.cli.plan import plan
from saetrack.cli.results import results
from saetrack.cli.show import show
from saetrack.cli.sweep import sweep
from saetrack.cli.terminal import Stopped
from saetrack.cli.track import track
from saetrack.utils.errors import UserError, database_problem, file_problem, is_disk_full

log = logging.getLogger(__name__)
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Chains of sparse autoencoders over the training checkpoints of language models.",
    epilog="The registry is the one that SAETRACK_TRACKING_URI names. Exit status: 0; 2 for a "
    "mistake in what was asked; 130 after Ctrl-C; 1 for any other failure.",
)
INTERRUPTED = 130
DISK_FULL = (
    "the disk of the registry, the cache or of temporary files is full (or its quota); make room "
    "and run the same command again: it goes on from what was saved"
)
GO_ON = "then run the same command again: it goes on from what was saved"
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train and analyse": (init, plan, track, analyze, explain, compare, sweep),
    "Look and take out": (chains, show, results, explore, families, export, sheet, agreement),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command("import", rich_help_panel="Look and take out")(bring)


def _print_version(wanted: bool) -> None:
    if wanted:
        import saetrack

        typer.echo(f"saetrack {saetrack.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print, and exit."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run a command and exit with its status (`run`)."""
    ending = _Ending()
    ending.status = run()
    if ending.status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
    sys.exit(ending.status)


def run() -> int:
    """Run a command.

    A mistake, a Ctrl-C, and a disk or a database that fails are one line each on stderr.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 1 where the machine fails.

    Raises:
        Exception: what else fails; Python exits with 1.
    """
    # It would print a page around each error of the database that becomes a line here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        return _status()
    except Exception as error:
        line = _line_of(error)
        if line is None:
            raise
        log.debug("what failed:", exc_info=error)
        return _fail(f"error: {line}", 1)


def _line_of(error: Exception) -> str | None:
    """What to do where the machine failed, not the code; None of any other error."""
    if is_disk_full(error):
        return DISK_FULL
    if says := database_problem(error):
        return (
            f"the registry's database ({_setting('tracking_uri')}): {says}; check that its file "
            "and its folder can be written, that their disk has room and is sound, and that no "
            f"limit on the size of files stands (ulimit -f); {GO_ON}"
        )
    if problem := file_problem(error):
        path, reason = problem
        places = f"{_setting('artifact_dir')} or {_setting('cache_dir')}"
        return (
            f"{path or 'a file of the registry or the cache'}: {reason}; check that the folders of "
            f"the registry and the cache ({places}) can be written to by this user and have no "
            f"limit on the size of files (ulimit -f); {GO_ON}"
        )
    return None


def _setting(field: str) -> str:
    """A setting as it may be shown."""
    from saetrack.registry.connection import named
    from saetrack.utils.settings import PREFIX, load_settings

    try:
        value = getattr(load_settings(), field)
    except UserError:
        return f"{PREFIX}{field.upper()}"
    return named(value) if field == "tracking_uri" else f"{PREFIX}{field.upper()}={value}"


class _Ending:
    """The very end of a command: the interpreter is not taken apart.

    That takes seconds after a text or an LM was read. After Ctrl-C, compiled libraries may be in
    the middle of something on threads of their own (numba that compiles, torch, a download), and
    crash when it is done around them. What is registered with `atexit` first is called last: after
    executors' threads were joined and all others have tidied up, and before that.
    """

    def __init__(self) -> None:
        """Made before a command imports what it needs."""
        self.status: int | None = None
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.status is not None:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(self.status)


def _status() -> int:
    try:
        status = app(standalone_mode=False)
    except UserError as error:
        return _fail(f"error: {error}", 2)
    except Stopped as stopped:
        return _fail(str(stopped), INTERRUPTED)
    except typer.Abort:
        return _fail("stopped at a question; --yes takes what suits the LM", INTERRUPTED)
    except Exception as error:
        # Typer's own mistakes of usage; of their classes it exports no common one.
        as_line = getattr(error, "format_message", None)
        if as_line is None:
            raise
        return _fail(f"error: {as_line()}", 2) if as_line() else 2  # help was printed
    if status == INTERRUPTED:  # Ctrl-C where nothing is lost
        return _fail("stopped", INTERRUPTED)
    return int(status or 0)


def _fail(line: str, status: int) -> int:
    sys.stderr.write(f"{line}\n")
    return status
