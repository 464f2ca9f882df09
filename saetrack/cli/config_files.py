"""What NAME-OR-FILE means to a command: a preset, a file of the right kind, a registered chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saetrack.chain.presets import (
    EXTENDS,
    KINDS,
    Kind,
    fields_of_file,
    is_path,
    load_preset,
    merge,
    preset_names,
)
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

NAMES: dict[Kind, str] = {
    "track": "a track",
    "compare": "a comparison",
    "analyze": "an analysis",
    "sweep": "a sweep",
}
SHOWN = 8


def read_config(
    kind: Kind, name_or_file: str, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of a preset or of a file (`saetrack.chain.presets.load_preset`).

    Where an analysis is meant, that of a track is one of this track, with default fields.

    Raises:
        UserError: there is none, or its fields are those of another command.
    """
    if kind == "analyze" and _is_of_track(name_or_file):
        track = {"track": {EXTENDS: name_or_file}}
        return load_preset(kind, None, merge(track, changes or {}))
    if is_path(name_or_file):
        _require_kind(kind, name_or_file)
    return load_preset(kind, name_or_file, changes)


def chain_of(kind: Kind, asked: str) -> str | None:
    """The chain that is meant where a preset, a file or a registered chain may be given.

    A preset comes first, then a chain by the beginning of its name. An analysis may be one of a
    track's preset too.

    Args:
        kind: of the preset or the file.
        asked: what the user wrote.

    Returns:
        None where a preset or a file is meant.

    Raises:
        UserError: it is neither, or the beginning of several chains.
    """
    if is_path(asked) or asked in preset_names(kind):
        return None
    if kind == "analyze" and _is_of_track(asked):
        return None
    if "." in asked:  # presets have none
        return asked
    from saetrack.registry import Registry
    from saetrack.registry.connection import is_made
    from saetrack.utils.settings import load_settings

    settings = load_settings()
    registry = Registry.existing(settings) if is_made(settings.tracking_uri) else None
    names = [] if registry is None else registry.chain_names()
    if registry is not None and any(name.startswith(asked) for name in names):
        return registry.find_chain(asked)
    more = f" and {len(names) - SHOWN} more (saetrack chains)" if len(names) > SHOWN else ""
    chains = f"chains: {', '.join(names[:SHOWN])}{more}" if names else "no chain is registered"
    raise UserError(
        f"{kind}={asked!r}: no such preset, and no such registered chain; presets: "
        f"{', '.join(preset_names(kind))}; {chains}; or give a file that ends with .yaml"
    )


def _is_of_track(name_or_file: str) -> bool:
    """Whether a preset is a track's and no analysis', or more names of a file are a track's."""
    if not is_path(name_or_file):
        named = name_or_file in preset_names("track")
        return named and name_or_file not in preset_names("analyze")
    given, extended = fields_of_file("analyze", name_or_file)
    models = _models()
    of_track, of_analysis = (
        len(given & models[kind].model_fields.keys()) for kind in ("track", "analyze")
    )
    if of_track == of_analysis and isinstance(extended, str):
        return _is_of_track(extended)
    return of_track > of_analysis


def _require_kind(kind: Kind, file: str) -> None:
    """Refuse a file that has fields of another kind only."""
    given, extended = fields_of_file(kind, file)
    models = _models()
    if not given or given <= models[kind].model_fields.keys():
        return
    fitting = [
        other
        for other in KINDS
        if given <= models[other].model_fields.keys()
        and (extended is not None or _required(models[other]) <= given)
    ]
    if fitting:
        named = " or ".join(NAMES[other] for other in fitting)
        commands = " or ".join(f"`saetrack {other}`" for other in fitting)
        raise UserError(
            f"{file}: its fields ({', '.join(sorted(given))}) are those of {named}, not of "
            f"{NAMES[kind]}: give it to {commands}"
        )


def _required(model: type[BaseModel]) -> set[str]:
    return {name for name, field in model.model_fields.items() if field.is_required()}


def _models() -> dict[Kind, type[BaseModel]]:
    from saetrack.analysis.pipeline.config import AnalyzeConfig, CompareConfig
    from saetrack.chain.config import TrackConfig
    from saetrack.chain.sweep import SweepConfig

    return {
        "track": TrackConfig,
        "compare": CompareConfig,
        "analyze": AnalyzeConfig,
        "sweep": SweepConfig,
    }
