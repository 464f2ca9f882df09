"""Runs whose process is gone but which Prefect still counts as running."""

from __future__ import annotations

import logging
import subprocess
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed

log = logging.getLogger("saetrack")

OPEN_RUNS = FlowRunFilter.model_validate(
    {
        "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}},
        "deployment_id": {"is_null_": False},
    }
)


def crash_lost_runs() -> None:
    """Mark lost runs Crashed and free their concurrency slots; call it while no worker runs.

    A worker reports a run that dies under it. When both die (SIGKILL, power), the run stays Running
    and its slot taken, and every later run of the deployment would be cancelled.
    """
    with get_client(sync_client=True) as client:
        busy = set()
        for run in client.read_flow_runs(flow_run_filter=OPEN_RUNS):
            if _is_alive(run):
                busy.add(run.deployment_id)
                continue
            lost: State[None] = Crashed(message="the run's process is gone")
            client.set_flow_run_state(run.id, lost, force=True)
            log.info("run %s: its process is gone, now Crashed", run.name)
        _free_slots(client, busy)


def _is_alive(run: FlowRun) -> bool:
    """Whether the run's process lives; its command guards against a reused number."""
    pid = run.infrastructure_pid or ""
    if not pid.isdigit():
        return False
    command = ["ps", "-p", pid, "-o", "command="]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return "prefect" in listed.stdout


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
