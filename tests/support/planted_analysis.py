"""An analysis of the nano chain, small enough for seconds; what stands in for UMAP in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.nano import NANO_TRACK

STILL: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [
        {"first": 5, "last": 5, "tokens": 8_192},
        {"first": 5, "last": 5, "tokens": 4_096, "repeat": 3},
    ],
}
QUESTIONS: dict[str, Any] = {
    "track": NANO_TRACK,
    "controls": {
        "stands still": {"role": "noise", "track": STILL},
        "never trained": {"role": "replicate", "track": {**NANO_TRACK, "seed": 9}},
    },
    "contexts": 5,
    "random_directions": 16,
    "baseline_tokens": 16,
    "sample_tokens": 32,
    "sampled_features": 20,
    "theorem_rows": 4,
    "theorem_checkpoints": 2,
    "effect_tokens": 512,
    "ablated_features": 4,
    "probe_tokens": 400,
    "probe_seeds": 2,
}


def planes_of_zeros(checkpoints: Any, followed: Any, fit: str, settings: Any) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "fit": fit,
                "checkpoint_index": checkpoint.checkpoint_index,
                "lm_step": checkpoint.lm_step,
                "feature": feature,
                "datapoint": 0,
                "u": 0.0,
                "v": 0.0,
            }
            for checkpoint in checkpoints
            for feature in followed.features
        ]
    )


def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP compiles for half a minute; its own tests are elsewhere."""
    monkeypatch.setattr("saetrack.analysis.pipeline.formation_tables.project", planes_of_zeros)
    monkeypatch.setattr("saetrack.analysis.pipeline.lives.decoder_map", map_of_firsts)


def map_of_firsts(rows: np.ndarray, fires: np.ndarray, seed: int) -> np.ndarray:
    return np.where(fires[:, None], rows[:, :2], np.nan).astype(np.float32)
