"""What a run may take: seconds on the clock, bytes on the disk."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from thawline.errors import UsageError

_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
LEAST_S = 1.0
SPARE_S, OF_ALL = (1.2, 2.0), 0.1
"""Least and most that is kept for the end, and its share of the whole between."""
FOR_OPENING = 0.25
"""Share of the time left that opening may take. What is opened must be read by the backbone too, which takes longer:
many times, but for the smallest pictures and the largest files."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may take; None where it may take what it needs."""

    seconds: float | None = None
    bytes: int | None = None
    """Of the boundary cache."""
    started: float = field(default_factory=time.monotonic)
    """From when on the seconds are counted."""

    def spare(self) -> float:
        """Seconds that are kept for testing, and for writing the run folder."""
        return 0.0 if self.seconds is None else min(max(OF_ALL * self.seconds, SPARE_S[0]), SPARE_S[1])

    def left(self) -> float:
        """Seconds until it is spent; below 0 when it is overdrawn."""
        return float("inf") if self.seconds is None else self.started + self.seconds - time.monotonic()

    def for_opening(self) -> float | None:
        """Seconds that opening the data may take; None where it may take what it needs."""
        return None if self.seconds is None else max(FOR_OPENING * (self.left() - self.spare()), 1e-3)


def parse_budget(text: str, *, started: float | None = None) -> Budget:
    """Read ``10min``, ``90s``, ``2h``, ``2GB``, or a time and a size with a comma.

    Args:
        started: From when on the seconds are counted, as ``time.monotonic`` tells; by default from now.
    Raises:
        UsageError: It is none of these, or too little for anything.

    Example:
        >>> budget = parse_budget("1.5min, 2GB")
        >>> budget.seconds, budget.bytes
        (90.0, 2000000000)
    """
    seconds: float | None = None
    size: int | None = None
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", part)
        unit = found[2] if found else ""
        if found and unit.lower() in _SECONDS and seconds is None:
            seconds = float(found[1]) * _SECONDS[unit.lower()]
        elif found and unit.upper() in _BYTES and size is None:
            size = int(float(found[1]) * _BYTES[unit.upper()])
        else:
            raise UsageError(
                f"--budget must be a time (90s, 10min, 2h), a size (500MB, 2GB), or both with a comma; got {text!r}."
            )
    if seconds is not None and seconds < LEAST_S:
        raise UsageError(f"--budget must leave at least {LEAST_S:g} s; got {text!r}.")
    return Budget(seconds, size, time.monotonic() if started is None else started)
