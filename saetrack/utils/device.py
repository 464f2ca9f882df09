"""On which device a process computes."""

from __future__ import annotations

import os

import torch

from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings


def choose_device(settings: Settings) -> torch.device:
    """The device of the settings; `auto` is a GPU where there is one.

    Raises:
        UserError: a GPU is asked for and torch sees none, or more processes were started than there
            are GPUs.
    """
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise UserError("SAETRACK_DEVICE='cuda': torch sees no GPU here; use auto or cpu")
    if not has_gpu or settings.device == "cpu":
        return torch.device("cpu")
    rank_here = os.environ.get("LOCAL_RANK")  # torchrun's; one GPU each
    n_gpus = torch.cuda.device_count()
    if rank_here is not None and int(rank_here) >= n_gpus:
        raise UserError(
            f"LOCAL_RANK={rank_here}: torch sees {n_gpus} GPUs here, one for each process; give "
            f"torchrun --nproc-per-node={n_gpus}, or set SAETRACK_DEVICE=cpu"
        )
    return torch.device("cuda" if rank_here is None else f"cuda:{rank_here}")
