"""Features of an analysed chain explained in words, and judged at every link."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.logs import state_in_one_line, tell_failures_in_one_line
from flows.parameters import takes_fields_of
from saetrack.analysis.explanations.config import ExplainConfig, explain_config
from saetrack.utils.settings import load_settings

tell_failures_in_one_line()


@flow(name="explain", validate_parameters=False)
@takes_fields_of(ExplainConfig, with_preset=False)
def explain(**parameters: Any) -> State:
    """Explain features, and register what they mean and at which links that is true.

    The parameters are the fields of `ExplainConfig`. The endpoint and its key are settings of the
    worker, and no parameters: these are shown on the run's page.
    """
    return state_in_one_line(lambda: run_explanation(explain_config(parameters)))


def run_explanation(config: ExplainConfig) -> str:
    """As `saetrack explain`; all answers are one task."""
    from saetrack.analysis.pipeline.explain import Explaining, open_explaining

    run = task(name="explain", cache_policy=NO_CACHE)(Explaining.run)
    return run(open_explaining(config, load_settings()))
