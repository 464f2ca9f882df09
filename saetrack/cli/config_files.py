"""What NAME-OR-FILE means to a command: a preset, a file of the right kind, a registered chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saetrack.chain.presets import KINDS, Kind, fields_of_file, is_path, load_preset, preset_names
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

    Raises:
        UserError: there is none, or its fields are those of another command.
    """
    if is_path(name_or_file):
        _require_kind(kind, name_or_file)
    return load_preset(kind, name_or_file, changes)


def chain_of(kind: Kind, asked: str) -> str | None:
    """The chain that is meant where a preset, a file or a registered chain may be given.

    A preset of the kind comes first, then a chain by the beginning of its name.

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
    if "." in asked:  # presets have none
        return asked
    from saetrack.registry import Registry
    from saetrack.registry.connection import is_made
    from saetrack.utils.settings import load_settings

    settings = load_settings()
    registry = Registry(settings) if is_made(settings.tracking_uri) else None
    names = [] if registry is None else registry.chain_names()
    if registry is not None and any(name.startswith(asked) for name in names):
        return registry.find_chain(asked)
    more = f" and {len(names) - SHOWN} more (saetrack chains)" if len(names) > SHOWN else ""
    chains = f"chains: {', '.join(names[:SHOWN])}{more}" if names else "no chain is registered"
    raise UserError(
        f"{kind}={asked!r}: no such preset, and no such registered chain; presets: "
        f"{', '.join(preset_names(kind))}; {chains}; or give a file that ends with .yaml"
    )


def _require_kind(kind: Kind, file: str) -> None:
    """Refuse a file that has fields of another kind only."""
    given, is_whole = fields_of_file(kind, file)
    models = _models()
    if not given or given <= models[kind].model_fields.keys():
        return
    fitting = [
        other
        for other in KINDS
        if given <= models[other].model_fields.keys()
        and (not is_whole or _required(models[other]) <= given)
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
