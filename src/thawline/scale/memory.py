"""How much memory this process may still take."""

from __future__ import annotations

import contextlib
from pathlib import Path

_SYSTEM, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes that are left, within the limit of a container if there is one; None if the system is silent."""
    left = [n for n in (_left_on_the_machine(), _left_in_the_container()) if n is not None]
    return min(left) if left else None


def _left_on_the_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _SYSTEM.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _left_in_the_container() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        limit, used = ((_GROUP / f"memory.{name}").read_text("ascii") for name in ("max", "current"))
        return max(int(limit) - int(used), 0)  # "max" is no number: no limit
    return None
