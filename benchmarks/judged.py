"""The one judge of all contestants: the plain dense formulas on held-out vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

JUDGED_AT_ONCE = 512


@torch.no_grad()
def judge(
    weights: Path, held_out: Float[Tensor, "tokens d_in"], l1_coefficient: float, k: int | None
) -> dict[str, float]:
    """Loss, MSE, explained variance and L0 of a contestant's final weights.

    The penalty weighs activations by their decoder rows' norms: for rows of norm 1 that is the
    plain sum, and free rows gain nothing by growing. It knows none of the contestants' code.

    Args:
        weights: safetensors.
        held_out: vectors that none was trained on.
        l1_coefficient: weight of the summed activations against the squared error's mean over d_in.
        k: of each token only so many activations count, the largest; None: all.
    """
    given = load_file(weights)
    norms = given["W_dec"].norm(dim=1)
    sums = dict.fromkeys(("error", "l1", "l0"), 0.0)
    for x in held_out.split(JUDGED_AT_ONCE):
        acts = torch.relu((x - given["b_dec"]) @ given["W_enc"] + given["b_enc"])
        if k is not None:
            kept = acts.topk(k, sorted=False)
            acts = torch.zeros_like(acts).scatter_(1, kept.indices, kept.values)
        error = acts @ given["W_dec"] + given["b_dec"] - x
        sums["error"] += float(error.square().sum())
        sums["l1"] += float((acts @ norms).sum())
        sums["l0"] += float((acts > 0).sum())
    spread = float((held_out - held_out.mean(dim=0)).square().sum())
    mse = sums["error"] / held_out.numel()
    return {
        "loss": mse + l1_coefficient * sums["l1"] / len(held_out),
        "mse": mse,
        "explained_variance": 1 - sums["error"] / spread,
        "l0": sums["l0"] / len(held_out),
    }
