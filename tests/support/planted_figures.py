"""Tables as the analyses give them, planted: what figures are drawn from in tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from saetrack.analysis.drift.controls import ControlDrift, compare_with_controls
from saetrack.analysis.drift.measure import Drift, measure_drift, quantile_table
from saetrack.analysis.figures.formation import MEASURE_NAMES
from saetrack.analysis.formation.phases import PHASED, find_phases
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.meaning.patterns import NO_PATTERN, PAPER_PATTERNS, PATTERNS
from saetrack.utils.figures.steps import Setting
from tests.support.planted_chain import rotating

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048]
TRAINED = 1 / (1 + np.exp(-(np.log2(np.array(STEPS) + 1) - 6)))
ENDS = {
    "token": (0.9, 0.93),
    "several_tokens": (0.75, 0.8),
    "weak_concept": (0.4, 0.7),
    "concept": (0.1, 0.55),
    "contextual": (0.05, 0.2),
}
SETTING = Setting(
    "mini-LM, layer 2, forward chain, seed 0",
    "SAEs mini.L2.forward.s0 versions 1-14; 1,004 live features; excluded: 12 dead, 8 ultra-low.",
    phases={"warm-up": (0, 24), "emergent": (24, 512), "convergent": (512, 2048)},
    collapsed=(32, 64),
)
CLASSES = ("token", "weak_concept", "concept", "contextual")


def kept_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """From now on figures come into this list instead of being written, to be asked questions."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    return kept


def drawn_svg(draw: Callable[[Path], None], path: Path) -> str:
    """Draw, and look that the figure is not blank; gives the SVG.

    Args:
        draw: writes a figure to a path without suffix.
        path: that path.
    """
    draw(path)
    assert matplotlib.image.imread(path.with_suffix(".png"))[..., :3].std() > 0.03, "blank"
    return path.with_suffix(".svg").read_text()


def planted_drift(turn: float, features: int = 200, links: int = 14) -> Drift:
    """Features that turn by about so many radians in all; the first one dies at link 3."""
    generator = np.random.default_rng(0)
    turns = turn * generator.uniform(0.4, 1.2, features)
    dead = np.zeros((links, features), dtype=bool)
    dead[3, 0] = True
    chain = rotating(np.linspace(0, 1, links)[:, None] ** 0.7 * turns, dead)
    return measure_drift(iter(chain), chain[-1])


def planted_progress(features: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rise = generator.uniform(0.1, 0.8, features)
    return pd.DataFrame(
        [
            {"checkpoint_index": index, "lm_step": step, "chosen": chosen, "feature": 2 * feature}
            | {"activation_cosine_centred": 0.1 + rise[feature] * trained - (chosen == "first")}
            for index, (step, trained) in enumerate(zip(STEPS, TRAINED, strict=True))
            for chosen in ("final", "first")
            for feature in range(features)
        ]
    )


def planted_rise(features: int = 40) -> pd.DataFrame:
    """Features that rise from step 8 to step 256, a row each."""
    x = np.log2(np.array(STEPS) + 1)
    rise = np.interp(x, x[[0, 4, 9, -1]], [0, 0, 1, 1])
    return pd.DataFrame(np.outer(np.linspace(0.3, 0.6, features), rise), columns=STEPS)


def planted_labels_of(features: int = 120) -> pd.Series:
    return pd.Series({2 * feature: CLASSES[feature % 4] for feature in range(features)})


def planted_polysemy(features: int = 80) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Even features are token features; of these every fourth loses senses."""
    generator = np.random.default_rng(0)
    loses = np.arange(features) % 8 == 0
    noise = generator.normal(0, 0.03, (len(STEPS), features))
    rows = [
        {
            "lm_step": step,
            "feature": feature,
            "label": "token" if feature % 2 == 0 else "concept",
            "recall": 0.9 - 0.6 * trained * loses[feature] + noise[place, feature]
            if feature % 2 == 0
            else np.nan,
            "coherence_other": 0.1 + 0.3 * trained * loses[feature] + noise[place, feature],
            "determinism": (0.85 if feature % 2 == 0 else 0.3) + 2 * noise[place, feature],
        }
        for place, (step, trained) in enumerate(zip(STEPS, TRAINED, strict=True))
        for feature in range(features)
    ]
    maintaining = np.arange(0, features, 2)
    polysemy = pd.DataFrame(
        {"feature": maintaining, "lost_senses": loses[maintaining], "gained_senses": False}
    )
    return pd.DataFrame(rows), polysemy


def planted_pairs(features: int = 300) -> pd.DataFrame:
    """A second seed, and another layer, with which there is no common stream."""
    generator = np.random.default_rng(0)
    parts = []
    for other, common in (("second seed", True), ("layer 3", False)):
        shared = generator.beta(3, 1.5, features)
        for by, score in (
            ("decoder", shared),
            ("activations", (shared + generator.normal(0, 0.1, features)).clip(0, 1)),
            ("random directions", generator.beta(5, 15, features)),
        ):
            if not common and by != "activations":
                continue
            parts.append(
                pd.DataFrame(
                    {"other": other, "lm_step": 2048, "by": by, "score": score}
                    | {"left": np.arange(features), "right": np.arange(features)[::-1]}
                    | {"decoder_cosine": (score if by[0] == "r" else shared) if common else np.nan}
                    | {"margin": 0.1, "mutual_best": shared > 0.5}
                )
            )
    return pd.concat(parts, ignore_index=True)


def planted_claim() -> pd.DataFrame:
    labels = [CLASSES[feature % 4] for feature in range(200)]
    return quantile_table(planted_drift(1.5), labels)


def planted_curves() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, spread = [], []
    kinds = [("final", name, *ends) for name, ends in ENDS.items()]
    kinds += [("random_directions", "random_directions", 0.2, 0.4), ("first", "first", 0.8, 0.3)]
    for place, measure in enumerate(MEASURE_NAMES):
        for chosen, name, first, last in kinds:
            values = first + (last - first) * TRAINED ** (1 + place / 4)
            rows += [
                {"measure": measure, "chosen": chosen, "class": name, "checkpoint_index": i}
                | {"lm_step": step, "features": 100 + 40 * len(name), "mean": value}
                | {f"q{q:g}": value + (q - 0.5) * 0.15 for q in (0.1, 0.25, 0.5, 0.75, 0.9)}
                for i, (step, value) in enumerate(zip(STEPS, values, strict=True))
            ]
        spread += [
            {"measure": measure, "checkpoint_index": i, "lm_step": step, "draws": 5}
            | {"mean": 0.3, "std": 0.01, "min": 0.28, "max": 0.33}
            for i, step in enumerate(STEPS)
        ]
    return pd.DataFrame(rows), pd.DataFrame(spread)


def planted_labels() -> pd.DataFrame:
    ends = {"token": (770, 620), "several_tokens": (180, 150), "weak_concept": (10, 60)}
    ends |= {"concept": (5, 90), "contextual": (20, 60)}
    return _counts(ends)


def planted_paper_labels() -> pd.DataFrame:
    """The same features by the paper's classes."""
    return _counts(
        {"token": (770, 620), "weak_concept": (10, 60), "concept": (45, 140), "noise": (160, 160)}
    )


def planted_nulls() -> pd.DataFrame:
    """Concepts beyond both nulls from step 64 on; before, too few directions qualify."""
    rows = []
    for step, trained in zip(STEPS, TRAINED, strict=True):
        concepts, told = round(5 + 85 * trained), step >= 64
        for null, expected in (("random directions", 8.0 if told else np.nan), ("same tokens", 40)):
            rows.append(
                {"lm_step": step, "null": null, "concepts": concepts, "candidates": 150}
                | {"measured": (60 if told else 7) if null == "random directions" else 150}
                | {"expected": expected, "excess": concepts - expected, "surviving_share": 0.2}
                | {"paper_surviving_share": 0.78}
                | {"excess_low": concepts - expected - 12, "excess_high": concepts - expected + 9}
            )
    return pd.DataFrame(rows)


def _counts(ends: dict[str, tuple[int, int]]) -> pd.DataFrame:
    ends |= {"insufficient": (15, 20), "ultra_low": (4, 8), "dead": (0, 12)}
    return pd.DataFrame(
        [
            {
                "checkpoint_index": i,
                "lm_step": step,
                "label": label,
                "features": round(a + (b - a) * t),
            }
            for i, (step, t) in enumerate(zip(STEPS, TRAINED, strict=True))
            for label, (a, b) in ends.items()
        ]
    )


def planted_patterns() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for sample, size in (("all live", 1000), ("sample of 256", 256)):
        share = generator.dirichlet(np.linspace(6, 1, len(PATTERNS)))
        for place, (pattern, part) in enumerate(zip(PATTERNS, share, strict=True)):
            rows += [
                (sample, pattern, label, round(part * size / 2), part / 2)
                for label in LABELS[place % 3 : place % 3 + 2]
            ]
    return pd.DataFrame(rows, columns=["sample", "pattern", "final_label", "features", "share"])


def planted_paper_patterns() -> pd.DataFrame:
    names = [*PAPER_PATTERNS, NO_PATTERN]
    table = pd.DataFrame({"pattern": names, "features": [300, 100, 80, 520]})
    return table.assign(sample="all live", share=table["features"] / 1000)


def planted_collapse() -> pd.DataFrame:
    """Residuals are alike at step 64."""
    level = np.where(np.array(STEPS) == 64, 0.97, 0.2)
    table = pd.DataFrame({"lm_step": STEPS, "checkpoint_index": range(len(STEPS))})
    for form, mean in (("raw", level), ("centred", 0 * level)):
        table = table.assign(
            **{f"{form}_mean": mean, f"{form}_min": mean - 0.02, f"{form}_max": mean + 0.02}
        )
    return table.assign(
        tokens=1024, sample=100, draws=5, severe=level > 0.95, collapsed=level > 0.95
    )


def planted_tables() -> dict[str, pd.DataFrame]:
    """Of one chain, what chains are laid side by side by."""
    curves, baseline = planted_curves()
    counts = planted_labels()
    counts["share"] = counts["features"] / counts.groupby("lm_step")["features"].transform("sum")
    claim = planted_claim()
    noise = ControlDrift.of("still", "noise", planted_drift(0.4))
    return {
        "label_counts": counts,
        "curves": curves,
        "baseline": baseline,
        "phases": find_phases({PHASED: planted_rise()}, draws=20),
        "drift": claim,
        "drift_beside_controls": compare_with_controls(claim, [noise]),
        "collapse": planted_collapse(),
        "warm_starts": pd.DataFrame({"measure": ["displacement_over_spread"], "spearman": [0.9]}),
    }
