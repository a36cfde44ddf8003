"""Files that are there whole or not at all, and one sentence for a disk that refuses."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from thawline.errors import StorageError, UsageError


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn what the operating system refuses while writing ``where`` into one clear sentence.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if is_full(error):
            raise StorageError(
                f"disk must have room for {where}; it is full. Nothing half-written was kept. Free some space "
                "(`thawline cache clear` may help) or write to another disk."
            ) from error
        raise StorageError(
            f"{where} must be a place that can be written; {error.strerror or error}. Choose another place."
        ) from error


def check_new_file(path: Path, option: str, endings: Sequence[str], *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        UsageError: Another ending, a folder that is not there, or a file that is.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option} must end in {' or '.join(endings)}; got {path.name!r}.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} must be in a folder that is there; got {path}. Make {path.parent} first.")
    if path.exists() and not force:
        raise UsageError(f"{option} must be a new file; {path} is there already. Add --force to replace it.")


@contextmanager
def written_whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Yield a file that takes the name ``path`` only if the block ends without an error.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    with storage_errors(path):
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        draft = Path(name)
        try:
            with open(handle, mode, **text) as file:  # type: ignore[call-overload]  # noqa: PTH123 (a descriptor)
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o644)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
