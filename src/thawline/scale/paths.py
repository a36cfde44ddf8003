"""The folder for everything that Thawline can compute again."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder, ``$THAWLINE_CACHE`` or the platform's own; the caller creates what it needs below it.

    If the platform's own cannot be written, as in a container with a read-only home, it is a temporary folder that is
    removed when this process ends. Everything below it may be deleted at any time; Thawline computes it again.
    """
    chosen = os.environ.get("THAWLINE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _usual_or_temporary(_usual())


def cache_remark() -> str | None:
    """Return what a user should know of the cache: that it is temporary, and how to keep one; None if it stays."""
    usual = _usual()
    if os.environ.get("THAWLINE_CACHE") or _usual_or_temporary(usual) == usual:
        return None
    return (
        f"The cache folder {usual} cannot be written, so features are kept in a temporary folder until this command "
        "ends, and computed again by the next. Set THAWLINE_CACHE to a folder that can be written."
    )


def _usual() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("thawline")


@functools.cache
def _usual_or_temporary(usual: Path) -> Path:
    if usual.is_absolute() and _can_be_written(usual):  # it is relative if nobody knows the home of this user
        return usual
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere: the error names the usual folder
        return usual.absolute()
    temporary = Path(place) / f"thawline-cache-{os.getpid()}-{os.urandom(4).hex()}"
    atexit.register(_remove, temporary, os.getpid())
    return temporary


def _can_be_written(folder: Path) -> bool:
    """Whether a folder could be made, or written into if it is there."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)  # noqa: PTH112  (no error to be raised)


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
