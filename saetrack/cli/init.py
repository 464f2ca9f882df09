"""`saetrack init FILE`: a first config for an LM of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from saetrack.lm.catalog.models import ModelSpec


def init(
    file: Annotated[Path, typer.Argument(help="The YAML file to write; it must not exist yet.")],
    model: Annotated[
        str | None,
        typer.Option(help="A name that `saetrack families` lists, or a folder of checkpoints."),
    ] = None,
    layer: Annotated[int | None, typer.Option(min=0, help="Of the hook.")] = None,
    text: Annotated[
        str | None,
        typer.Option(help="owner/name on the hub, pile, openwebtext, mini, or a file or folder."),
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="The field or column that holds a document's text.")
    ] = "text",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: take what suits the LM.")
    ] = False,
) -> None:
    """Write a short commented config that suits an LM, for `saetrack track FILE`.

    Asks for what the options leave open. Layer, width of the dictionary, kind of residual,
    schedule and budgets are chosen by the LM; change them in the file.

    ```sh
    saetrack init my.yaml
    saetrack init my.yaml --model runs/my-lm --text texts/ --yes
    ```
    """
    if file.exists():
        raise UserError(f"file={file}: exists already; name another file")
    if not file.parent.is_dir():
        raise UserError(f"file={file}: there is no folder {file.parent}; make it first")
    from saetrack.chain.first_config import default_layer, first_config

    model = model or ("mini" if yes else typer.prompt("LM (a name, or a folder)", default="mini"))
    spec = _known(model)
    if layer is None:
        layer = default_layer(spec)
        if not yes:
            asked = f"layer (0 to {spec.n_layers - 1})"
            layer = typer.prompt(asked, default=layer, type=int)
    text = text or ("mini" if yes else typer.prompt("text (a name, or a path)", default="mini"))
    content = first_config(model, spec, layer, text, text_field)
    _require_sound(content)
    try:
        file.write_text(content)
    except OSError as error:
        raise UserError(f"file={file}: cannot be written ({error.strerror})") from None
    typer.echo(f"{file}: written; then: saetrack plan {file}, saetrack track {file}")


def _known(model: str) -> ModelSpec:
    """The LM with its checkpoints and its shape.

    Raises:
        UserError: there is no such LM, it has no checkpoint, or the hub is needed and is silent.
    """
    from saetrack.lm.checkpoints.folder_layout import find_lm, no_checkpoint
    from saetrack.lm.checkpoints.hub_source import open_repo
    from saetrack.utils.settings import load_settings

    spec = find_lm(model)
    if spec.repo is not None and not (spec.lm_steps and spec.n_layers):
        settings = load_settings()
        spec = open_repo(spec, spec.repo, settings.cache_dir, settings.fetched_bytes).spec
    if not spec.lm_steps:
        raise no_checkpoint(model)
    return spec


def _require_sound(content: str) -> None:
    """Check what is about to be written as `saetrack track` would."""
    import yaml

    from saetrack.chain.compatibility import find_suitable_lm
    from saetrack.chain.config import load_config

    find_suitable_lm(load_config(yaml.safe_load(content)))
