"""One dictionary over several processes: each holds some features with their Adam moments.

A rank holds `d_sae / ranks` features: their W_enc columns, b_enc, W_dec rows, moments and gradients
never leave it. `b_dec` is on every rank. All ranks see the same batch, and in each step they sum

    sae_out            (batch, d_in)    each rank's features contribute to the reconstruction
    gradient of b_dec  (d_in,)          the part that comes through the encoder
    the L1 term, and how many pairs were active

where a data-parallel step would sum gradients of 2 d_in d_sae numbers. Batch and gradient are those
of a single process. Only the order in which features are summed differs, so that steps agree except
for rounding (which training amplifies, see the documentation). Every rank gets the same bits from a
sum: what all ranks hold stays equal.
"""

from __future__ import annotations

import atexit
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The axis of a tensor that counts features, by the first part of its name; every rank holds the
# whole of any other tensor.
FEATURE_AXIS = {"W_enc": 1, "b_enc": 0, "W_dec": 0, "threshold": 0, "since_fired_tokens": 0}

# Rows that are sent to rank 0 at a time: its device need not have room for a whole dictionary.
ROWS_AT_A_TIME = 4096

# A rank may wait long while rank 0 trains an LM or reads a corpus. If a rank dies, the launcher
# ends the others.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """The processes that train together. A single process gets back what it passes to any method.

    Attributes:
        rank: of this process; rank 0 alone writes to the registry and to disk.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over the ranks; backward, every rank gets the gradient of the sum."""
        if self.count == 1:
            return values
        summed: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
        return summed

    def sum_gradients(self, values: Tensor) -> Tensor:
        """These values, which are equal on all ranks; backward, the ranks' gradients are summed."""
        if self.count == 1:
            return values
        same: Tensor = _SameOnAll.apply(values)  # type: ignore[no-untyped-call]
        return same

    def all_gather(self, values: Tensor) -> Tensor:
        """The values of all ranks, joined along the first axis in the order of the ranks."""
        if self.count == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def shard_rows(self, n_rows: int) -> slice:
        """The rows that this rank computes: all of them if there are fewer rows than ranks."""
        if n_rows < self.count:
            return slice(0, n_rows)
        return slice(n_rows * self.rank // self.count, n_rows * (self.rank + 1) // self.count)

    def all_gather_rows(self, own: Tensor, n_rows: int) -> Tensor:
        """All rows, along the second axis, from those of each rank; exact, as zeros are added."""
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
        """The inverse of `shard`, on rank 0's CPU; the other ranks get back what they passed."""
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
        """Call a function on rank 0 only; its result, or its error, is that of every rank."""
        if self.count == 1:
            return decide()
        outcome: list[Any] = [None, None]  # result, error
        if self.rank == 0:
            try:
                outcome[0] = decide()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def all_equal(self, facts: Any) -> bool:
        """Whether all ranks pass the same facts; if not, later sums would wait without end."""
        if self.count == 1:
            return True
        of_ranks = [None] * self.count
        dist.all_gather_object(of_ranks, facts)
        return all(of_rank == facts for of_rank in of_ranks)

    @contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Run the block on rank 0, then on all others, which find what it left on disk."""
        if self.rank > 0:
            dist.barrier()
        yield
        if self.count > 1 and self.rank == 0:
            dist.barrier()


ALONE = Ranks()


def join(device: torch.device) -> Ranks:
    """The processes that `torchrun` started together with this one; without it, this one alone."""
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


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


class _SameOnAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed
