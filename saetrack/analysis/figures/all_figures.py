"""All figures of one analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.drift.controls import ControlDrift
from saetrack.analysis.figures.collapse import collapse_figure, continuity_figure
from saetrack.analysis.figures.drift import class_drift_figure, drift_figure, feature_drift_figure
from saetrack.analysis.figures.drift_histograms import drift_histogram_figure
from saetrack.analysis.figures.formation import progress_figure, regions_figure
from saetrack.analysis.figures.matching import matched_features_figure
from saetrack.analysis.figures.meaning import formed_figure, labels_figure, patterns_figure
from saetrack.analysis.figures.polysemy import polysemy_figure
from saetrack.analysis.figures.progress_of_features import progress_of_features_figure
from saetrack.analysis.figures.trajectories import trajectory_figure
from saetrack.analysis.figures.umap import umap_figure
from saetrack.figures.steps import Setting

PAPER_MEASURES = (
    "activation_cosine",
    "feature_cosine",
    "feature_jaccard",
    "feature_weighted_jaccard",
)


@dataclass(frozen=True)
class FigureInputs:
    """What is drawn.

    Attributes:
        title: of the LM and its hook.
        caption: versions, sample sizes, exclusions.
        tables: by name, as `saetrack.analysis.pipeline.analyze` makes them.
        labels: class of each feature at the end, indexed by feature.
        sampled: the random sample of features.
        controls: bands of the drift figures.
        phases: first and last LM step of each.
    """

    title: str
    caption: str
    tables: Mapping[str, pd.DataFrame]
    labels: pd.Series[str]
    sampled: Sequence[int]
    controls: Sequence[ControlDrift]
    phases: Mapping[str, tuple[float, float]]

    def setting(self, what: str) -> Setting:
        """Title, caption, shading of one figure."""
        table = self.tables["collapse"]
        collapsed = table.loc[table["collapsed"], "lm_step"].tolist()
        return Setting(f"{what} · {self.title}", self.caption, self.phases or None, collapsed)


def draw(inputs: FigureInputs, folder: Path) -> None:
    """Write every figure as PNG and SVG."""
    for name, figure in _FIGURES.items():
        figure(inputs, folder / name)
    if len(inputs.tables["pairs"]):
        setting = inputs.setting("the same features in other chains")
        matched_features_figure(inputs.tables["pairs"], setting, folder / "matched_features")
    for fit, points in inputs.tables["projection"].groupby("fit"):
        features = inputs.tables["projected_features"]
        where = "one plane" if fit == "joint" else "a plane per checkpoint"
        setting = inputs.setting(f"contexts of features, UMAP, {where}")
        umap_figure(points, features, setting, folder / f"umap_{fit}")


def _drift_histograms(inputs: FigureInputs, path: Path) -> None:
    by_chain = dict(tuple(inputs.tables["drift_histograms"].groupby("chain")))
    noise = {
        control.name: by_chain[control.name]
        for control in inputs.controls
        if control.role == "noise"
    }
    setting = inputs.setting("cosine to the final direction")
    drift_histogram_figure(by_chain["chain"], noise, setting, path)


def _drift_of_features(inputs: FigureInputs, path: Path) -> None:
    feature_drift_figure(
        inputs.tables["drift_of_features"],
        inputs.tables["drift"],
        inputs.controls,
        inputs.setting("drift of single features"),
        path,
        {int(str(feature)): label for feature, label in inputs.labels.items()},
    )


def _progress(inputs: FigureInputs, path: Path, measures: Sequence[str], what: str) -> None:
    tables = inputs.tables
    progress_figure(tables["curves"], tables["baseline"], inputs.setting(what), path, measures)


_FIGURES: dict[str, Callable[[FigureInputs, Path], None]] = {
    "labels": lambda d, path: labels_figure(
        d.tables["label_counts"], d.setting("what features mean"), path
    ),
    "patterns": lambda d, path: patterns_figure(
        d.tables["pattern_counts"], d.setting("how features came to mean it"), path
    ),
    "formed": lambda d, path: formed_figure(
        d.tables["patterns"],
        sorted(d.tables["label_counts"]["lm_step"].unique()),
        d.setting("features formed by each checkpoint"),
        path,
    ),
    "regions": lambda d, path: regions_figure(
        d.tables["regions"], d.labels, d.setting("feature regions"), path
    ),
    "progress": lambda d, path: _progress(
        d,
        path,
        ("activation_cosine_centred", "feature_cosine_centred"),
        "progress measure, centred",
    ),
    "progress_paper": lambda d, path: _progress(
        d, path, PAPER_MEASURES, "progress measure, the paper's form"
    ),
    "progress_of_features": lambda d, path: progress_of_features_figure(
        d.tables["progress"],
        d.labels,
        d.sampled,
        d.setting("progress of single features"),
        path,
    ),
    "polysemy": lambda d, path: polysemy_figure(
        d.tables["statistics"], d.tables["polysemy"], d.setting("senses of tokens"), path
    ),
    "drift_histograms": _drift_histograms,
    "drift": lambda d, path: drift_figure(
        d.tables["drift"], d.controls, d.setting("drift of directions"), path
    ),
    "drift_by_class": lambda d, path: class_drift_figure(
        d.tables["drift"], d.controls, d.setting("drift of directions by class"), path
    ),
    "drift_of_features": _drift_of_features,
    "trajectories": lambda d, path: trajectory_figure(
        d.tables["trajectories"], f"trajectories · {d.title}", d.caption, path
    ),
    "collapse": lambda d, path: collapse_figure(
        d.tables["collapse"], d.setting("mean cosine of random residuals"), path
    ),
    "continuity": lambda d, path: continuity_figure(
        d.tables["continuity"], d.setting("how far residuals move"), path
    ),
}
