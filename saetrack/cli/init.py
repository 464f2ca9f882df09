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
    schedule and budgets are chosen by the LM; change them in the file. Where a text of this
    machine is shorter than they ask for, its tokens are counted, and the config takes all of them.

    ```sh
    saetrack init my.yaml
    saetrack init my.yaml --model runs/my-lm --text texts/ --yes
    ```
    """
    if file.exists():
        raise UserError(f"file={file}: exists already; name another file")
    if not file.parent.is_dir():
        raise UserError(f"file={file}: there is no folder {file.parent}; make it first")
    from saetrack.chain.first_config import default_layer

    model = model or ("mini" if yes else typer.prompt("LM (a name, or a folder)", default="mini"))
    model, spec = _known(model)
    if layer is None:
        layer = default_layer(spec)
        if not yes:
            asked = f"layer (0 to {spec.n_layers - 1})"
            layer = typer.prompt(asked, default=layer, type=int)
    text = text or ("mini" if yes else typer.prompt("text (a name, or a path)", default="mini"))
    content = _sound_config(model, spec, layer, text, text_field)
    try:
        file.write_text(content)
    except OSError as error:
        raise UserError(f"file={file}: cannot be written ({error.strerror})") from None
    typer.echo(f"{file}: written; then: saetrack plan {file}, saetrack track {file}")


def _known(model: str) -> tuple[str, ModelSpec]:
    """The LM as a config names it, with its checkpoints and its shape.

    Raises:
        UserError: there is no such LM, it has no checkpoint, or the hub is needed and is silent.
    """
    from saetrack.lm.catalog.models import UnknownModelError
    from saetrack.lm.checkpoints.folder_layout import as_folder, find_lm, no_checkpoint
    from saetrack.lm.checkpoints.hub_source import open_repo
    from saetrack.utils.settings import load_settings

    try:
        spec = find_lm(model)
    except UnknownModelError:
        model = as_folder(model)
        spec = find_lm(model)
    if spec.repo is not None and not (spec.lm_steps and spec.n_layers):
        settings = load_settings()
        spec = open_repo(spec, spec.repo, settings.cache_dir, settings.fetched_bytes).spec
    if not spec.lm_steps:
        raise no_checkpoint(model)
    return model, spec


def _sound_config(model: str, spec: ModelSpec, layer: int, text: str, text_field: str) -> str:
    """A config that `saetrack plan` and `saetrack track` take, as far as files that are here tell.

    Raises:
        UserError: there is none, since the text or the LM has something that they refuse.
    """
    import yaml

    from saetrack.chain.config import load_config
    from saetrack.chain.first_config import first_config
    from saetrack.cli.terminal import log_problems
    from saetrack.data.corpus import ShortTextError
    from saetrack.registry.opened_track import check_track
    from saetrack.utils.settings import load_settings

    log_problems()
    content = first_config(model, spec, layer, text, text_field)
    config = load_config(yaml.safe_load(content))
    try:
        check_track(config, load_settings())
    except ShortTextError as short:
        if min(short.had.values()) == 0:
            raise
        content = first_config(model, spec, layer, text, text_field, short.had)
        load_config(yaml.safe_load(content))
        had = ", ".join(f"{name}_tokens {tokens:,}" for name, tokens in short.had.items())
        typer.echo(f"{text} is short for such an LM; the config takes what it has: {had}")
    return content
