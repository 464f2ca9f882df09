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
from saetrack.config import TrackConfig, load_config
from saetrack.errors import UserError
from saetrack.settings import load_settings

if TYPE_CHECKING:
    from saetrack.prepare import Prepared

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
    trained, ready = train_missing(config)
    chains = ready.track.chains
    from saetrack.report import report

    for chain in chains:
        log.info("\n%s\n", report(ready.registry.table(chain), chain.name))
    registered = sum(len(chain.links) for chain in chains)
    names = ", ".join(chain.name for chain in chains)
    return f"{trained} links trained, {registered} registered as {names}"


def train_missing(config: TrackConfig) -> tuple[int, Prepared]:
    """A track as tasks, one per checkpoint; how many links were trained."""
    # Heavy libraries load only once the parameters are known to be sound.
    from saetrack.chain import run_track as run_all
    from saetrack.prepare import follow, prepare
    from saetrack.stage import run_stage

    stage_task = task(name="links", cache_policy=NO_CACHE)(run_stage)

    def run(stage: Any, *rest: Any) -> None:
        chain, link = stage.links[0]
        name = f"{config.direction} s{config.seed} · {chain.label(link)}"
        stage_task.with_options(task_run_name=name)(stage, *rest)

    trained = 0
    for ready in follow(config, load_settings(), task(cache_policy=NO_CACHE)(prepare)):
        missing = run_all(ready.track, ready.source, ready.workshop, run)
        trained += missing
        for chain in ready.track.chains:
            if missing or not ready.registry.is_finished(chain):
                ready.registry.finish(chain)
    return trained, ready


def assist(name: str) -> int:
    """Take part in a track whose flow runs in another process of the same `torchrun`."""
    log.setLevel(logging.ERROR)  # the other one tells how it goes
    from saetrack.chain import run_track as run_all
    from saetrack.prepare import prepare

    try:
        ready = prepare(load_config(deployed_parameters("track", name)), load_settings())
        run_all(ready.track, ready.source, ready.workshop)
    except UserError as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "mini"
    leads = os.environ.get("RANK", "0") == "0"  # torchrun's
    sys.exit(run_here(track, load_config, chosen) if leads else assist(chosen))
