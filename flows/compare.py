"""Chains beside conventional SAEs or a crosscoder, or kinds of SAE side by side."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.logs import state_in_one_line, tell_failures_in_one_line
from flows.parameters import parameters_of, takes_fields_of
from flows.track import train_missing
from saetrack.analysis.pipeline.config import CompareConfig, load_compare_config
from saetrack.utils.settings import load_settings

tell_failures_in_one_line()


@flow(name="compare", validate_parameters=False)
@takes_fields_of(CompareConfig)
def compare(**parameters: Any) -> State:
    """Train what is missing of the chains that are compared, and hold them against each other.

    The parameters are a preset and the fields of `CompareConfig` that are other than the preset has
    them. A user's mistake fails the run with one line.
    """
    return state_in_one_line(
        lambda: run_comparison(load_compare_config(parameters_of("compare", parameters)))
    )


def run_comparison(config: CompareConfig) -> str:
    """One comparison per hook, each a run in MLflow; what came of it."""
    prepared = [train_missing(one)[1] for one in config.all_tracks()]
    if config.crosscoder is not None:
        from saetrack.training.crosscoder import train_crosscoders

        train_task = task(name="train crosscoders", cache_policy=NO_CACHE)(train_crosscoders)
        train_task(prepared[-len(config.seeds) :], config.crosscoder)
    from saetrack.analysis.pipeline.compare import compare_trained

    compare_task = task(name="compare", cache_policy=NO_CACHE)(compare_trained)
    return "; ".join(compare_task(config, [one.track for one in prepared], load_settings()))
