"""`saetrack show CHAIN`: one chain."""

from __future__ import annotations

from pathlib import Path

import typer

from saetrack.cli.names import open_chain
from saetrack.cli.options import AsJson, ChainName
from saetrack.cli.terminal import records, say_json

SNIPPET = """
from saetrack import Settings, open_chain

chain = open_chain("{name}", Settings({settings}))
table = chain.table()  # a row per link
link = chain.link(lm_step={lm_step})  # or alias="final", or version={version}
W_dec = link.sae.W_dec  # (d_sae, d_in)
feature_acts = chain.activations("A text of your own.", lm_step={lm_step})  # loads the LM
"""


def show(chain: ChainName, as_json: AsJson = False) -> None:
    """Show a chain: links with metrics, warnings, its config, and how to open it in Python.

    Metrics are on tokens that no link trained on. The version counts registrations; `pull` and
    `saetrack export` take it, or the LM's step.
    """
    import yaml

    from saetrack.utils.figures.text_tables import report

    registry, name = open_chain(chain, reads_files=False)
    links, notes = registry.links(name), registry.notes(name)
    track, hook = registry.track_of(name)
    if as_json:
        say_json(
            {
                "name": name,
                "layer": hook.layer,
                "hook_name": hook.name,
                "links": records(links),
                "notes": notes,
                "config": track,
            }
        )
        return
    last = links.iloc[-1]
    typer.echo(report(links, name))
    if notes:
        typer.echo("\n".join(["\nWarnings:", *(f"- {note}" for note in notes)]))
    typer.echo(f"\nConfig ({hook} is this chain's hook):\n")
    typer.echo(yaml.safe_dump(track, sort_keys=False, default_flow_style=None, width=100).rstrip())
    typer.echo("\nIn Python, or in a notebook:")
    typer.echo(
        SNIPPET.format(
            name=name,
            settings=_settings(),
            version=int(last["version"]),
            lm_step=int(last["lm_step"]),
        ).rstrip()
    )


def _settings() -> str:
    """What leads to the same registry from another folder; a server's address may hold a secret."""
    from saetrack.utils.settings import SQLITE, load_settings

    uri = load_settings().tracking_uri
    if not uri.startswith(SQLITE):
        return ""
    return f'tracking_uri="{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"'
