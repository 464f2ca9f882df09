"""Large blocks of memory stay with the process between steps of a training."""

from __future__ import annotations

import ctypes
import platform

# Of <malloc.h>: blocks beyond the first are given back to the kernel at once, and so is what is
# free at the end of the heap beyond the second.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
LARGE_BYTES = 2**30


def keep_large_blocks() -> None:
    """Tell glibc to use large blocks again; elsewhere nothing is done.

    An embedded LM's logits are just above what glibc keeps. Every step then asks the kernel for the
    same pages, and the kernel fills them with zeros: a sixth of a step's time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)
