"""How far activations move from each checkpoint of an LM to each other one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.hooked import LM_BATCH_ROWS, HookedLM, LMPrecision, ResidualKind
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.lm.catalog.models import Checkpoint
    from saetrack.lm.checkpoints.source import CheckpointSource
    from saetrack.lm.hook import Hook


@torch.no_grad()
def lost_variance(
    resid: Float[Tensor, "checkpoints tokens d_in"],
) -> Float[Tensor, "checkpoints checkpoints"]:
    """Squared move of the same tokens over their squared distance from their mean at its end.

    Entry (i, j) is the share of checkpoint j's variance that is lost to who still has i's
    activations; what an SAE loses that goes from i to j without training follows it closely.
    """
    flat = resid.flatten(1).double()
    squares = flat.square().sum(dim=1)
    moved = (squares[:, None] + squares - 2 * flat @ flat.T).clamp_min(0)
    spread = (resid - resid.mean(dim=1, keepdim=True)).double().square().sum(dim=(1, 2))
    return moved / spread.clamp_min(1e-12)


def measure_moves(
    source: CheckpointSource,
    checkpoints: Sequence[Checkpoint],
    hooks: Sequence[Hook],
    tokens: Int[Tensor, "rows context"],
    kept: Bool[Tensor, "rows context"],
    *,
    residual: ResidualKind,
    precision: LMPrecision,
    device: torch.device,
) -> Float[Tensor, "checkpoints checkpoints"]:
    """The mean over hooks of `lost_variance`; every checkpoint is fetched and run once.

    Args:
        source: of the checkpoints.
        checkpoints: to compare.
        hooks: at which activations are read.
        tokens: rows of text.
        kept: positions that count.
        residual: as of `HookedLM`.
        precision: likewise.
        device: likewise.

    Raises:
        UserError: a checkpoint is not to be had, or cannot be loaded.
    """
    found = []
    progress = Progress("how far activations move", len(checkpoints), "checkpoints")
    with Ahead(source, checkpoints) as ahead:
        for checkpoint in checkpoints:
            with ahead.checkpoint(checkpoint) as folder:
                lm = HookedLM(
                    folder,
                    hooks,
                    residual=residual,
                    precision=precision,
                    device=device,
                    label=checkpoint.label,
                )
            parts = [lm.activations(rows) for rows in tokens.split(LM_BATCH_ROWS)]
            found.append(torch.cat([part.cpu() for part in parts], dim=1)[:, kept])
            progress.advance(1)
    by_hook = torch.stack(found, dim=1)
    return torch.stack([lost_variance(resid) for resid in by_hook]).mean(dim=0)
