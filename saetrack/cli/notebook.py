"""The commands that train and analyse, for a notebook: they take and give Python's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saetrack.analysis.pipeline.analyze import analyze_chains
from saetrack.analysis.pipeline.chain_view import ChainView
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.presets import load_preset, merge
from saetrack.cli.config_files import read_config
from saetrack.training.loop import train_missing
from saetrack.utils.settings import Settings, load_settings


def train_track(
    track: TrackConfig | Mapping[str, Any] | str,
    changes: Mapping[str, Any] | None = None,
    *,
    settings: Settings | None = None,
) -> list[ChainView]:
    """Train every link of a track that the registry lacks, as `saetrack track` does.

    Args:
        track: a config, its parameters, the name of a preset, or the path of a YAML file.
        changes: fields that are other than there; groups are merged.
        settings: where registry and cache are; without, those of the environment.

    Returns:
        The chains, one per layer.

    Raises:
        UserError: a parameter is wrong, or something is out of reach.

    Example:
        >>> (chain,) = train_track("nano.yaml", {"seed": 1})
        >>> chain.name.startswith("nano.L1.forward.s1.")
        True
    """
    settings = settings or load_settings()
    if isinstance(track, TrackConfig):
        track = track.model_dump(mode="json")
    values = _values("track", track, changes)
    _, prepared = train_missing(load_config(values), settings)
    return [ChainView(prepared.registry, c.name, settings) for c in prepared.track.chains]


def analyze(
    analysis: Mapping[str, Any] | str,
    changes: Mapping[str, Any] | None = None,
    *,
    settings: Settings | None = None,
) -> list[str]:
    """Analyse registered chains, as `saetrack analyze` does.

    Args:
        analysis: parameters, the name of a preset, or the path of a YAML file.
        changes: fields that are other than there; groups are merged.
        settings: where registry and cache are; without, those of the environment.

    Returns:
        What was done, a line for each chain; tables, figures and a page are in MLflow.

    Raises:
        UserError: a parameter is wrong, or too little is registered.

    Example:
        >>> analyze({"chain": "no.such.chain"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saetrack.utils.errors.UserError: chain='no.such.chain': no such chain is registered; ...
    """
    config = load_analyze_config(_values("analyze", analysis, changes))
    return analyze_chains(config, settings or load_settings())


def _values(
    kind: Any, given: Mapping[str, Any] | str, changes: Mapping[str, Any] | None
) -> dict[str, Any]:
    if isinstance(given, str):
        return read_config(kind, given, changes)
    return load_preset(kind, None, merge(given, changes or {}))
