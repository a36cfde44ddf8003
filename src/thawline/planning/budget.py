"""Read a budget, and count what is left of it: seconds on the clock, bytes on the disk."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from thawline.errors import UsageError

_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
LEAST_S = 1.0
SPARE_S, OF_ALL = (1.2, 2.0), 0.1
"""Least and most seconds kept for the end, and the share of the whole between them."""
FOR_OPENING = 0.25
"""Opening may take this share of the time left. The backbone must read what is opened, which takes longer: many times
as long, except for the smallest pictures and the largest files."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None for no limit."""

    seconds: float | None = None
    bytes: int | None = None
    """Of the boundary cache."""
    started: float = field(default_factory=time.monotonic)
    """Start of the count, as ``time.monotonic`` tells."""

    def spare(self) -> float:
        """Return the seconds that are kept for testing and for writing the run folder."""
        return 0.0 if self.seconds is None else min(max(OF_ALL * self.seconds, SPARE_S[0]), SPARE_S[1])

    def left(self) -> float:
        """Return the seconds left; below 0 when the budget is overdrawn."""
        return float("inf") if self.seconds is None else self.started + self.seconds - time.monotonic()

    def for_opening(self) -> float | None:
        """Return the seconds that opening the data may take; None for no limit."""
        return None if self.seconds is None else max(FOR_OPENING * (self.left() - self.spare()), 1e-3)


def parse_budget(text: str, *, started: float | None = None) -> Budget:
    """Read ``10min``, ``90s``, ``2h``, ``2GB``, or a time and a size with a comma.

    Args:
        started: Start of the count, as ``time.monotonic`` tells; by default now.
    Raises:
        UsageError: The text is none of these, or less than a second.

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
