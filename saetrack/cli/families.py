"""`saetrack families`: the LMs that have a name, and what is on disk of them."""

from __future__ import annotations

from typing import Annotated

import typer

from saetrack.cli.options import AsJson
from saetrack.cli.terminal import say_json


def families(
    name: Annotated[
        str | None, typer.Argument(help="A family, or an LM: all that is known of it.")
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Every checkpoint of the LM, a line each.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the LMs that a track's `model` may name, and their checkpoints here.

    Of each: repository, number of checkpoints, how many are on disk, layers
    and width, the layer to hook first with the convention that suits the LM's
    norm, and the memory that its weights need in float32, up to the hook and
    whole (for CE-loss recovered).

    Where names of revisions cannot be known beforehand, the hub lists them
    when they are first needed. The list is kept, so that a checkpoint_index
    goes on to mean the same; naming such an LM here adds what the hub has had
    since. Offline (HF_HUB_OFFLINE=1) the hub's cache is the list.

    Of some LMs only the final weights are public. They take a schedule of one
    checkpoint, which trains a conventional SAE.

    LMs of your own: `model` may be the path of a folder of Hugging Face
    checkpoints. Or write entries as in saetrack/lm/catalog/published.yaml (three
    lines are enough) into a file, and name it by SAETRACK_MODELS_FILE.
    """
    from saetrack.cli.family_tables import checkpoint_rows, family_names, print_families

    if as_json:
        say_json(checkpoint_rows(name) if checkpoints else family_names(name))
    else:
        print_families(name, checkpoints=checkpoints)
