"""Count and name the processors that this process may use."""

from __future__ import annotations

import contextlib
import os
import platform

_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2", "bf16": "bf16"}
"""Name in the system's list of features -> how the processor multiplies matrices, the fastest way first."""


def allowed_processors() -> int:
    """Count the processors that the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_processors() -> int:
    """Count the processors to compute on: those allowed, but no more than ``OMP_NUM_THREADS`` if that is set."""
    there = allowed_processors()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(there, int(asked))) if asked.isdecimal() else there


def processor_features() -> str:
    """List what the processor can do, as the system writes it; its name if the system has no list."""
    return _described("flags", "features") or platform.processor()


def processor_name() -> str:
    """Name the processor and the fastest of its known matrix units, which decides its speed."""
    name = _described("model name") or platform.processor() or platform.machine()
    flags = processor_features().split()
    unit = next((unit for flag, unit in _UNITS.items() if flag in flags), None)
    return f"{name} with {unit}" if unit else name


def _described(*names: str) -> str:
    """Return the first processor's line of that name, on Linux; else an empty string."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            name, _, value = line.partition(":")
            if name.strip().lower() in names:
                return value.strip()
    return ""
