"""`saetrack COMMAND`: what is registered, taken out and brought in."""

from __future__ import annotations

import sys

import typer

from saetrack.cli.chains import chains
from saetrack.cli.families import families
from saetrack.cli.labelling import agreement, sheet
from saetrack.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Chains of sparse autoencoders over the training checkpoints of language models.",
)
for command in (chains, families, sheet, agreement):
    app.command()(command)


def main() -> None:
    """Run a command; a user's mistake is one line and exit status 2."""
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
