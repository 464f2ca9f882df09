"""Chains of decoder matrices whose every angle is known."""

from __future__ import annotations

import numpy as np
import torch

from saetrack.analysis.geometry.inputs import DecoderLink

LM_STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000]


def rotating(
    angles: np.ndarray,
    dead: np.ndarray | None = None,
    lm_steps: list[int] | None = None,
    d_in: int = 16,
    seed: int = 0,
) -> list[DecoderLink]:
    """Feature i turns in a plane of its own: `angles[t, i]` radians from its first axis at link t.

    Rows have lengths of their own, which must not matter; `dead` features (links, d_sae) have a
    density of 0.
    """
    links, d_sae = angles.shape
    random = np.random.default_rng(seed)
    planes = np.linalg.qr(random.normal(size=(d_sae, d_in, 2)))[0]
    lengths = random.uniform(0.5, 2, size=(1, d_sae, 1))
    rows = np.cos(angles)[..., None] * planes[..., 0] + np.sin(angles)[..., None] * planes[..., 1]
    density = np.where(np.zeros_like(angles, dtype=bool) if dead is None else dead, 0, 0.01)
    return [
        DecoderLink(step, index, torch.from_numpy(row).float(), torch.from_numpy(fires).float())
        for index, (step, row, fires) in enumerate(
            zip(lm_steps or LM_STEPS[:links], lengths * rows, density, strict=True)
        )
    ]


def phased_angles(d_sae: int, fast: float = 0.35, slow: float = 0.02, seed: int = 0) -> np.ndarray:
    """Angles that grow slowly, fast at links 6 to 9, and slowly again; a fifth either way."""
    per_link = np.full(len(LM_STEPS) - 1, slow)
    per_link[5:9] = fast
    spread = np.random.default_rng(seed).uniform(0.8, 1.2, size=d_sae)
    return np.r_[0, per_link.cumsum()][:, None] * spread
