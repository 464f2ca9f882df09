"""`saetrack import FOLDER --name NAME`: an SAE from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bring(
    folder: Annotated[Path, typer.Argument(help="Of SAELens, sparsify or dictionary_learning.")],
    name: Annotated[str, typer.Option(help="What to call it here; the `start` of a track.")],
) -> None:
    """Import an SAE from elsewhere, from which a chain can start.

    A track whose `start` is its name trains its first link from these weights, as later links are
    trained from their parents. The folder is one of SAELens (`cfg.json`,
    `sae_weights.safetensors`), sparsify (`cfg.json`, `sae.safetensors`) or dictionary_learning
    (`config.json`, `ae.pt`, of which only tensors are read). The SAE must be a ReLU, TopK,
    BatchTopK or JumpReLU SAE without normalised activations, and have the architecture, d_in and
    d_sae of the track; gated SAEs and transcoders are refused. Where its decoder rows are not of
    norm 1, they are made so, and each feature grows by what its row lost: the reconstruction stays
    the same.

    ```sh
    saetrack import sae/blocks.4.hook_resid_pre --name theirs
    prefect deployment run track/pythia-410m --param start='"theirs"'
    ```
    """
    from saetrack.registry import Registry
    from saetrack.registry.formats.any_format import read_foreign
    from saetrack.utils.files import user_path
    from saetrack.utils.settings import load_settings

    foreign = read_foreign(user_path(folder))
    is_new = Registry(load_settings()).imported.add(name, foreign)
    sae = foreign.sae
    hook = foreign.metadata.get("hook_name") or "a hook that it does not name"
    typer.echo(
        f"{name}: {'imported' if is_new else 'was imported before'}; {sae.architecture}, d_in "
        f"{sae.d_in}, d_sae {sae.d_sae}, of {hook}, for {foreign.residual} residuals (a track's "
        "`residual`)"
    )
