"""`saetrack import FOLDER --name NAME`: an SAE from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bring(
    folder: Annotated[Path, typer.Argument(help="With cfg.json and sae_weights.safetensors.")],
    name: Annotated[str, typer.Option(help="What to call it here; the `start` of a track.")],
) -> None:
    """Import a SAELens SAE, from which a chain can start.

    A track whose `start` is its name trains its first link from these weights, as later links are
    trained from their parents. The SAE must be SAELens' standard architecture (ReLU) without
    normalised activations, and have the d_in and d_sae of the track. Where its decoder rows are
    not of norm 1, they are made so, and each feature grows by what its row lost: the
    reconstruction stays the same.

    ```sh
    saetrack import sae/blocks.4.hook_resid_pre --name theirs
    prefect deployment run track/pythia-410m --param start='"theirs"'
    ```
    """
    from saetrack.registry import Registry
    from saetrack.registry.formats.saelens import read_saelens
    from saetrack.utils.files import user_path
    from saetrack.utils.settings import load_settings

    foreign = read_saelens(user_path(folder))
    is_new = Registry(load_settings()).imported.add(name, foreign)
    sae = foreign.sae
    typer.echo(
        f"{name}: {'imported' if is_new else 'was imported before'}; d_in {sae.d_in}, "
        f"d_sae {sae.d_sae}, for {foreign.residual} residuals (a track's `convention`)"
    )
