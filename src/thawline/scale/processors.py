"""The processors that this process may use, and what they are."""

from __future__ import annotations

import contextlib
import os
import platform

_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2", "bf16": "bf16"}
"""Names in the system's list of features -> how a processor multiplies matrices, the fastest way first."""


def usable_processors() -> int:
    """Processors that the system lets this process use, and no more than ``OMP_NUM_THREADS`` where that is set."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(there, int(asked))) if asked.isdecimal() else there


def processor_features() -> str:
    """What the processor can do, as the system lists it; its name where there is no list."""
    return _described("flags", "features") or platform.processor()


def processor_name() -> str:
    """What it is called, and the fastest of its matrix units that is known here: speeds differ by it."""
    name = _described("model name") or platform.processor() or platform.machine()
    flags = processor_features().split()
    unit = next((unit for flag, unit in _UNITS.items() if flag in flags), None)
    return f"{name} with {unit}" if unit else name


def _described(*names: str) -> str:
    """The first processor's line of that name, on Linux."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            name, _, value = line.partition(":")
            if name.strip().lower() in names:
                return value.strip()
    return ""
