"""`saetrack chains`: what the registry holds."""

from __future__ import annotations

import typer

from saetrack.cli.options import AsJson
from saetrack.cli.terminal import records, say, say_json

FIRST = "saetrack track mini trains a chain"


def chains(as_json: AsJson = False) -> None:
    """List the registered chains, the one that grew last first, and the imported SAEs.

    A chain is one SAE per training checkpoint of an LM, each started from the one before. Its name
    is made of the LM, the hook (L4, or L4-mlp_out), the direction through the LM's training, the
    seed, and a hash of everything else. Other commands take any beginning of a name that no other
    chain shares.
    """
    from saetrack.registry import Registry
    from saetrack.registry.connection import is_made
    from saetrack.utils.figures.text_tables import chains_report, imported_report
    from saetrack.utils.settings import load_settings

    settings = load_settings()
    if not is_made(settings.tracking_uri):
        nothing = f"there is no registry at {settings.tracking_uri} yet; {FIRST}"
        say({"chains": [], "imported": []}, nothing, as_json=as_json)
        return
    registry = Registry.existing(settings)
    registered, imported = registry.chains(), registry.imported.table()
    if as_json:
        say_json({"chains": records(registered), "imported": records(imported)})
        return
    if len(registered):
        typer.echo(chains_report(registered, "chains"))
    if len(imported):
        typer.echo(imported_report(imported, "imported SAEs"))
    if registered.empty and imported.empty:
        typer.echo(f"nothing is registered at {settings.tracking_uri}; {FIRST}")
