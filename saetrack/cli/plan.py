"""`saetrack plan NAME-OR-FILE`: what a track would do and cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from saetrack.chain.presets import parse_changes
from saetrack.cli.config_files import read_config
from saetrack.cli.options import AsJson, Changes, TrackName
from saetrack.cli.terminal import log_problems, say

if TYPE_CHECKING:
    from saetrack.chain.adaptive import Choice
    from saetrack.chain.config import TrackConfig
    from saetrack.training.forecast import Forecast


def plan(name: TrackName, changes: Changes = None, as_json: AsJson = False) -> None:
    """Say what a track would do, and what it would take; train and download nothing.

    Mistakes in the parameters are found as `saetrack track` would find them. So a text of this
    machine that may be too short is tokenised, for the track to find. Hours are those of this
    machine, by a product that is timed for half a second; what else runs here makes them more.

    ```sh
    saetrack plan pythia-410m
    saetrack plan my.yaml --set d_sae=8192
    ```
    """
    log_problems()
    values = read_config("track", name, parse_changes(changes or []))
    from saetrack.chain.compatibility import find_suitable_lm
    from saetrack.chain.config import load_config
    from saetrack.utils.settings import load_settings

    config = load_config(values)
    find_suitable_lm(config)  # before what takes seconds to load
    settings = load_settings()
    from saetrack.chain.adaptive import known_choice
    from saetrack.chain.schedule import Adaptive
    from saetrack.training.forecast import forecast

    found = forecast(config, settings)
    choice = None
    if isinstance(config.schedule, Adaptive):
        choice = known_choice(config, settings.cache_dir)
    say(
        {
            **asdict(found),
            "chosen_lm_steps": None if choice is None else choice.lm_steps,
        },
        _text(config, found, choice),
        as_json=as_json,
    )


def _text(config: TrackConfig, found: Forecast, choice: Choice | None) -> str:
    from saetrack.data.datasets import describe_dataset

    order = f", {found.order}" if found.order else ""
    at_most = "" if found.registered_is_exact else "at most "
    facts = {
        "track": f"{config.model}, {config.hooks_text}, {config.direction}, d_sae {config.d_sae:,}",
        "links": f"{found.links} over {found.checkpoints} checkpoints{order}; {at_most}"
        f"{found.registered_links} of them are registered",
        **_choice(config, choice),
        "text": describe_dataset(config.corpus),
        "training tokens": f"{_up_to(config)}{found.train_tokens:,}; text of "
        f"{config.corpus.train_tokens:,}",
        **_costs(found, ", for all links" if found.registered_links else ""),
    }
    lines = [*facts.items(), *(("warning", line) for line in found.warnings)]
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:{width}}  {fact}" for label, fact in lines)


def _choice(config: TrackConfig, choice: Choice | None) -> dict[str, str]:
    """Of an adaptive schedule, what was chosen, or how it will be."""
    if config.pieces:
        return {}
    if choice is None:
        return {"schedule": "chosen before the first link, by one pass over all candidates"}
    steps = ", ".join(f"{lm_step:,}" for lm_step in choice.lm_steps)
    return {
        "schedule": f"LM steps {steps}; at most {max(choice.lost_variance):.2f} of the "
        "variance moves between two"
    }


def _up_to(config: TrackConfig) -> str:
    from saetrack.chain.budget import Plateau
    from saetrack.chain.schedule import Adaptive

    schedule = config.schedule
    pieces = [schedule] if isinstance(schedule, Adaptive) else schedule
    return "at most " if any(isinstance(piece.tokens, Plateau) for piece in pieces) else ""


def _costs(found: Forecast, of_all: str = "") -> dict[str, str]:
    if found.memory_bytes is None:
        return {"cost": "not known before a config.json of the LM is here, which training fetches"}
    assert found.download_bytes is not None
    assert found.registry_bytes is not None
    assert found.state_bytes is not None
    assert found.hours is not None
    assert found.product_rate is not None
    download = f"up to {_gigabytes(found.download_bytes)} of checkpoints, less what is here already"
    return {
        "downloads": download if found.download_bytes else "none",
        "disk": f"{_gigabytes(found.registry_bytes)} in the registry; "
        f"{_gigabytes(found.state_bytes)} while a checkpoint trains",
        "memory": f"about {_gigabytes(found.memory_bytes)}",
        "time": f"{_hours(found.hours)} to {_hours(2 * found.hours)}, at "
        f"{found.product_rate / 1e9:,.0f} billion multiply-adds a second{of_all}",
    }


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB"


def _hours(hours: float) -> str:
    from saetrack.utils.progress import duration

    return duration(hours * 3600)
