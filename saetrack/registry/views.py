"""Saved views of an LM's experiment: what MLflow's pages show of its chains.

MLflow keeps a saved view as an experiment tag `mlflow.sharedViewState.ID`: JSON with a name and a
`state`, which holds filter, order, columns and charts of the page of runs. Its front end defines
the form, in mlflow/server/js/src/experiment-tracking/components: `savedViewEnvelope.ts` (the tag),
`ExperimentPageUIState.tsx` and `ExperimentPageSearchFacetsState.tsx` (the state) of
`experiment-page`, and `runs-charts/runs-charts.types.ts` (the charts). Tested with MLflow 3.17.2.

A chain's run has one point per link, so its curves show links over tokens; a conventional SAE is a
chain of one link, a single point among them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from saetrack.registry.connection import now_ms

TAG = "mlflow.sharedViewState."
# With it, other releases of MLflow open an experiment at its runs. In 3.17.2 the browser decides:
# by `workflowType` in the address, else by its last choice between "GenAI" (which a new browser
# has) and "Model training". So the note, which both pages show on top, leads to the views.
KIND_TAG = {"mlflow.experimentKind": "custom_model_development"}

NOTE_TAG = "mlflow.note.content"

# Columns in order, with their widths in pixels; a chain's name says hook, direction and seed.
RUN_NAME = {"attributes.`Run Name`": 230}
COLUMNS = {
    "metrics.`explained_variance`": 140,
    "metrics.`l0`": 70,
    "metrics.`dead`": 80,
    "metrics.`ce_loss_recovered`": 140,
    "metrics.`nats_lost`": 90,
    "metrics.`loss`": 80,
    "tags.`hook_name`": 170,
    "tags.`direction`": 95,
    "tags.`seed`": 60,
    "metrics.`chain_tokens`": 110,
    "metrics.`lm_step`": 80,
}
CHART_METRICS = {
    "explained_variance": "Explained variance",
    "ce_loss_recovered": "CE loss recovered",
    "nats_lost": "Nats lost: CE loss with the SAE's output in place, less the LM's own",
    "l0": "L0: active features per token",
    "dead": "Dead features (share)",
    "loss": "Loss",
    "start_explained_variance": "Explained variance before training (the parent's weights)",
}
# By this name MLflow finds the section for charts that it adds of itself: closed, they are out of
# the way and still there.
ADDED_BY_MLFLOW = "Model metrics"


@dataclass(frozen=True)
class View:
    """One saved view.

    Attributes:
        key: in the tag's name and in addresses.
        name: in MLflow's menu of views.
        state: of the page of runs.
        is_chart: whether its address opens charts instead of the table.
    """

    key: str
    name: str
    state: dict[str, Any]
    is_chart: bool


def views() -> list[View]:
    """The views that every experiment gets, the one to open first first."""
    return [
        View("saetrack-chains", "Chains", _state([], [], order="attributes.start_time"), False),
        View(
            "saetrack-links",
            "Links over tokens",
            _state(*_charts("links", "over training tokens")),
            True,
        ),
        View(
            "saetrack-conventional",
            "Chain against conventional",
            _state(
                *_charts("conventional", "over the LM's training steps", x_metric="lm_step"),
                order="tags.`direction`",
                ascending=True,
            ),
            True,
        ),
    ]


def experiment_tags(experiment_id: str) -> dict[str, str]:
    """The tags of an experiment that holds chains."""
    links = view_addresses(experiment_id).items()
    note = "Chains of SAEs over an LM's training: " + " · ".join(f"[{n}]({a})" for n, a in links)
    created_ms = now_ms()
    return (
        KIND_TAG
        | {NOTE_TAG: note}
        # The menu has the newest first.
        | {TAG + v.key: _envelope(v, created_ms - age_ms) for age_ms, v in enumerate(views())}
    )


def add_views(client: MlflowClient, experiment_id: str) -> None:
    """Give an experiment its views, if it lacks any.

    Costs one request if nothing is missing. What is there stays, whoever changed it; only a view
    that is as an earlier release wrote it becomes that of this one.
    """
    present = client.get_experiment(experiment_id).tags
    states = {TAG + view.key: view.state for view in views()}
    for key, value in experiment_tags(experiment_id).items():
        if key not in present or (key in states and _is_earlier(present[key], states[key])):
            with contextlib.suppress(MlflowException):  # another process may do it just now
                client.set_experiment_tag(experiment_id, key, value)


def _is_earlier(envelope: str, state: dict[str, Any]) -> bool:
    """Whether a view is that of an earlier release, which had a column for the layer."""
    try:
        compressed = json.loads(envelope)["state"].removeprefix("deflate;")
        text = zlib.decompress(base64.b64decode(compressed)).decode()
        known = json.loads(text.replace("tags.`layer`", "tags.`hook_name`"))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return False  # somebody else's
    return "tags.`layer`" in text and {**known, "columnWidths": None} == {
        **state,
        "columnWidths": None,
    }


def view_addresses(experiment_id: str) -> dict[str, str]:
    """Links within MLflow's pages to each view of an LM's experiment, by the view's name."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return {
        view.name: f"{page}&viewStateShareKey={view.key}"
        + ("&compareRunsMode=CHART" if view.is_chart else "")
        for view in views()
    }


def _envelope(view: View, created_ms: int) -> str:
    """A view as the value of its tag, compressed as MLflow does it: a tag holds 5000 characters."""
    compressed = base64.b64encode(zlib.compress(json.dumps(view.state).encode())).decode()
    return json.dumps(
        {
            "name": view.name,
            "createdAt": created_ms,
            "updatedAt": created_ms,
            "state": f"deflate;{compressed}",
        }
    )


def _state(
    charts: list[dict[str, Any]],
    sections: list[dict[str, Any]],
    *,
    order: str = "attributes.start_time",
    ascending: bool = False,
) -> dict[str, Any]:
    """Chains with their metrics, in a table and in charts."""
    return {
        "searchFilter": "tags.kind = 'chain'",
        "orderByKey": order,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*RUN_NAME, *COLUMNS],
        "columnWidths": RUN_NAME | COLUMNS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts or None,
        "compareRunSections": sections or None,
        "isAccordionReordered": bool(sections),
        "hideEmptyCharts": True,
    }


def _charts(
    view: str, title: str, x_metric: str = ""
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Charts of every metric over MLflow's step (tokens) or another metric, and their section."""
    section = f"saetrack-{view}-section"
    charts: list[dict[str, Any]] = [
        {
            "uuid": f"saetrack-{view}-{metric}",
            "type": "LINE",
            "metricKey": metric,
            "displayName": f"{heading}, {title}",
            "metricSectionId": section,
            "deleted": False,
            "isGenerated": False,
            "runsCountToCompare": 20,
            "xAxisKey": "metric" if x_metric else "step",
            "selectedXAxisMetricKey": x_metric,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "range": {},
            "lineSmoothness": 0,
            "displayPoints": True,
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": False,
            "useGlobalLineSmoothing": False,
        }
        for metric, heading in CHART_METRICS.items()
    ]
    sections = [
        _section(section, f"Links {title}", is_open=True),
        _section(f"saetrack-{view}-rest", ADDED_BY_MLFLOW, is_open=False),
    ]
    return charts, sections


def _section(uuid: str, name: str, *, is_open: bool) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": is_open,
        "columns": 2,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }
