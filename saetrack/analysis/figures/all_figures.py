"""All figures of one analysis."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from saetrack.analysis.drift.controls import ControlDrift
from saetrack.analysis.figures.collapse import collapse_figure, continuity_figure
from saetrack.analysis.figures.drift import class_drift_figure, drift_figure, feature_drift_figure
from saetrack.analysis.figures.drift_histograms import drift_histogram_figure
from saetrack.analysis.figures.drift_rates import drift_rates_figure
from saetrack.analysis.figures.effects import effects_figure
from saetrack.analysis.figures.formation import progress_figure, regions_figure
from saetrack.analysis.figures.logits import logits_figure
from saetrack.analysis.figures.matching import matched_features_figure
from saetrack.analysis.figures.meaning import formed_figure, labels_figure, patterns_figure
from saetrack.analysis.figures.moments import moments_figure
from saetrack.analysis.figures.nulls import nulls_figure
from saetrack.analysis.figures.own_index import own_index_figure
from saetrack.analysis.figures.pattern_shares import kappa_line, pattern_shares_figure
from saetrack.analysis.figures.polysemy import polysemy_figure
from saetrack.analysis.figures.probes import probes_figure
from saetrack.analysis.figures.progress_of_features import progress_of_features_figure
from saetrack.analysis.figures.theorem import theorem_figure
from saetrack.analysis.figures.trajectories import trajectory_figure
from saetrack.analysis.figures.umap import umap_figure
from saetrack.analysis.formation.phases import phase_borders
from saetrack.utils.figures.steps import Setting

log = logging.getLogger(__name__)

CENTRED_MEASURES = ("activation_cosine_centred", "feature_cosine_centred")
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
        chain: name of the chain.
        title: of the LM and its hook.
        caption: versions, sample sizes, exclusions.
        tables: by name, as `saetrack.analysis.pipeline.analyze` makes them.
        labels: class of each feature at the end, indexed by feature.
        sampled: the random sample of features.
        controls: bands of the drift figures.
        phases: first and last LM step of each.
        replaced_before: the LM step from which on the index holds to the end for half of the
            features (`saetrack.analysis.drift.own_index`).
    """

    chain: str
    title: str
    caption: str
    tables: Mapping[str, pd.DataFrame]
    labels: pd.Series[str]
    sampled: Sequence[int]
    controls: Sequence[ControlDrift]
    phases: Mapping[str, tuple[float, float]]
    replaced_before: int

    def setting(self, what: str, *, to_the_end: bool = False, of_single: bool = False) -> Setting:
        """Title, caption, shading of one figure.

        Args:
            what: is drawn.
            to_the_end: it follows indices to the end.
            of_single: it shows single features, of which the caption says how far to trust them.
        """
        table = self.tables["collapse"]
        collapsed = table.loc[table["collapsed"], "lm_step"].tolist()
        borders = phase_borders(self.tables["phases"])
        title = f"{what} · {self.title}"
        replaced = self.replaced_before if to_the_end else None
        caption = self.caption + (kappa_line(self.tables["pattern_agreement"]) if of_single else "")
        return Setting(title, caption, self.phases or None, collapsed, replaced, borders)


def draw(inputs: FigureInputs, folder: Path) -> None:
    """Write every figure as PNG and SVG."""
    tables, setting, labels = inputs.tables, inputs.setting, inputs.labels
    log.info("figures: what features mean")
    _draw_meanings(inputs, folder)
    log.info("figures: how they form, drift and act")
    curves, baseline = tables["curves"], tables["baseline"]
    for name, measures, what in (
        ("progress", CENTRED_MEASURES, "progress measure, centred"),
        ("progress_paper", PAPER_MEASURES, "progress measure, the paper's form"),
    ):
        progress_figure(curves, baseline, setting(what, to_the_end=True), folder / name, measures)
    progress_of_features_figure(
        tables["progress"],
        labels,
        inputs.sampled,
        setting("progress of single features", to_the_end=True, of_single=True),
        folder / "progress_of_features",
    )
    _draw_drift(inputs, folder)
    _draw_effects(inputs, folder)
    log.info("figures: probes, geometry, other chains, planes of contexts")
    if "probe_curves" in tables:
        probes_figure(tables["probe_curves"], setting("what probes read"), folder / "probes")
    collapsing = setting("mean cosine of random residuals")
    collapse_figure(tables["collapse"], collapsing, folder / "collapse")
    moving = setting("how far residuals move")
    continuity_figure(tables["continuity"], moving, folder / "continuity")
    if "theorem" in tables:
        stepping = setting("theorem 2.1 and the way of training")
        theorem_figure(tables["theorem"], tables["theorem_path"], stepping, folder / "theorem")
    if len(tables["pairs"]):
        matched = setting("the same features in other chains")
        matched_features_figure(tables["pairs"], matched, folder / "matched_features")
    for fit, points in tables["projection"].groupby("fit"):
        where = "one plane" if fit == "joint" else "a plane per checkpoint"
        projected = setting(f"contexts of features, UMAP, {where}")
        umap_figure(points, tables["projected_features"], projected, folder / f"umap_{fit}")


def _draw_meanings(inputs: FigureInputs, folder: Path) -> None:
    tables, setting = inputs.tables, inputs.setting
    counts, patterns = tables["label_counts"], tables["patterns"]
    of_paper = tables["paper_label_counts"]
    labels_figure(counts, of_paper, setting("what features mean"), folder / "labels")
    beside = setting("concepts beside what chance makes")
    nulls_figure(tables["concept_nulls"], beside, folder / "concept_nulls")
    came_to_mean = setting("how features came to mean it")
    by_paper = tables["paper_pattern_counts"]
    patterns_figure(tables["pattern_counts"], by_paper, came_to_mean, folder / "patterns")
    beside = setting("patterns beside chains that show what is no doing of training")
    pattern_shares_figure(
        tables["pattern_shares"], tables["pattern_agreement"], beside, folder / "pattern_shares"
    )
    formed = setting("features formed by each checkpoint", to_the_end=True)
    formed_figure(patterns, counts["lm_step"].unique().tolist(), formed, folder / "formed")
    regions = setting("feature regions")
    regions_figure(tables["regions"], inputs.labels, regions, folder / "regions")
    senses = setting("senses of tokens")
    polysemy_figure(tables["statistics"], tables["polysemy"], senses, folder / "polysemy")


def _draw_effects(inputs: FigureInputs, folder: Path) -> None:
    tables, setting = inputs.tables, inputs.setting
    if "logits" in tables:
        logits_figure(tables["logits"], setting("what features promote"), folder / "logits")
    if "effects" in tables:
        does = setting("what features do")
        effects_figure(tables["effects"], tables["calibration"], does, folder / "effects")
    if len(tables["moment_order"]):
        lm_steps = tables["label_counts"]["lm_step"].unique().tolist()
        coming = setting("which comes first")
        moments_figure(dict(tables), lm_steps, coming, folder / "moments")


def _draw_drift(inputs: FigureInputs, folder: Path) -> None:
    tables, setting, controls = inputs.tables, inputs.setting, inputs.controls
    drift = tables["drift"]
    by_chain = dict(tuple(tables["drift_histograms"].groupby("chain")))
    noise = {band.name: by_chain[band.name] for band in controls if band.role == "noise"}
    to_final = setting("cosine to the final direction", to_the_end=True)
    drift_histogram_figure(by_chain["chain"], noise, to_final, folder / "drift_histograms")
    drift_figure(drift, controls, setting("drift of directions", to_the_end=True), folder / "drift")
    rates = setting("how fast directions turn")
    drift_rates_figure(tables["drift_rates"], rates, folder / "drift_rates")
    by_class = setting("drift of directions by class", to_the_end=True)
    class_drift_figure(drift, controls, by_class, folder / "drift_by_class")
    feature_drift_figure(
        tables["drift_of_features"],
        drift,
        controls,
        setting("drift of single features", to_the_end=True, of_single=True),
        folder / "drift_of_features",
        {int(str(feature)): label for feature, label in inputs.labels.items()},
    )
    index = setting("the same index, the same feature", to_the_end=True)
    own_index_figure(tables["own_index"], index, folder / "own_index")
    paths = setting("trajectories", to_the_end=True, of_single=True)
    trajectory_figure(tables["trajectories"], paths, folder / "trajectories")
