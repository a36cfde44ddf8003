"""Remember earlier scans in one SQLite file, which may be missing, damaged or locked and is never trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from thawline.data.sources import Stamp

_SCHEMA = 2
"""Raised when the meaning of a row changes, or the way sketches are made; a file of another schema is rebuilt.
Of schema 1, which told nothing of depth, rows of files that are named as JPEG stay."""
_MAX_BYTES = 2 * 2**30
_FLUSH_ROWS = 5_000
_LOCK_WAIT_S = 5.0
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read is not kept: it may change again within one clock tick."""


class Look(NamedTuple):
    """What one reading of a sample found."""

    digest: str
    sketch: bytes
    """Of the sample, as its kind of input makes it; of few samples, what must be known beside it follows."""


class ScanStore:
    """Looks by stamp. No method raises: if anything is wrong with the file, the samples are read again.

    Each operation opens the file anew and is one transaction, so two processes may work at once. Each row has a
    checksum of its own, because SQLite does not notice flipped bits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[tuple[Stamp, Look]] = []

    def recall(self, stamps: Sequence[Stamp]) -> dict[Stamp, Look]:
        """Return the looks of those samples that are known and have not changed since."""
        found: dict[Stamp, Look] = {}
        wanted = {stamp.key: stamp for stamp in stamps}
        if not wanted or not os.path.exists(self._path):  # noqa: PTH110 (which raises nothing, whatever the cache is)
            return found
        keys = list(wanted)

        def look_up(connection: sqlite3.Connection) -> None:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                for row in connection.execute(f"SELECT * FROM look WHERE key IN ({marks})", some):
                    stamp, look = Stamp(*row[:5]), Look(*row[5:7])
                    if stamp == wanted[stamp.key] and row[7] == _checksum(stamp, look):
                        found[stamp] = look

        self._transact(look_up)
        return found

    def remember(self, stamp: Stamp, look: Look) -> None:
        """Keep one look; it is written with the next batch."""
        if time.time_ns() - max(stamp.mtime_ns, stamp.ctime_ns) < _SETTLED_NS:
            return
        self._pending.append((stamp, look))
        if len(self._pending) >= _FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        rows = [(*stamp, *look, _checksum(stamp, look)) for stamp, look in self._pending]
        self._pending.clear()
        if not rows:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > _MAX_BYTES:
                self._path.unlink()
        insert = "INSERT OR REPLACE INTO look VALUES (?,?,?,?,?,?,?,?)"
        self._transact(lambda connection: connection.executemany(insert, rows))

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_LOCK_WAIT_S)) as connection, connection:
                connection.text_factory = lambda text: text.decode(errors="replace")  # damaged text fails its checksum
                _create(connection)
                work(connection)
        except sqlite3.OperationalError:
            pass  # locked, read-only, disk full: read the samples again
        except sqlite3.Error:  # damaged
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _create(connection: sqlite3.Connection) -> None:
    if _is_current(connection):
        return
    # Definitions open no transaction by themselves: without one, two processes that both find no table would each
    # drop and create it, the second one with the first one's rows. So look again once no other can write.
    connection.execute("BEGIN IMMEDIATE")
    if _is_current(connection):
        return
    if connection.execute("PRAGMA user_version").fetchone() == (1,):
        connection.execute("DELETE FROM look WHERE NOT (key LIKE '%.jpg' OR key LIKE '%.jpeg')")
    else:
        connection.execute("DROP TABLE IF EXISTS look")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS look (key TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,"
        " inode INTEGER, digest TEXT, thumb BLOB, checksum BLOB)"
    )
    connection.execute(f"PRAGMA user_version = {_SCHEMA}")


def _is_current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone() == (_SCHEMA,))


def _checksum(stamp: Stamp, look: Look) -> bytes:
    return hashlib.blake2b(repr((*stamp, *look)).encode(errors="replace"), digest_size=8).digest()
