"""The folder for everything that Thawline can compute again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder, ``$THAWLINE_CACHE`` or the platform's own; the caller creates what it needs below it.

    Everything below it may be deleted at any time; Thawline computes it again.
    """
    chosen = os.environ.get("THAWLINE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("thawline")
