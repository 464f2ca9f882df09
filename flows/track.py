"""The track: prepare, then one task per checkpoint."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.logs import state_in_one_line, tell_failures_in_one_line
from flows.parameters import parameters_of, takes_fields_of
from saetrack.chain.config import TrackConfig, load_config
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings

if TYPE_CHECKING:
    from saetrack.training.prepare import PreparedTrack

log = logging.getLogger("saetrack")
tell_failures_in_one_line()


def run_name() -> str:
    """A run as a person names it."""
    try:
        values = parameters_of("track", flow_run.parameters)
    except UserError:
        values = {}
    given = (f"{name} {values[name]}" for name in ("layers", "hooks") if values.get(name))
    return " ".join((str(values.get("model")), *given))


# The config validates itself, in one line; Prefect's own validation would print a page.
@flow(name="track", flow_run_name=run_name, validate_parameters=False)
@takes_fields_of(TrackConfig)
def track(**parameters: Any) -> State:
    """Train every link that the registry lacks, and bring the chains' pages up to date.

    The parameters are a preset and the fields of `TrackConfig` that are other than the preset has
    them. A user's mistake fails the run with one line.
    """
    return state_in_one_line(lambda: run_track(load_config(parameters_of("track", parameters))))


def run_track(config: TrackConfig) -> str:
    """A track, and a table of each of its chains; what came of it."""
    from saetrack.utils.figures.text_tables import report

    n_trained, prepared = train_missing(config)
    chains = prepared.track.chains
    for chain in chains:
        log.info("\n%s\n", report(prepared.registry.table(chain), chain.name))
    return prepared.summary(n_trained)


def train_missing(config: TrackConfig) -> tuple[int, PreparedTrack]:
    """As `saetrack.training.loop.train_missing`, each checkpoint a task."""
    # Heavy libraries load only once the parameters are known to be sound.
    from saetrack.training.loop import (
        PendingCheckpoint,
        breaking_off,
        pending_checkpoints,
        update_chain_pages,
    )
    from saetrack.training.prepare import prepare, wait_until_grown

    prepare_task = task(name="prepare", cache_policy=NO_CACHE)(prepare)
    train_task = task(name="links", cache_policy=NO_CACHE)(PendingCheckpoint.train)
    n_trained = 0
    with breaking_off() as begun:
        while True:
            prepared = prepare_task(config, load_settings())
            begun.append(prepared)
            for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
                n_trained += train_task.with_options(task_run_name=pending.label)(pending)
            update_chain_pages(prepared, n_trained)
            if not wait_until_grown(prepared):
                return n_trained, prepared
