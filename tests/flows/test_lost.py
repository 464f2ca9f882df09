"""Runs whose worker is gone go back to the pool; those of living workers are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.states import Cancelling, Pending, Running

from flows import lost
from flows.track import track

ALPHA, BETA, GONE = "alpha.gpu0", "beta.gpu0", "gone.gpu0"


@pytest.fixture(scope="module")
def client(harness: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=lost.POOL, type="process"))
        yield client


@pytest.fixture
def deployment(client: SyncPrefectClient, request: pytest.FixtureRequest) -> UUID:
    name = str(abs(hash(request.node.name)))
    flow_id = client.create_flow(track)
    return client.create_deployment(
        flow_id, name, work_pool_name=lost.POOL, enforce_parameter_schema=False
    )


@pytest.fixture
def online(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpha and beta are; the one that is gone was."""
    for name in (ALPHA, BETA, GONE):
        client.send_worker_heartbeat(lost.POOL, name, heartbeat_interval_seconds=30)
    read = SyncPrefectClient.read_workers_for_work_pool

    def as_if_gone(*args: Any, **kwargs: Any) -> Any:
        workers = read(*args, **kwargs)
        for worker in workers:
            if worker.name == GONE:
                worker.status = WorkerStatus.OFFLINE
        return workers

    monkeypatch.setattr(SyncPrefectClient, "read_workers_for_work_pool", as_if_gone)


def begin(
    client: SyncPrefectClient, deployment: UUID, worker: str, state: Any = None, pid: str = "999999"
) -> FlowRun:
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, state or Running(), force=True)
    if worker:
        client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
    if pid:
        client.update_flow_run(run.id, infrastructure_pid=pid)
    return run


def names(client: SyncPrefectClient, *runs: FlowRun) -> list[str]:
    return [str(client.read_flow_run(run.id).state_name) for run in runs]


@pytest.mark.usefixtures("online")
def test_the_first_worker_takes_up_what_a_lost_one_left(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    left = begin(client, deployment, GONE)
    cancelled = begin(client, deployment, GONE, Cancelling())
    of_others = [begin(client, deployment, BETA), begin(client, deployment, BETA, Pending())]
    starting = begin(client, deployment, ALPHA, Pending(), pid="")
    unsigned = begin(client, deployment, "", Pending(), pid="")

    lost.recover_lost_runs(BETA)  # not the first
    assert names(client, left) == ["Running"]
    lost.recover_lost_runs(ALPHA)
    assert names(client, left, cancelled) == ["AwaitingRetry", "Cancelled"]
    assert names(client, *of_others) == ["Running", "Pending"], "their worker lives"
    assert names(client, starting, unsigned) == ["Pending", "Pending"], "about to start"


@pytest.mark.usefixtures("online")
def test_a_new_worker_takes_up_what_its_predecessor_left(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    left = [begin(client, deployment, BETA), begin(client, deployment, BETA, Pending(), pid="")]
    of_others = begin(client, deployment, ALPHA)
    lost.recover_lost_runs(BETA, is_new=True)
    assert names(client, *left) == ["AwaitingRetry", "AwaitingRetry"]
    assert names(client, of_others) == ["Running"]


@pytest.mark.usefixtures("online")
def test_a_run_that_outlived_its_worker_goes_on(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    survivor = begin(client, deployment, GONE, pid="")
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": str(survivor.id)}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its environment is in place
        other = begin(client, deployment, GONE, pid=str(process.pid))  # of this number, elsewhere
        client.update_flow_run(survivor.id, infrastructure_pid=str(process.pid))
        lost.recover_lost_runs(ALPHA)
        assert names(client, survivor, other) == ["Running", "AwaitingRetry"]
        process.communicate(b"\n")
    lost.recover_lost_runs(ALPHA)
    assert names(client, survivor) == ["AwaitingRetry"]


@pytest.mark.usefixtures("online")
def test_a_run_that_takes_its_worker_down_each_time_ends(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "ATTEMPTS", 2)
    run = begin(client, deployment, GONE)
    lost.recover_lost_runs(ALPHA)
    client.set_flow_run_state(run.id, Running(), force=True)
    lost.recover_lost_runs(ALPHA)
    assert names(client, run) == ["Crashed"]


@pytest.mark.usefixtures("online")
def test_what_was_stopped_with_its_machine_stays_stopped(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    here, elsewhere = begin(client, deployment, ALPHA), begin(client, deployment, BETA)
    lost.crash_runs_of("alpha")
    assert names(client, here, elsewhere) == ["Crashed", "Running"]
