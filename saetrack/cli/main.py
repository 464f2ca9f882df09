"""`saetrack COMMAND`: what is registered, taken out and brought in."""

from __future__ import annotations

import sys

import typer

from saetrack.cli.bring import bring
from saetrack.cli.chains import chains
from saetrack.cli.export import export
from saetrack.cli.families import families
from saetrack.cli.labelling import agreement, sheet
from saetrack.cli.show import show
from saetrack.utils.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Chains of sparse autoencoders over the training checkpoints of language models.",
    epilog="The registry is the one that SAETRACK_TRACKING_URI names. Chains are trained by "
    "make track, or by Prefect.",
)
for command in (chains, show, export, families, sheet, agreement):
    app.command()(command)
app.command("import")(bring)


def main() -> None:
    """Run a command; a user's mistake is one line and exit status 2, as Typer's own are."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
