"""The track: prepare, then one task per missing link. Run it with `python -m flows.track NAME`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.logs import log_to_terminal, tell_failures_in_one_line
from flows.parameters import deployed_parameters, takes_fields_of
from flows.server import prefect_server
from saetrack.config import TrackConfig, load_config
from saetrack.errors import UserError
from saetrack.settings import load_settings

log = logging.getLogger("saetrack")
tell_failures_in_one_line()


# The config validates itself, in one line; Prefect's own validation would print a page.
@flow(name="track", flow_run_name="{model} layer {layer}", validate_parameters=False)
@takes_fields_of(TrackConfig)
def track(**parameters: Any) -> State:
    """Train every link of a chain that the registry lacks, and bring the chain's page up to date.

    The parameters are the fields of `TrackConfig`. A user's mistake fails the run with one line.
    """
    try:
        return Completed(message=run_track(load_config(parameters)))
    except UserError as error:
        # In the name as well: `--watch` prints a state's name only.
        return Failed(name=f"Failed: {error}", message=str(error))


def run_track(config: TrackConfig) -> str:
    """The track as tasks; what came of it."""
    # Heavy libraries load only once the parameters are known to be sound.
    from saetrack.chain import run_chain
    from saetrack.link import run_link
    from saetrack.prepare import prepare
    from saetrack.report import report

    ready = task(cache_policy=NO_CACHE)(prepare)(config, load_settings())
    link_task = task(name="link", cache_policy=NO_CACHE)(run_link)

    def run(chain: Any, link: Any, *rest: Any) -> int:
        named = link_task.with_options(task_run_name=chain.label(link))
        version: int = named(chain, link, *rest)
        return version

    trained = run_chain(ready.chain, ready.source, ready.registry, ready.device, run)
    if trained or not ready.registry.is_finished(ready.chain):
        ready.registry.finish(ready.chain)
    table = ready.registry.table(ready.chain)
    log.info("\n%s\n", report(table, ready.chain.name))
    return f"{trained} links trained, {len(ready.chain.links)} registered as {ready.chain.name}"


def main(deployment: str) -> int:
    """Run a deployment's track in this process; the exit status."""
    log_to_terminal()
    try:
        parameters = deployed_parameters(deployment)
        load_config(parameters)
        load_settings()
    except UserError as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    with prefect_server():
        state = track(**parameters, return_state=True)
    if not state.is_completed():
        log.error("error: %s", state.message)
        return 1
    log.info("%s", state.message)
    log.info("look at it: make ui, then MLflow's experiment %r", parameters["model"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "mini"))
