"""The paper's analyses of a registered chain."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.logs import state_in_one_line, tell_failures_in_one_line
from flows.parameters import parameters_of, takes_fields_of
from saetrack.analysis.pipeline.config import AnalyzeConfig, load_analyze_config
from saetrack.utils.settings import load_settings

tell_failures_in_one_line()


@flow(name="analyze", validate_parameters=False)
@takes_fields_of(AnalyzeConfig)
def analyze(**parameters: Any) -> State:
    """Read a registered chain by version; tables, figures and numbers go to a run in MLflow.

    The parameters are a preset and the fields of `AnalyzeConfig` that are other than the preset has
    them. A user's mistake fails the run with one line.
    """
    return state_in_one_line(
        lambda: run_analysis(load_analyze_config(parameters_of("analyze", parameters)))
    )


def run_analysis(config: AnalyzeConfig) -> str:
    """One analysis per chain, each checkpoint a task, and a page of all; what was done."""
    from saetrack.analysis.pipeline.analyze import analyze as analyze_chain
    from saetrack.analysis.pipeline.registered_chain import registered_chains
    from saetrack.analysis.pipeline.side_by_side import lay_side_by_side
    from saetrack.analysis.pipeline.study import Study

    settings = load_settings()
    ask = task(name="answers", cache_policy=NO_CACHE)(Study.answers)

    def ask_one(study: Any, link: Any) -> Any:
        name = f"answers · step {link.checkpoint.lm_step}"
        return ask.with_options(task_run_name=name)(study, link)

    analysed = [
        analyze_chain(config, settings, one, ask_one) for one in registered_chains(config, settings)
    ]
    done = [one.done for one in analysed]
    if len(analysed) > 1:
        done.append(lay_side_by_side(config, analysed))
    return "; ".join(done)
