"""The track: prepare, then one task per checkpoint. Run it with `python -m flows.track NAME`."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.logs import tell_failures_in_one_line
from flows.parameters import deployed_parameters, takes_fields_of
from flows.terminal import run_here, told_in_one_line
from saetrack.chain.config import TrackConfig, load_config
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings

if TYPE_CHECKING:
    from saetrack.training.prepare import PreparedTrack

log = logging.getLogger("saetrack")
tell_failures_in_one_line()


# The config validates itself, in one line; Prefect's own validation would print a page.
@flow(name="track", flow_run_name="{model} layers {layers}", validate_parameters=False)
@takes_fields_of(TrackConfig)
def track(**parameters: Any) -> State:
    """Train every link that the registry lacks, and bring the chains' pages up to date.

    The parameters are the fields of `TrackConfig`. A user's mistake fails the run with one line.
    """
    return told_in_one_line(lambda: run_track(load_config(parameters)))


def run_track(config: TrackConfig) -> str:
    """A track, and a table of each of its chains; what came of it."""
    from saetrack.figures.text_tables import report

    n_trained, prepared = train_missing(config)
    chains = prepared.track.chains
    for chain in chains:
        log.info("\n%s\n", report(prepared.registry.table(chain), chain.name))
    n_registered = sum(len(chain.links) for chain in chains)
    names = ", ".join(chain.name for chain in chains)
    return f"{n_trained} links trained, {n_registered} registered as {names}"


def train_missing(config: TrackConfig) -> tuple[int, PreparedTrack]:
    """As `saetrack.training.loop.train_missing`, each checkpoint a task."""
    # Heavy libraries load only once the parameters are known to be sound.
    from saetrack.training.loop import PendingCheckpoint, pending_checkpoints, update_chain_pages
    from saetrack.training.prepare import prepare, wait_until_grown

    prepare_task = task(name="prepare", cache_policy=NO_CACHE)(prepare)
    train_task = task(name="links", cache_policy=NO_CACHE)(PendingCheckpoint.train)
    n_trained = 0
    while True:
        prepared = prepare_task(config, load_settings())
        for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
            train_task.with_options(task_run_name=pending.label)(pending)
            n_trained += pending.n_links
        update_chain_pages(prepared, n_trained)
        if not wait_until_grown(prepared):
            return n_trained, prepared


def assist(name: str) -> int:
    """Take part in a track whose flow runs in another process of the same `torchrun`."""
    log.setLevel(logging.ERROR)  # the other one tells how it goes
    from saetrack.training.loop import train_missing as train_here

    try:
        train_here(load_config(deployed_parameters("track", name)), load_settings())
    except UserError as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "mini"
    leads = os.environ.get("RANK", "0") == "0"  # torchrun's
    sys.exit(run_here(track, load_config, chosen) if leads else assist(chosen))
