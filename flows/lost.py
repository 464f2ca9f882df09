"""Runs whose worker is gone but which Prefect still counts as running."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.states import AwaitingRetry, Cancelled, Crashed

log = logging.getLogger("saetrack")

POOL = "saetrack"
ATTEMPTS = 5  # a run that takes its worker down each time must end
GRACE_S = 60.0  # within which a worker itself tells of a run that died
NAMELESS_S = 120.0  # within which a worker signs a run that it took

OPEN_RUNS = FlowRunFilter.model_validate(
    {
        "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}},
        "deployment_id": {"is_null_": False},
    }
)


def recover_lost_runs(worker: str, *, is_new: bool = False) -> None:
    """Put runs whose worker is gone back in the pool: whichever worker is free goes on with them.

    A worker reports a run that dies under it. When both die (SIGKILL, power), the run stays Running
    and its slot taken, and every later run of the deployment would be cancelled. Each worker looks
    after its own runs, of its predecessor by the same name too; of those online, the first in the
    alphabet after the runs of workers that Prefect calls offline. Should two do it at once, both
    runs share the chain link by link (saetrack.registry.claims).

    Args:
        worker: whose name is this, unique in the pool.
        is_new: it has not taken a run yet, so that none of its name can be about to start.
    """
    with get_client(sync_client=True) as client:
        online = {
            other.name
            for other in client.read_workers_for_work_pool(POOL)
            if other.status == WorkerStatus.ONLINE
        }
        is_first = worker <= min(online, default=worker)
        busy = set()
        for run in client.read_flow_runs(flow_run_filter=OPEN_RUNS):
            owner = str(run.labels.get("prefect.worker.name", ""))
            if owner == worker:
                is_lost = is_new or (bool(run.infrastructure_pid) and _age_s(run) > GRACE_S)
            elif owner:
                is_lost = is_first and owner not in online
            else:
                is_lost = is_first and _age_s(run) > NAMELESS_S
            if is_lost and not _is_alive_here(run):
                _settle(client, run)
            else:
                busy.add(run.deployment_id)
        if is_first:
            _free_slots(client, busy)


def crash_runs_of(machine: str) -> None:
    """Mark what a machine's workers left behind Crashed: they were stopped, and so are the runs."""
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=OPEN_RUNS):
            owner = str(run.labels.get("prefect.worker.name", ""))
            if owner.partition(".gpu")[0] == machine and not _is_alive_here(run):
                _set(client, run, Crashed(message="its worker was stopped"))


def _settle(client: SyncPrefectClient, run: FlowRun) -> None:
    if run.state is not None and run.state.is_cancelling():
        _set(client, run, Cancelled(message="its worker is gone"))
    elif run.run_count >= ATTEMPTS:
        _set(client, run, Crashed(message=f"its worker is gone, for the {run.run_count}th time"))
    else:
        _set(client, run, AwaitingRetry(message="its worker is gone; another one goes on with it"))


def _set(client: SyncPrefectClient, run: FlowRun, state: State[None]) -> None:
    client.set_flow_run_state(run.id, state, force=True)
    log.info("run %s, now %s: %s", run.name, state.name, state.message)


def _age_s(run: FlowRun) -> float:
    """How long ago its state was set."""
    assert run.state is not None
    return (datetime.now(UTC) - run.state.timestamp).total_seconds()


def _is_alive_here(run: FlowRun) -> bool:
    """Whether the run has a process on this machine, with or without its worker."""
    pid = run.infrastructure_pid or ""
    if not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        # Numbers are used again, on other machines too.
        return not is_zombie and process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
    except psutil.Error:
        return False


def _free_slots(client: SyncPrefectClient, busy: set[UUID | None]) -> None:
    """A slot outlives its run if the server died too, which keeps the leases."""
    for deployment in client.read_deployments():
        limit = deployment.global_concurrency_limit
        if limit and limit.active_slots and deployment.id not in busy:
            client.request(
                "PATCH",
                "/v2/concurrency_limits/{id_or_name}",
                path_params={"id_or_name": limit.id},
                json={"active_slots": 0},
            )


def keep_watch(worker: str, every_s: float) -> None:
    """Recover lost runs now and then, for as long as the worker lives."""
    while True:
        time.sleep(every_s)
        try:
            recover_lost_runs(worker)
        except Exception as error:  # the server is away for a moment; so is the worker's own work
            log.warning("lost runs cannot be looked for: %s", type(error).__name__)
