"""Read samples from where they lie: files, rows of a Parquet file, arrays and texts in memory."""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from thawline.errors import DataError, UndecodableError
from thawline.naming import written
from thawline.scale.disk import utf8_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.records import Payload, Source

MAX_FILE_BYTES = 512 * 2**20
_ROW_GROUPS_BYTES = 2**30
"""Decoded row groups of one Parquet file that are kept in memory, at most."""


class Stamp(NamedTuple):
    """What changes when a stored sample changes, as far as the file system can tell."""

    key: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def stamp_of(source: Source, index: int) -> Stamp | None:
    """Return the stamp of one sample without reading it, or None if its source keeps none (has no ``stamp``)."""
    stamp = getattr(source, "stamp", None)
    found: Stamp | None = stamp(index) if stamp is not None else None
    return found


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file per sample."""

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> bytes:
        return read_file(self.paths[index])

    def stamp(self, index: int) -> Stamp | None:
        return _file_stamp(self.paths[index], self.paths[index])


def read_file(path: str, most: int | None = None) -> bytes:
    """Read a regular file, or its first ``most`` bytes.

    Raises:
        UndecodableError: It is no regular file, cannot be opened, or is larger than ``MAX_FILE_BYTES``.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe called a.jpg would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb", buffering=0 if most else -1) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UndecodableError("not a regular file")
            if most is None and status.st_size > MAX_FILE_BYTES:
                raise UndecodableError(
                    f"{status.st_size / 2**20:.0f} MiB, but at most {MAX_FILE_BYTES // 2**20} MiB are read"
                )
            return file.read(most or MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise UndecodableError("no such file") from error
    except UndecodableError:
        raise
    except ValueError as error:
        raise UndecodableError(f"no name that this system can hold: {error}") from error
    except OSError as error:
        raise UndecodableError(f"cannot be opened: {error.strerror}") from error


def _file_stamp(path: str, key: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # a hundred thousand Path objects take longer than the calls
    except (OSError, UnicodeEncodeError):  # a name that the system's encoding does not hold
        return None
    return Stamp(written(key), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """Pixels in memory, (N, H, W) or (N, H, W, 3)."""

    pixels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> NDArray[Any]:
        row: NDArray[Any] = self.pixels[index]
        return row


@dataclass(frozen=True, slots=True)
class TextSource:
    """Texts in memory."""

    texts: tuple[str | None, ...]
    """None where there is none."""

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, index: int) -> str:
        text = self.texts[index]
        if text is None:
            raise UndecodableError("the cell is empty")
        return text


class ParquetSource:
    """Image bytes in a column of a Parquet file, ``binary`` or the struct with ``bytes`` that Hugging Face writes.

    Whole row groups are read, and as many are kept as fit into 1 GiB, so reading in order reads each group once.
    """

    def __init__(self, path: Path, column: str) -> None:
        import pyarrow.parquet as pq

        self._path, self._column = path, column
        with utf8_path(path) as opened, pq.ParquetFile(opened) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        self._starts = [0]
        for number, group in enumerate(groups):
            if group.total_byte_size > 4 * _ROW_GROUPS_BYTES:
                raise DataError(
                    f"{path}: row group {number} holds {group.total_byte_size / 2**30:.1f} GiB, which is read at once. "
                    f"Write the file again with row_group_size=1000."
                )
            self._starts.append(self._starts[-1] + group.num_rows)
        self._stamp = _file_stamp(str(path.absolute()), str(path.absolute()))
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> bytes:
        group = bisect_right(self._starts, index) - 1
        value = self._group(group)[index - self._starts[group]].as_py()
        if not value:
            raise UndecodableError("the cell is empty")
        return bytes(value)

    def stamp(self, index: int) -> Stamp | None:
        return None if self._stamp is None else self._stamp._replace(key=f"{self._stamp.key}#{self._column}#{index}")

    def _group(self, number: int) -> Any:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            self._kept[number] = self._load(number)
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _ROW_GROUPS_BYTES:
                self._kept.popitem(last=False)
            return self._kept[number]

    def _load(self, number: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with utf8_path(self._path) as path, pq.ParquetFile(path) as file:
                column = file.read_row_group(number, columns=[self._column], use_threads=False)[self._column]
        except (OSError, pa.ArrowException) as error:
            raise UndecodableError(f"row group {number} cannot be read: {str(error).splitlines()[0]}") from error
        column = column.combine_chunks()
        return column.field("bytes") if pa.types.is_struct(column.type) else column


class ChainSource:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self._starts = [0]
        for source in self._sources:
            self._starts.append(self._starts[-1] + len(source))

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> Payload:
        source, row = self._find(index)
        return source.read(row)

    def stamp(self, index: int) -> Stamp | None:
        source, row = self._find(index)
        return stamp_of(source, row)

    def _find(self, index: int) -> tuple[Source, int]:
        number = bisect_right(self._starts, index) - 1
        return self._sources[number], index - self._starts[number]


@dataclass(frozen=True, slots=True, eq=False)
class SubsetSource:
    """Some rows of another source."""

    source: Source
    rows: NDArray[np.int64]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Payload:
        return self.source.read(int(self.rows[index]))

    def stamp(self, index: int) -> Stamp | None:
        return stamp_of(self.source, int(self.rows[index]))
