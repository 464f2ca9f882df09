"""The track: prepare, then one task per missing link. Run it with `python -m flows.track NAME`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows.logs import log_to_terminal
from flows.parameters import deployed_parameters, takes_fields_of
from flows.server import prefect_server
from saetrack.config import TrackConfig, load_config
from saetrack.errors import UserError
from saetrack.settings import load_settings

log = logging.getLogger("saetrack")


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
        return Failed(message=str(error))


def run_track(config: TrackConfig) -> str:
    """The track as tasks; what came of it."""
    # Heavy libraries load only once the parameters are known to be sound.
    from saetrack.chain import run_chain
    from saetrack.link import run_link
    from saetrack.prepare import prepare
    from saetrack.report import report

    ready = task(prepare, cache_policy=NO_CACHE)(config, load_settings())
    link_task = task(run_link, name="link", cache_policy=NO_CACHE)

    def run(chain: Any, link: Any, *rest: Any) -> int:
        return link_task.with_options(task_run_name=chain.label(link))(chain, link, *rest)

    trained = run_chain(ready.chain, ready.source, ready.registry, ready.device, run)
    if trained or not ready.registry.is_finished(ready.chain):
        ready.registry.finish(ready.chain)
    log.info("%s", report(ready.registry.table(ready.chain), ready.chain.name))
    return f"{trained} links trained, {len(ready.chain.links)} registered as {ready.chain.name}"


def main(deployment: str) -> int:
    """Run a deployment's track in this process; the exit status."""
    log_to_terminal()
    try:
        parameters = deployed_parameters(deployment)
        load_config(parameters)
        load_settings()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with prefect_server():
        state = track(**parameters, return_state=True)
    if not state.is_completed():
        print(f"error: {state.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "mini"))
