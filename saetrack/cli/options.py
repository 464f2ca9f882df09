"""Arguments and options that several commands share, and how a shell completes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from saetrack.chain.presets import Kind, preset_names


def _complete_preset(kind: Kind) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in preset_names(kind) if name.startswith(incomplete)]

    return complete


def _complete_chain(incomplete: str) -> list[str]:
    """Names of registered chains; nothing where the registry cannot be read."""
    try:
        from saetrack.registry import Registry
        from saetrack.utils.settings import load_settings

        names = Registry.existing(load_settings()).chain_names()
    except Exception:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _preset(kind: Kind) -> typer.models.ArgumentInfo:
    """The argument NAME-OR-FILE of a kind of preset."""
    argument: typer.models.ArgumentInfo = typer.Argument(
        metavar="NAME-OR-FILE",
        help=f"A preset ({', '.join(preset_names(kind))}), or a YAML file of your own.",
        autocompletion=_complete_preset(kind),
    )
    return argument


TrackName = Annotated[str, _preset("track")]
CompareName = Annotated[str, _preset("compare")]
AnalyzeName = Annotated[
    str,
    typer.Argument(
        metavar="NAME-OR-FILE",
        help=f"A preset ({', '.join(preset_names('analyze'))}), a YAML file of your own, a track's "
        "preset or file, or the name of a registered chain or its beginning, such as "
        "mini.L2.forward.",
        autocompletion=lambda incomplete: [
            *_complete_preset("analyze")(incomplete),
            *_complete_chain(incomplete),
        ],
    ),
]
Replicates = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[REPLICATE]...",
        help="Further chains, analysed alike: names of registered ones, or tracks (a preset or a "
        "YAML file).",
        autocompletion=lambda incomplete: [
            *_complete_preset("track")(incomplete),
            *_complete_chain(incomplete),
        ],
    ),
]
SweepName = Annotated[str, _preset("sweep")]
ChainName = Annotated[
    str,
    typer.Argument(help="Name of a chain, or the beginning of it.", autocompletion=_complete_chain),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A field that is other than the preset has it, such as seed=1 or "
        "corpus.context_size=256; may be given several times.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More log lines.")]
