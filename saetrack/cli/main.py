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
from saetrack.utils.errors import UserError, is_disk_full

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
    """Run a command and exit with its status (`run`), after Ctrl-C without a look at threads."""
    ending = _Ending()
    status = run()
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
        ending.is_interrupted = True
    sys.exit(status)


def run() -> int:
    """Run a command.

    A mistake, a full disk and a Ctrl-C are one line each on stderr.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 1 for a full disk.

    Raises:
        Exception: what else fails; Python exits with 1.
    """
    try:
        return _status()
    except Exception as error:
        if not is_disk_full(error):
            raise
        return _fail(f"error: {DISK_FULL}", 1)


class _Ending:
    """The very end of a command that was interrupted.

    Compiled libraries may be in the middle of something on threads of their own (numba that
    compiles, torch, a download), and crash when the interpreter is taken apart around them. What is
    registered with `atexit` first is called last: after executors' threads were joined and all
    others have tidied up, and before that.
    """

    def __init__(self) -> None:
        """Made before a command imports what it needs."""
        self.is_interrupted = False
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.is_interrupted:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(INTERRUPTED)


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
