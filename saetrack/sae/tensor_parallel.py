"""One dictionary over several processes: each holds some features with their Adam moments.

A rank owns `d_sae / ranks` features: their W_enc columns, b_enc, W_dec rows, moments and gradients
never leave it. `b_dec` is everywhere. All ranks see the same batch, and per step they sum

    sae_out            (batch, d_in)    each rank's features reconstruct their part
    gradient of b_dec  (d_in,)          of the part that comes through the encoder
    L1 and how many pairs were active

where a data-parallel step would sum gradients of 2 d_in d_sae numbers. The batch is that of one
process and so is the gradient; only the order in which features are summed differs, so steps agree
to rounding (which training amplifies: README). All ranks get the same bits from a sum: what is
replicated stays equal.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

# Along which axis the features of a tensor lie, by the first part of its name; others are whole on
# every rank.
FEATURE_AXIS = {"W_enc": 1, "b_enc": 0, "W_dec": 0}

# Rows that pass to rank 0 at a time: a whole dictionary must not have to fit its device.
ROWS_AT_A_TIME = 4096

# One rank may wait for another that trains an LM or reads a corpus. Should a rank die, it is the
# launcher that ends the others.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """The processes that train together. With one, everything here gives back what it was given.

    Attributes:
        rank: of this process; rank 0 alone writes to the registry and to disk.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over the ranks; a gradient passes to each of them as it is."""
        if self.count == 1:
            return values
        summed: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
        return summed

    def sum_gradients(self, values: Tensor) -> Tensor:
        """What is equal on all ranks and used by each for its own features: gradients add up."""
        if self.count == 1:
            return values
        same: Tensor = _Shared.apply(values)  # type: ignore[no-untyped-call]
        return same

    def all_gather(self, values: Tensor) -> Tensor:
        """Every rank's values, one rank's behind the other's along the first axis."""
        if self.count == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def shard_rows(self, n_rows: int) -> slice:
        """Which of some rows are this rank's to compute; too few to share are everyone's."""
        if n_rows < self.count:
            return slice(0, n_rows)
        return slice(n_rows * self.rank // self.count, n_rows * (self.rank + 1) // self.count)

    def all_gather_rows(self, own: Tensor, n_rows: int) -> Tensor:
        """All rows, along the second axis, from each rank's `shard_rows`. Exact: adds zeros."""
        if self.count == 1 or n_rows < self.count:
            return own
        whole = own.new_zeros(own.shape[0], n_rows, *own.shape[2:])
        whole[:, self.shard_rows(n_rows)] = own
        dist.all_reduce(whole)
        return whole

    def shard(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """This rank's features of named tensors that hold all features."""
        if self.count == 1:
            return tensors
        return {
            name: tensor if axis is None else tensor.chunk(self.count, dim=axis)[self.rank]
            for name, tensor in tensors.items()
            for axis in [_axis(name)]
        }

    def unshard(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `shard`, on the CPU of rank 0; other ranks get back what they gave."""
        if self.count == 1:
            return tensors
        found = {}
        for name, tensor in tensors.items():
            axis = _axis(name)
            by_feature = tensor.detach().movedim(axis or 0, 0)
            found[name] = tensor if axis is None else self._collect(by_feature).movedim(0, axis)
        return found

    def _collect(self, own: Tensor) -> Tensor:
        whole = own.new_empty((self.count, *own.shape), device="cpu") if self.rank == 0 else None
        for start in range(0, len(own), ROWS_AT_A_TIME):
            block = own[start : start + ROWS_AT_A_TIME].contiguous()
            parts = None if whole is None else [torch.empty_like(block) for _ in range(self.count)]
            dist.gather(block, parts, dst=0)
            if whole is not None and parts is not None:
                for rank, part in enumerate(parts):
                    whole[rank, start : start + ROWS_AT_A_TIME] = part.cpu()
        return own if whole is None else whole.flatten(0, 1)

    def broadcast_from_rank0(self, decide: Callable[[], Any]) -> Any:
        """What rank 0 decides, on every rank; its errors too."""
        if self.count == 1:
            return decide()
        told: list[Any] = [None, None]
        if self.rank == 0:
            try:
                told[0] = decide()
            except Exception as error:
                told[1] = error
        dist.broadcast_object_list(told, src=0)
        if told[1] is not None:
            raise told[1]
        return told[0]

    def all_equal(self, facts: Any) -> bool:
        """Whether all ranks have the same facts: else they would wait for each other in vain."""
        if self.count == 1:
            return True
        told = [None] * self.count
        dist.all_gather_object(told, facts)
        return all(of_rank == facts for of_rank in told)

    def rank0_first(self, work: Callable[[], Any]) -> Any:
        """Do it on rank 0, then on all others, which find what it left on disk."""
        if self.count > 1 and self.rank > 0:
            dist.barrier()
        done = work()
        if self.count > 1 and self.rank == 0:
            dist.barrier()
        return done


ALONE = Ranks()


def join(device: torch.device) -> Ranks:
    """The ranks that `torchrun` started this process among; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _axis(name: str) -> int | None:
    return FEATURE_AXIS.get(name.partition(".")[0])


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed
