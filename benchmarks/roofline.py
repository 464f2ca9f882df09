"""What no step of this kind can do without: the encoder's product, and Adam's memory traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ADAM_BYTES = 28  # of a parameter: weight, gradient, two moments read; weight and moments written
STREAM_FLOATS = 2**26  # 256 MB: no cache holds it
REPEATS = 3


@dataclass(frozen=True)
class Roofline:
    """Seconds of the two on this machine, one after the other.

    Attributes:
        product_s: the encoder's dense product, in the fastest of its layouts.
        adam_s: the bytes of Adam over both matrices, at the measured bandwidth.
        flops_per_s: of the product.
        bytes_per_s: the bandwidth.
    """

    product_s: float
    adam_s: float
    flops_per_s: float
    bytes_per_s: float

    @property
    def total_s(self) -> float:
        """Both."""
        return self.product_s + self.adam_s


def measure(d_in: int, d_sae: int, batch_tokens: int, device: str, dtype: torch.dtype) -> Roofline:
    """Time both once more; a driver calls this between rounds and takes the best.

    Args:
        d_in: width of the residuals.
        d_sae: features.
        batch_tokens: residuals of a step.
        device: `cpu` or `cuda`.
        dtype: of the product.
    """
    x = torch.randn(batch_tokens, d_in, device=device).to(dtype)
    W = torch.randn(d_in, d_sae, device=device).to(dtype)
    by_feature = W.T.contiguous()
    products: list[Callable[[], Tensor]] = [
        lambda: x @ W,
        lambda: x @ by_feature.T,
        lambda: by_feature @ x.T,
    ]
    product_s = min(best_seconds(product, device) for product in products)
    source = torch.ones(STREAM_FLOATS, device=device)
    target = torch.empty_like(source)
    third = torch.ones_like(source)
    copied = 8 * STREAM_FLOATS / best_seconds(lambda: target.copy_(source), device)
    added = 12 * STREAM_FLOATS / best_seconds(lambda: torch.add(source, third, out=target), device)
    bytes_per_s = max(copied, added)
    return Roofline(
        product_s,
        ADAM_BYTES * 2 * d_in * d_sae / bytes_per_s,
        2 * d_in * d_sae * batch_tokens / product_s,
        bytes_per_s,
    )


def middle(measured: list[Roofline]) -> Roofline:
    """The median of each number."""
    columns = zip(*(vars(one).values() for one in measured), strict=True)
    return Roofline(*(median(column) for column in columns))


def best_seconds(work: Callable[[], Tensor], device: str) -> float:
    """Seconds of some work, the best of a few tries: what the machine can do."""
    best = float("inf")
    for _ in range(REPEATS):
        _wait(device)
        began_s = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - began_s)
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
