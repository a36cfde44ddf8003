"""Write files that are there whole or not at all, and say in one sentence what a disk refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from thawline.errors import StorageError, ThawlineError, UsageError
from thawline.naming import written
from thawline.showing import printable

TEMPORARY = ".partial"
"""Ends the name of a file that is being written; it begins with a dot."""
_DONE = {"read": "read", "write": "written", "change": "changed"}


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def storage_errors(
    where: Path, verb: Literal["read", "write", "change"] = "write", *, elsewhere: str = "choose a place"
) -> Iterator[None]:
    """Turn what the operating system refuses while the block works on ``where`` into one sentence and a next step.

    Args:
        elsewhere: What the user can do to name another place.
    Raises:
        StorageError: The disk is full, or the place cannot be read, written or changed. A ``ThawlineError`` that the
            block raises itself passes unchanged.
    """
    try:
        yield
    except ThawlineError:
        raise
    except OSError as error:
        if is_full(error):
            raise StorageError(
                f"{where} cannot be {_DONE[verb]}: the disk is full. Free some space (`thawline cache clear` may "
                f"help), or {elsewhere} on another disk."
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            shown, n = printable(where), len(os.fsencode(where.name))
            raise StorageError(
                f"{shown} cannot be {_DONE[verb]}: {error.strerror} ({n} bytes). "
                f"{elsewhere[0].upper()}{elsewhere[1:]} with a shorter name."
            ) from error
        raise StorageError(
            f"{where} cannot be {_DONE[verb]}: {error.strerror or error}. "
            f"{elsewhere[0].upper()}{elsewhere[1:]} that can be {_DONE[verb]}."
        ) from error


def check_new_file(path: Path, option: str, endings: Sequence[str], *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        UsageError: Another ending, a folder that does not exist, or a file that does.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option} must end in {' or '.join(endings)}; got {path.name!r}.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} must lie in a folder that exists; got {path}. Make {path.parent} first.")
    if path.exists() and not force:
        raise UsageError(f"{option} must be a new file; {path} exists. Add --force to replace it.")


@contextlib.contextmanager
def written_whole(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Yield a file that takes the name ``path`` only if the block ends without an error, also if the power fails.

    Args:
        mode: ``wb`` for bytes; ``w`` for UTF-8 whose line ends stay as they are written.
    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    with storage_errors(path), whole_file(path, mode) as file:
        yield file


@contextlib.contextmanager
def whole_file(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Do as ``written_whole``, but let an OSError pass as the system raises it."""
    draft = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": ""}
    try:
        with draft.open(mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False, too, for a name that no disk can hold, where ``Path.is_dir`` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; False, too, for a name that no disk can hold, where ``Path.exists`` raises."""
    return os.path.exists(path)  # noqa: PTH110


@contextlib.contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path that libraries of other languages take while the block runs; ``path`` itself, if that is UTF-8.

    Linux lets names be any bytes. Rust and Arrow refuse those that are no UTF-8, so they get the path of an open file.
    """
    if written(str(path)) == str(path):
        yield path
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, if the platform can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
