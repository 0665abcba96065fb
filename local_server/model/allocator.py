"""Tells glibc when to give freed memory back: while loading at once, while serving never.

Loading frees the weights' earlier forms, which would stay behind as holes; serving frees and needs the same large
blocks in every pass. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8


def return_freed() -> None:
    """Let glibc map blocks of a megabyte each for itself, so that freeing one returns it: for the time of loading.

    By default the limit grows with what is freed, and the weights' earlier forms stay behind as holes.
    One arena for all threads, so that `keep_freed` holds for threads that start before it, too.
    """
    _set((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 20))


def keep_freed() -> None:
    """Let glibc reuse large blocks. By default it maps each anew, and a pass spends 10-25% on page faults."""
    _set((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 100 << 20))


def give_back() -> None:
    """Return what is free right now to the system: loading leaves holes behind."""
    if _glibc():
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _set(*options: tuple[int, int]) -> None:
    if _glibc():
        libc = ctypes.CDLL(None)
        for option, value in options:
            libc.mallopt(option, value)


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
