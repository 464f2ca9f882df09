"""The paper's claims, each with a verdict, from the newest analyses of the registry."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.logs import state_in_one_line, tell_failures_in_one_line
from saetrack.utils.settings import load_settings

tell_failures_in_one_line()


@flow(name="results")
def results() -> State:
    """Judge the claims by their rules; pages and numbers go to a run in MLflow.

    Where nothing was analysed since the last time, nothing is done. `saetrack results` writes the
    same pages into a folder.
    """
    return state_in_one_line(run_results)


def run_results() -> str:
    """As `saetrack results`; all claims are one task."""
    from saetrack.analysis.pipeline.results import register_results
    from saetrack.registry import Registry

    judge = task(name="judge", cache_policy=NO_CACHE)(register_results)
    return judge(Registry.existing(load_settings()))
