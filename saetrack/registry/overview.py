"""What is registered, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import OUTSIDE_A_CHAIN
from saetrack.chain.presets import load_preset, preset_names
from saetrack.lm.hook import parse_hook
from saetrack.registry.facts import LEFT_OUT, WARNINGS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TABLE_METRICS = (
    *("loss", "mse", "explained_variance", "explained_variance_per_token"),
    *("explained_variance_at_l0", "l0", "dead"),
    *("ce_loss_recovered", "nats_lost", "ce_loss_zero", "ce_loss_mean", "ce_loss_uniform"),
    *("tokens_per_s", "train_s"),
    *("start_loss", "start_explained_variance", "start_dead"),
)
# Of parameters that differ, those that a chain's name says, or that its links and LM steps do.
IN_NAMES = ["model", "seed", "schedule"]
SHOWN_FIELDS = 5
# What is told of a chain beside its parameters.
CONTENT = ("extent", "text", "lm")
HASH_SHOWN = 8
COLUMNS = (
    *("name", "lm", "layer", "hook", "direction", "seed"),
    *("registered", "planned", "warnings", "lm_step", "changed"),
)


def chains_table(
    versions: Iterable[ModelVersion],
    tracks: dict[str, dict[str, Any]],
    planned: dict[str, int],
    lacking: dict[str, list[str]],
) -> pd.DataFrame:
    """One row per chain, the one that grew last first.

    Args:
        versions: of all chains.
        tracks: the track parameters of each chain, by its name.
        planned: how many links each chain will have, where its run says it.
        lacking: lines about checkpoints that a chain lacks, by its name.
    """
    by_chain: dict[str, list[ModelVersion]] = {}
    for version in versions:
        by_chain.setdefault(version.name, []).append(version)
    rows = []
    for name, links in by_chain.items():
        last = max(links, key=lambda version: int(version.tags["link"]))
        changed_ms = max(version.creation_timestamp for version in links)
        n_registered = len({version.tags["link"] for version in links})
        rows.append(
            {
                "name": name,
                **{column: last.tags[column] for column in ("lm", "layer", "direction", "seed")},
                "hook": str(parse_hook(last.tags["hook_name"])),
                # Not by identity: a checkpoint that was overwritten has two SAEs, and is one link.
                "registered": n_registered,
                # Of a folder that grows just now, the run may say a smaller number than there is.
                "planned": max(n_registered, planned[name])
                if name in planned
                else _planned(tracks.get(name)),
                "warnings": sum(bool(version.tags.get(WARNINGS)) for version in links)
                + len(lacking.get(name, [])),
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


def registered(
    versions: Sequence[ModelVersion], tracks: dict[str, dict[str, Any]], config: TrackConfig
) -> tuple[frozenset[str], int]:
    """Identities of all links; how many there are of a track's very parameters, each once.

    Args:
        versions: of all chains.
        tracks: the track parameters of each chain, by its name.
        config: of the track.
    """
    wanted = _in_chain(config)
    hooks = {hook.name for hook in config.all_hooks}
    configs = {name: _config(track) for name, track in tracks.items()}
    names = {
        name for name, found in configs.items() if found is not None and _in_chain(found) == wanted
    }
    alike = {
        (version.tags["hook_name"], version.tags["link"])
        for version in versions
        if version.name in names and version.tags["hook_name"] in hooks
    }
    return frozenset(version.tags["identity"] for version in versions), len(alike)


def of_preset(names: Sequence[str], tracks: dict[str, dict[str, Any]]) -> str | None:
    """The one of some chains that the preset named as their LM trains; None if none is, or several.

    Args:
        names: of the chains.
        tracks: the track parameters of each chain, by its name.
    """
    own = []
    for name in names:
        config = _config(tracks.get(name))
        if config is not None and config.model in preset_names("track"):
            preset = load_config(load_preset("track", config.model))
            hooks = {hook.short for hook in preset.all_hooks}
            if _in_chain(config) == _in_chain(preset) and name.split(".")[-4] in hooks:
                own.append(name)
    return own[0] if len(own) == 1 else None


def differences(
    versions: Mapping[str, Sequence[ModelVersion]], tracks: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """What tells some chains apart: links and LM steps, content, parameters not in the name.

    Chains of one config differ by what their text and their LM's checkpoints hold: of those the
    beginning of a hash is told, and of a text when it was first trained on.

    Args:
        versions: of each of the chains, by its name.
        tracks: the track parameters of each chain, by its name.
    """
    one_step = len({_first(of_chain).tags["lm_step"] for of_chain in versions.values()}) == 1
    told = pd.DataFrame(
        {
            name: {
                "extent": _extent(of_chain),
                **_content(of_chain, one_step=one_step),
                **_parameters(tracks.get(name)),
            }
            for name, of_chain in versions.items()
        }
    ).fillna("none")
    differing = told[told.ne(told.iloc[:, 0], axis=0).any(axis=1)].drop(
        index=IN_NAMES, errors="ignore"
    )
    if "text" in differing.index:
        began = (f", first trained on {_began(versions[name])}" for name in differing.columns)
        differing.loc["text"] = [a + b for a, b in zip(differing.loc["text"], began, strict=True)]
    return {
        str(name): ", ".join(
            value if field in CONTENT else f"{field}={value}"
            for field, value in column.head(SHOWN_FIELDS).items()
        )
        for name, column in differing.items()
    }


def _extent(versions: Sequence[ModelVersion]) -> str:
    steps = [int(version.tags["lm_step"]) for version in versions]
    links = len({version.tags["link"] for version in versions})
    return f"{links} links, LM steps {min(steps):,} to {max(steps):,}"


def _content(versions: Sequence[ModelVersion], *, one_step: bool) -> dict[str, str]:
    """What a chain's text holds, and the checkpoint of its first link, by their hashes.

    Args:
        versions: of the chain.
        one_step: whether all chains begin at one LM step: else the checkpoints differ anyway.
    """
    tags = _first(versions).tags
    of_lm = f"LM's step {tags['lm_step']} {tags.get('commit', '')[:HASH_SHOWN]}"
    return {
        "text": f"text {tags.get('corpus', '')[:HASH_SHOWN]}",
        "lm": of_lm if one_step else "",
    }


def _first(versions: Sequence[ModelVersion]) -> ModelVersion:
    return min(versions, key=lambda version: int(version.tags["link"]))


def _began(versions: Sequence[ModelVersion]) -> str:
    began_ms = min(version.creation_timestamp for version in versions)
    return f"{pd.Timestamp(began_ms, unit='ms', tz='UTC'):%Y-%m-%d %H:%M} UTC"


def _parameters(track: dict[str, Any] | None) -> dict[str, Any]:
    """Parameters of a track under dotted names; none of another release's."""
    config = _config(track)
    if config is None:
        return {}
    flat = pd.json_normalize(_in_chain(config)).iloc[0]
    return {str(field): str(value) for field, value in flat.items()}


def _in_chain(config: TrackConfig) -> dict[str, Any]:
    """The parameters that make one chain another one."""
    return config.model_dump(mode="json", exclude=set(OUTSIDE_A_CHAIN))


def links_table(client: MlflowClient, versions: Iterable[ModelVersion]) -> pd.DataFrame:
    """One row per link, in chain order, with its final metrics; NaN for one that it lacks."""
    rows = []
    for version in sorted(versions, key=lambda version: int(version.tags["link"])):
        metrics = with_nats_lost(client.get_run(str(version.run_id)).data.metrics)
        counts = ("link", "checkpoint_index", "lm_step", "tokens")
        rows.append(
            {
                **{name: int(version.tags[name]) for name in counts},
                **{name: metrics.get(name, float("nan")) for name in TABLE_METRICS},
                "version": int(version.version),
            }
        )
    return pd.DataFrame(rows)


def with_nats_lost(metrics: dict[str, float]) -> dict[str, float]:
    """A link's metrics with `nats_lost`, which earlier releases did not log."""
    if "ce_loss_spliced" not in metrics:
        return metrics
    return {"nats_lost": metrics["ce_loss_spliced"] - metrics["ce_loss"], **metrics}


def notes_of(versions: Iterable[ModelVersion], lacking: Sequence[str] = ()) -> list[str]:
    """What of a chain's text was left out, and what looks wrong with its links: a line each.

    Args:
        versions: of the chain's links.
        lacking: lines about checkpoints that the chain lacks.
    """
    ordered = sorted(versions, key=lambda version: int(version.tags["link"]))
    left_out = {version.tags[LEFT_OUT]: None for version in ordered if LEFT_OUT in version.tags}
    return [
        *(f"of the text: {line}" for line in left_out),
        *(
            f"step {version.tags['lm_step']}: {version.tags[WARNINGS]}"
            for version in ordered
            if version.tags.get(WARNINGS)
        ),
        *lacking,
    ]


def history(client: MlflowClient, chain_name: str, version: int) -> pd.DataFrame:
    """Every held-out evaluation of a link while it trained: one row each, by `tokens`."""
    found = client.get_model_version(chain_name, str(version))
    series = {}
    for name in client.get_run(str(found.run_id)).data.metrics:
        points = client.get_metric_history(str(found.run_id), name)
        series[name] = pd.Series({point.step: point.value for point in points})
    if "ce_loss_spliced" in series and "nats_lost" not in series:
        series["nats_lost"] = series["ce_loss_spliced"] - series["ce_loss"]
    return pd.DataFrame(series).rename_axis("tokens").reset_index()
