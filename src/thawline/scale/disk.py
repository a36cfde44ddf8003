"""Files that are there whole or not at all, and one sentence for a disk that refuses."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from thawline.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)


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
        if error.errno in _FULL:
            free = shutil.disk_usage(_existing(where)).free
            raise StorageError(
                f"disk must have room for {where}; it is full ({free / 2**20:,.0f} MiB free). Nothing half-written was "
                "kept. Free some space (`thawline cache clear` may help) or write to another disk."
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileNotFoundError | IsADirectoryError):
            raise StorageError(
                f"{where} must be a place that can be written; {error.strerror or error}. Choose another place."
            ) from error
        raise


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


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())
