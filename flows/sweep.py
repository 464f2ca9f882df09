"""Many tracks at once, over workers or a task runner."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.logs import state_in_one_line, tell_failures_in_one_line
from flows.parameters import parameters_of, takes_fields_of
from flows.track import run_track
from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.sweep import SweepConfig, load_sweep_config
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash
from saetrack.utils.settings import Settings, load_settings

tell_failures_in_one_line()

ONE = "track/one"  # the deployment that takes any track


@flow(name="sweep", validate_parameters=False)
@takes_fields_of(SweepConfig)
def sweep(**parameters: Any) -> State:
    """Train every combination of what is varied, each as a run of its own.

    The parameters are a preset and the fields of `SweepConfig` that are other than the preset has
    them; where the tracks run is a setting, `SAETRACK_RUNNER`. A user's mistake fails the run with
    one line.
    """
    return state_in_one_line(
        lambda: run_sweep(load_sweep_config(parameters_of("sweep", parameters)), load_settings())
    )


def run_sweep(config: SweepConfig, settings: Settings) -> str:
    """All tracks of a sweep; what came of it."""
    config.require_lms()
    tracks = config.titled_tracks()
    if settings.runner == "workers":
        return hand_out(tracks)
    from saetrack.registry import Registry

    Registry(settings)  # made by one process, before several would; a wrong address shows here
    failed = fan_out.with_options(task_runner=task_runner(settings))(tracks)
    if failed:
        title, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(tracks)} tracks failed; {title}: {reason}")
    return f"{len(tracks)} tracks are whole"


def hand_out(tracks: dict[str, TrackConfig]) -> str:
    """Leave every track to the workers and wait for none: this run holds no worker's slot.

    Started again, as a lost run is, it makes no track twice.
    """
    sweep_id = str(flow_run.id)
    for title, track in tracks.items():
        parameters = track.model_dump(mode="json")
        try:
            run_deployment(
                ONE,
                parameters=parameters,
                flow_run_name=title,
                tags=[f"sweep:{flow_run.name}"],
                idempotency_key=content_hash([sweep_id, parameters]),
                as_subflow=False,
                timeout=0,
            )
        except ObjectNotFound:
            raise UserError(f"{ONE}: not deployed on this server; `make deploy` does it") from None
    return f"{len(tracks)} tracks handed to the workers: runs tagged sweep:{flow_run.name}"


@flow(name="tracks", validate_parameters=False)
def fan_out(tracks: dict[str, TrackConfig]) -> dict[str, str]:
    """Every track as a task of this flow's task runner; why some failed, by title."""
    one = task(name="one", cache_policy=NO_CACHE)(train_one)
    futures = {
        title: one.with_options(task_run_name=title).submit(track.model_dump(mode="json"))
        for title, track in tracks.items()
    }
    for future in futures.values():
        future.wait()
    states = {title: future.state for title, future in futures.items()}
    return {title: f"{one.message}" for title, one in states.items() if not one.is_completed()}


def train_one(parameters: dict[str, Any]) -> State:
    """One track, in whichever process the task runner has chosen."""
    return state_in_one_line(lambda: run_track(load_config(parameters)))


def task_runner(settings: Settings) -> TaskRunner[Any]:
    """Prefect's task runner of the settings.

    Raises:
        UserError: its package is not installed.
    """
    address = settings.runner_address
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)
    try:
        if settings.runner == "dask":
            from prefect_dask import DaskTaskRunner

            runner = DaskTaskRunner(address=address)
        if settings.runner == "ray":
            from prefect_ray import RayTaskRunner

            runner = RayTaskRunner(address=address)
    except ImportError:
        raise UserError(
            f"SAETRACK_RUNNER={settings.runner!r}: prefect-{settings.runner} is not installed; "
            f"pip install 'saetrack[{settings.runner}]'"
        ) from None
    return runner
