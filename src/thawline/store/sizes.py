"""Read and write sizes on disk as people do."""

from __future__ import annotations

import os
import re

from thawline.errors import UsageError

_UNITS = {"": 1, "B": 1} | {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}
_UNITS |= {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}
_DEFAULT_LIMIT = 20 * 1000**3


def parse_bytes(text: str, where: str) -> int:
    """``20GB``, ``1.5 TB``, ``512MiB`` or a plain number of bytes -> bytes.

    Raises:
        UsageError: The text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f"a size must be a number with a unit, such as 20GB or 500MB; got {text!r} ({where}).")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def format_bytes(n: int) -> str:
    """12_300_000 -> ``12.3 MB``."""
    for unit, size in (("TB", 1000**4), ("GB", 1000**3), ("MB", 1000**2), ("KB", 1000)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"


def limit_from_environment() -> int:
    """Return ``$THAWLINE_CACHE_LIMIT`` in bytes, or 20 GB."""
    text = os.environ.get("THAWLINE_CACHE_LIMIT")
    return parse_bytes(text, "THAWLINE_CACHE_LIMIT") if text else _DEFAULT_LIMIT
