"""`saetrack sweep NAME-OR-FILE`: many tracks, one after another."""

from __future__ import annotations

import logging

from saetrack.chain.presets import load_preset, parse_changes
from saetrack.cli.options import AsJson, Changes, Quiet, SweepName, Verbose
from saetrack.cli.terminal import leads, log_to_stderr, say
from saetrack.cli.track import train_here
from saetrack.utils.errors import UserError

log = logging.getLogger("saetrack")


def sweep(
    name: SweepName,
    changes: Changes = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train every combination of what a sweep varies, one track after another.

    A track that fails does not keep the others from being trained. Over several machines, run the
    sweep as a Prefect deployment instead: `prefect deployment run sweep/mini`.

    ```sh
    saetrack sweep mini --set over.seed=[0,1]
    ```
    """
    values = load_preset("sweep", name, parse_changes(changes or []))
    log_to_stderr(quiet=quiet, verbose=verbose)
    from saetrack.chain.sweep import load_sweep_config

    config = load_sweep_config(values)
    config.require_lms()
    tracks = config.titled_tracks()
    chains: dict[str, list[str]] = {}
    failed = {}
    for number, (title, track_config) in enumerate(tracks.items(), start=1):
        log.info("track %d of %d: %s", number, len(tracks), title)
        try:
            _, prepared = train_here(track_config)
        except UserError as error:
            failed[title] = str(error)
            log.warning("%s failed: %s", title, error)
        else:
            chains[title] = [chain.name for chain in prepared.track.chains]
    if failed:
        title, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(tracks)} tracks failed; {title}: {reason}")
    if leads():
        lines = [f"{title}: {', '.join(names)}" for title, names in chains.items()]
        say(chains, "\n".join([*lines, f"{len(tracks)} tracks are whole"]), as_json=as_json)
