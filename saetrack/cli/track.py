"""`saetrack track NAME-OR-FILE`: train a chain here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saetrack.chain.presets import parse_changes
from saetrack.cli.config_files import read_config
from saetrack.cli.options import AsJson, Changes, Quiet, TrackName, Verbose
from saetrack.cli.terminal import leads, log_to_stderr, resumable, say

if TYPE_CHECKING:
    from saetrack.chain.config import TrackConfig
    from saetrack.training.prepare import PreparedTrack


def track(
    name: TrackName,
    changes: Changes = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a track: one chain of SAEs per layer, a link for each checkpoint of an LM.

    What is registered already is not trained again, so a rerun of a finished track changes nothing
    and a rerun of a stopped one goes on. `saetrack plan` says beforehand what a track costs.

    ```sh
    saetrack track mini
    saetrack track mini --set seed=1 --set layers=[1,2]
    saetrack track my.yaml
    torchrun --standalone --nproc-per-node 2 -m saetrack.cli track mini
    ```
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    values = read_config("track", name, parse_changes(changes or []))
    from saetrack.chain.config import load_config

    n_trained, prepared = train_here(load_config(values))
    if leads():  # of several processes the others have no part in the registry
        say(_result(n_trained, prepared), _text(n_trained, prepared), as_json=as_json)


def train_here(config: TrackConfig) -> tuple[int, PreparedTrack]:
    """Train what the registry lacks of a track; how many links, and the track.

    Raises:
        UserError: something is out of reach, or asks for what does not exist.
        Stopped: on Ctrl-C.
    """
    from saetrack.chain.compatibility import find_suitable_lm
    from saetrack.utils.settings import load_settings

    find_suitable_lm(config)  # before what takes seconds to load
    settings = load_settings()
    from saetrack.training.loop import train_missing

    saved = (
        "finished links are registered, the one in training is saved every "
        f"{config.save_every_s:g} s"
    )
    with resumable(saved):
        return train_missing(config, settings)


def _result(n_trained: int, prepared: PreparedTrack) -> dict[str, Any]:
    chains = [
        {
            "name": chain.name,
            "lm": chain.lm_name,
            "layer": chain.layer,
            "hook_name": chain.hook_name,
            "links": len(chain.links),
        }
        for chain in prepared.track.chains
    ]
    return {"trained_links": n_trained, "chains": chains}


def _text(n_trained: int, prepared: PreparedTrack) -> str:
    from saetrack.utils.figures.text_tables import report

    tables = [report(prepared.registry.table(chain), chain.name) for chain in prepared.track.chains]
    look = f"saetrack show {prepared.track.chains[0].name}"
    return "\n\n".join([*tables, f"{prepared.summary(n_trained)}\nlook at it: {look}"])
