"""Change habits of the C library that slow tensor work down or waste memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # <malloc.h>


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning each large activation to the system and faulting it in again.

    Call it before the first large allocation and before threads begin: they then share one arena, as after
    ``share_one_arena``. Returns False, and does nothing, if the C library is not glibc.
    Source: mallopt(3).
    """
    # Arenas of threads consist of pieces of 64 MB, which glibc returns in spite of these settings.
    return _set((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))


def share_one_arena() -> bool:
    """Make threads that begin from now on share one pool of memory: each can use what another has freed.

    With a pool each, every thread would keep the largest size it ever needed, in pieces too small for the next picture,
    and memory would grow with the number of threads (`benchmarks/extraction.py --growth-only`). Returns False if the C
    library is not glibc.
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
