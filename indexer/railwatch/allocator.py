"""Return the memory of large answers to the system.

The C library (glibc) raises its own threshold with each large block that is given back, up to 32 MiB, and from then on
allocates blocks of that size on its heap (mallopt(3), M_MMAP_THRESHOLD). What is freed there between smaller objects
stays: under hostile nodes a daemon that holds the same all the time grows for an hour.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's malloc.h."""

LARGE_BLOCK = 256 * 1024
"""Bytes from which on a block is the system's own, and goes back to it whole."""


def give_large_blocks_back() -> bool:
    """Have the allocator give large blocks back to the system; False where there is no glibc to ask."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl gives large blocks back by itself
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK) and mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK))
