"""Files of weights made from other files: converted, adapted or completed, once, and kept in the cache.

``ROOT/weights/KEY/weights.safetensors`` is such a file. Its date is that of its last use.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from thawline.backbones.header import is_whole
from thawline.scale import cache_root
from thawline.scale.disk import TEMPORARY, is_full, storage_errors

SHELF = "weights"
"""Folder of the cache."""
FILE = "weights.safetensors"
ELSEWHERE = "set THAWLINE_CACHE to a folder"
in_use: set[str] = set()
"""Keys of the files that this process was given: the limit of the cache spares them."""


def derived(source_digest: str, purpose: str, write: Callable[[Path], None]) -> Path:
    """Return a safetensors file made from other weights; it is written if the cache does not hold it yet.

    A backbone's digest is taken from the content of this file, so the content must follow from the two arguments that
    name it. If the cache cannot be written, the file lies in a temporary folder until this process ends.

    Args:
        source_digest: SHA-256 (hex) of what the file is made from.
        purpose: What it is made into: all that decides the content beside the source, and the revision of the code.
        write: Writes a safetensors file to the path that it is given. An error that it raises passes unchanged if it is
            a ``ThawlineError``, and nothing is kept.
    Raises:
        StorageError: The disk is full, or neither the cache nor a temporary folder can be written.
    """
    key = hashlib.sha256(json.dumps([source_digest, purpose]).encode()).hexdigest()
    in_use.add(key)
    shelf = cache_root() / SHELF
    for folder in (shelf, *_temporaries):
        if is_whole(folder / key / FILE):
            with suppress(OSError):  # a shared cache may be readable only
                os.utime(folder / key / FILE)
            return folder / key / FILE
    with storage_errors(shelf, elsewhere=ELSEWHERE):
        place = _writable(shelf) / key / FILE
        place.parent.mkdir(exist_ok=True)
        draft = place.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")
        try:
            write(draft)
            _sync(draft)
            draft.replace(place)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
                place.parent.rmdir()  # stays if it holds the file
    return place


def is_derived(path: Path) -> bool:
    """Whether a file is one that ``derived`` returned, so that its metadata can be believed."""
    return path.name == FILE and len(path.parent.name) == 64


def _writable(shelf: Path) -> Path:
    """Return the shelf, or a temporary folder if nothing can be written there."""
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=shelf):
            return shelf
    except OSError as error:
        if is_full(error):
            raise
        return _temporary(os.getpid())


_temporaries: list[Path] = []


@functools.cache
def _temporary(process: int) -> Path:
    """Make a folder that is removed when this process ends; a process that was forked makes its own."""
    folder = Path(tempfile.mkdtemp(prefix="thawline-weights-"))
    _temporaries.append(folder)
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Make what was written survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
