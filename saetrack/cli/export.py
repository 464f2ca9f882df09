"""`saetrack export CHAIN --to FOLDER`: links for SAELens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saetrack.cli.names import open_chain
from saetrack.cli.options import ChainName
from saetrack.utils.errors import UserError


def export(
    chain: ChainName,
    to: Annotated[Path, typer.Option(help="Folder to make; it must not hold anything yet.")],
    version: Annotated[int | None, typer.Option(help="One link, by its version.")] = None,
    lm_step: Annotated[
        int | None, typer.Option(help="One link, by the LM's training step.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="One link: first, or final.")] = None,
    all_links: Annotated[
        bool, typer.Option("--all", help="The whole chain, as one hub repository.")
    ] = False,
) -> None:
    """Write one link, or a whole chain, so that SAELens opens it.

    One link becomes a folder of cfg.json and sae_weights.safetensors, for SAE.load_from_disk. A
    chain becomes one folder per link, step0, step1, ..., beside a model card (README.md): a
    repository that can be uploaded to a model hub as it is, and SAE.from_pretrained reads.

    Features are the same as here, to float rounding. cfg.json names the LM, its revision and the
    hook; load the LM with its model_from_pretrained_kwargs to have the same residuals, and with
    them the same metrics.

    ```sh
    saetrack export mini.L2.forward --alias final --to final-sae
    saetrack export mini.L2.forward --lm-step 512 --to step512
    saetrack export mini.L2.forward --all --to mini-chain
    ```
    """
    from saetrack.registry.formats.export import export_chain, export_link

    one = {"version": version, "lm_step": lm_step, "alias": alias}
    given = {name: value for name, value in one.items() if value is not None}
    if len(given) + all_links != 1:
        raise UserError("export: give exactly one of --version, --lm-step, --alias, --all")
    registry, name = open_chain(chain)
    if all_links:
        links = export_chain(registry, name, to)
        typer.echo(f"{to}: {len(links)} links of {name}, and their model card")
    else:
        link = registry.pull(name, version=version, lm_step=lm_step, alias=alias)
        export_link(link, to)
        typer.echo(f"{to}: version {link.version} of {name}, LM step {link.cfg['lm_step']}")
