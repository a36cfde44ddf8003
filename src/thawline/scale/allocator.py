"""Memory habits of the C library that slow tensor work down or waste memory, and how to change them."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # <malloc.h>


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning each large activation to the system and faulting it in again.

    Call it before the first large allocation, and before threads begin: they share one arena then, as after
    ``share_one_arena``. Does nothing, and says so by returning False, where the C library is not glibc.
    Source: mallopt(3).
    """
    # The arenas of threads live in pieces of 64 MB, which are given back whatever is asked for here.
    return _set((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))


def share_one_arena() -> bool:
    """Make threads that begin from now on take memory from where all do, so that one can use what another has freed.

    Of its own, each would keep the largest it ever needed, in pieces too small for the next picture, and memory would
    grow with their number (`benchmarks/extraction.py --growth-only`). Returns False where the C library is not glibc.
    """
    return _set((_M_ARENA_MAX, 1))


def _set(*settings: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) == 1 for option, value in settings)
