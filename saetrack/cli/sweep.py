"""`saetrack sweep NAME-OR-FILE`: many tracks, one after another."""

from __future__ import annotations

import logging
from typing import Any

from saetrack.chain.presets import parse_changes
from saetrack.cli.config_files import read_config
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
    log_to_stderr(quiet=quiet, verbose=verbose)
    values = read_config("sweep", name, parse_changes(changes or []))
    from saetrack.chain.sweep import load_sweep_config

    sweep_config = load_sweep_config(values)
    sweep_config.require_lms()
    tracks = sweep_config.titled_tracks()
    trained: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for number, (title, config) in enumerate(tracks.items(), start=1):
        log.info("track %d of %d: %s", number, len(tracks), title)
        try:
            n_trained, prepared = train_here(config)
        except UserError as error:
            failed[title] = str(error)
            log.warning("%s failed: %s", title, error)
            continue
        names = [chain.name for chain in prepared.track.chains]
        trained[title] = {"trained_links": n_trained, "chains": names}
    if failed:
        title, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(tracks)} tracks failed; {title}: {reason}")
    lines = [f"{title}: {', '.join(one['chains'])}" for title, one in trained.items()]
    if leads():
        say(trained, "\n".join([*lines, f"{len(tracks)} tracks are whole"]), as_json=as_json)
