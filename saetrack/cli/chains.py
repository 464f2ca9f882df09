"""`saetrack chains`: what the registry holds."""

from __future__ import annotations

import typer

from saetrack.registry import Registry
from saetrack.settings import load_settings


def chains() -> None:
    """List the registered chains."""
    for name in Registry(load_settings()).chain_names():
        typer.echo(name)
