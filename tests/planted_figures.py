"""Tables as the analyses give them, planted: what figures are drawn from in tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from saetrack.analysis.drift import Drift, measure_drift, quantile_table
from tests.planted_chain import rotating

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048]
TRAINED = 1 / (1 + np.exp(-(np.log2(np.array(STEPS) + 1) - 6)))
CLASSES = ("token", "weak_concept", "concept", "noise")


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
    polysemy = pd.DataFrame({"feature": maintaining, "lost_senses": loses[maintaining]})
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
