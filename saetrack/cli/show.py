"""`saetrack show CHAIN`: one chain."""

from __future__ import annotations

import typer

from saetrack.cli.names import open_chain
from saetrack.cli.options import AsJson, ChainName
from saetrack.cli.terminal import records, say_json

PULLING = """
from saetrack.registry import Registry
from saetrack.utils.settings import load_settings

registry = Registry(load_settings())
link = registry.pull("{name}", version={version})  # or alias="final", or lm_step={lm_step}
feature_acts = link.sae.encode(residuals)  # (tokens, {d_sae})
"""


def show(chain: ChainName, as_json: AsJson = False) -> None:
    """Show a chain: links with metrics, warnings, its config, and how to pull a link in Python.

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
    typer.echo("\nIn Python:")
    typer.echo(
        PULLING.format(
            name=name,
            version=int(last["version"]),
            lm_step=int(last["lm_step"]),
            d_sae=track["d_sae"],
        ).rstrip()
    )
