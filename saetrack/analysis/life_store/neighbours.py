"""The nearest neighbours of each feature by the cosine of decoder rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from saetrack.analysis.life_store.layout import NEIGHBOURS

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy import ndarray
    from torch import Tensor

# Features whose cosines to all others are computed at a time, and numbers of that product.
BLOCK_FEATURES = 2048
BLOCK_NUMBERS = 2**25


@torch.no_grad()
def nearest_neighbours(
    decoder: Float[Tensor, "d_sae d_in"], fires: Bool[ndarray, " d_sae"]
) -> dict[str, ndarray]:
    """Of each feature that fires, those with the largest cosines that fire too.

    Returns:
        `neighbours`, nearest first, -1 where there are none, and `neighbour_cosines`, both (d_sae,
        8).
    """
    alive = torch.from_numpy(np.flatnonzero(fires)).to(decoder.device)
    rows = normalize(decoder.detach()[alive].float(), dim=1)
    k = max(0, min(NEIGHBOURS, len(alive) - 1))
    neighbours = np.full((len(decoder), NEIGHBOURS), -1, np.int32)
    cosines = np.zeros((len(decoder), NEIGHBOURS), np.float16)
    size = max(1, min(BLOCK_FEATURES, BLOCK_NUMBERS // max(len(alive), 1)))
    for start in range(0, len(alive) if k else 0, size):
        products = rows[start : start + size] @ rows.T
        own = torch.arange(len(products), device=rows.device)
        products[own, own + start] = -torch.inf
        found = products.topk(k, dim=1)
        features = alive[start : start + size].cpu().numpy()
        neighbours[features, :k] = alive[found.indices].cpu().numpy()
        cosines[features, :k] = found.values.clamp(-1, 1).cpu().numpy()
    return {"neighbours": neighbours, "neighbour_cosines": cosines}
