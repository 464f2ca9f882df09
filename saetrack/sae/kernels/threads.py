"""Threads for compiled kernels: as many as torch uses, each with torch's work to itself.

numba's own threads either need a library that not every machine has, or must not be used from two
threads at a time. Here a thread of this pool takes piece after piece of the work, and torch's
products within a piece run on that thread alone. A piece's result does not depend on the number of
threads, and so no result does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_lock = Lock()


def spread(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """The results of all pieces, in their order.

    Args:
        work: of one piece; gives up Python's lock, and spreads nothing itself.
        pieces: of the work.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [work(piece) for piece in pieces]
    with _lock:
        pool = _pool(os.getpid(), threads)
    return list(pool.map(work, pieces))


@lru_cache(maxsize=4)
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process: a fork takes over none of the threads."""
    pool = ThreadPoolExecutor(threads, "saetrack-kernels")
    # torch keeps a number of threads for each thread, and one for those that are still to come.
    for ready in [pool.submit(torch.set_num_threads, 1) for _ in range(threads)]:
        ready.result()
    torch.set_num_threads(threads)
    return pool
