"""What is registered, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from saetrack.chain.config import TrackConfig
from saetrack.registry.facts import WARNINGS

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

COLUMNS = (
    *("name", "lm", "layer", "direction", "seed"),
    *("registered", "planned", "warnings", "lm_step", "changed"),
)


def chains_table(
    versions: Iterable[ModelVersion], tracks: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    """One row per chain, the one that grew last first.

    Args:
        versions: of all chains.
        tracks: the track parameters of each chain, by its name.
    """
    by_chain: dict[str, list[ModelVersion]] = {}
    for version in versions:
        by_chain.setdefault(version.name, []).append(version)
    rows = []
    for name, links in by_chain.items():
        last = max(links, key=lambda version: int(version.tags["link"]))
        changed_ms = max(version.creation_timestamp for version in links)
        rows.append(
            {
                "name": name,
                **{column: last.tags[column] for column in ("lm", "layer", "direction", "seed")},
                "registered": len({version.tags["identity"] for version in links}),
                "planned": _planned(tracks.get(name)),
                "warnings": sum(bool(version.tags.get(WARNINGS)) for version in links),
                "lm_step": int(last.tags["lm_step"]),
                "changed": pd.Timestamp(changed_ms, unit="ms", tz="UTC"),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("changed", ascending=False)


def _planned(track: dict[str, Any] | None) -> float:
    """How many links a chain will have; NaN where that is not known any more."""
    config = _config(track)
    planned = config.planned if config else None
    return float("nan") if planned is None else len(planned)


def _config(track: dict[str, Any] | None) -> TrackConfig | None:
    """A registered track; None where it is another release's."""
    try:
        return TrackConfig.model_validate(track)
    except ValidationError:
        return None


def registered_links(
    versions: Iterable[ModelVersion], tracks: dict[str, dict[str, Any]], config: TrackConfig
) -> int:
    """How many links are registered of the chains of a track's very parameters.

    Args:
        versions: of all chains.
        tracks: the track parameters of each chain, by its name.
        config: of the track.
    """
    own = {"layers", "hooks", "save_every_s", "follow_s"}  # no part of what a chain is
    wanted = config.model_dump(mode="json", exclude=own)
    hooks = {hook.name for hook in config.all_hooks}
    configs = {name: _config(track) for name, track in tracks.items()}
    names = {
        name
        for name, found in configs.items()
        if found is not None and found.model_dump(mode="json", exclude=own) == wanted
    }
    return len(
        {
            version.tags["identity"]
            for version in versions
            if version.name in names and version.tags["hook_name"] in hooks
        }
    )
