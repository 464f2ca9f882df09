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
    """As `saetrack.analysis.pipeline.analyze.analyze_chains`, each checkpoint a task."""
    from saetrack.analysis.pipeline.analyze import (
        checkpoints_to_read,
        finish_analysis,
        open_analyses,
        read_pending,
    )
    from saetrack.analysis.pipeline.several_chains import lines_of_several

    analyses = open_analyses(config, load_settings())
    read_task = task(name="read", cache_policy=NO_CACHE)(read_pending)
    lines = []
    for analysis in [*analyses.chains, *analyses.replicates]:
        for pending in checkpoints_to_read(analysis):
            read_task.with_options(task_run_name=pending.label)(pending)
        lines.append(finish_analysis(analysis))
    return "; ".join(lines + lines_of_several(analyses.chains, analyses.replicates))
