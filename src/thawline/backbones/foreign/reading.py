"""Have a stranger's file read by a process of its own that can do nothing but read it, and take what comes back.

The child gets the file as its standard input, gives up everything else (``confinement``), and answers through one pipe:
the length of a JSON header, the header, and the bytes of the tensors that it announces. Nothing pickled comes back, and
nothing is taken that was not announced.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from thawline.errors import WeightsError
from thawline.scale.threads import unless_over

_BASE_S, _BYTES_PER_S = 60, 5 * 2**20
"""A reader may take so long, and a second more for each so many bytes of its file."""
_BASE_BYTES, _TIMES = 2**31, 4
"""Memory that a reader may take, beyond its libraries: so much, and so many times the size of its file."""
_HEADER_LIMIT = 64 * 2**20
_CHUNK_BYTES = 2**22
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from thawline.backbones.foreign.answering import main; main(*sys.argv[2:])"
)
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP", "LANG")
"""Variables of the environment that the child may know; it gets no tokens and no settings of Python."""
_ALONE = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""More threads and their memory would not fit into the limits of a machine with many processors."""


@dataclass(slots=True)
class Answer:
    """What a reader says of a file, and the pipe from which the tensors come."""

    header: dict[str, Any]
    pipe: IO[bytes] = field(repr=False)
    left: int
    """Bytes that are announced and not taken yet."""

    def take(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the next bytes, in pieces; fewer if the reader stops early, which the caller must count."""
        while n_bytes > 0 and (piece := self.pipe.read(min(n_bytes, _CHUNK_BYTES))):
            n_bytes -= len(piece)
            self.left -= len(piece)
            yield piece


@contextlib.contextmanager
def read_confined(reader: str, path: Path, *settings: str) -> Iterator[Answer]:
    """Start a confined process that reads one file, and yield its answer; the process ends with the block.

    Args:
        reader: Name of a module of this folder that has ``read``, see ``answering``.
        settings: Arguments of ``read`` beside the file.
    Raises:
        WeightsError: The file cannot be read, for the reason that the reader gives; or the reader was stopped, because
            the file made it crash, take too much memory or time, or try more than reading.
    """
    size = path.stat().st_size
    allowed_s = _BASE_S + size // _BYTES_PER_S
    command = [sys.executable, "-I", "-c", _START, json.dumps([p or str(Path.cwd()) for p in sys.path]), reader]
    limits = [str(_BASE_BYTES + _TIMES * size), str(allowed_s)]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ALONE
    with path.open("rb") as source:
        process = subprocess.Popen(
            [*command, *limits, *settings],
            stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        with unless_over(2 * allowed_s, process.kill):
            header = _header(process.stdout)
            if header is None:
                process.stdout.close()
                raise _stopped(path, process.wait())
            if "refused" in header:
                raise WeightsError(str(header["refused"]).replace("{path}", str(path)))
            yield Answer(header, process.stdout, 0)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _header(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Read the header of an answer; None if it is not whole."""
    length = int.from_bytes(pipe.read(8), "little")
    if not 2 <= length <= _HEADER_LIMIT:
        return None
    try:
        header = json.loads(pipe.read(length))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _stopped(path: Path, code: int) -> WeightsError:
    from thawline.backbones.foreign.confinement import STOPPED

    if code == STOPPED:
        return WeightsError(
            f"weights must be numbers that can be read without running anything; {path} tried to do more, and its "
            "reader was stopped. Do not use this file."
        )
    why = "crashed" if code else "gave no answer"
    return WeightsError(
        f"weights must be a sound file; the reader of {path} {why} (exit code {code}), or took more memory or time "
        "than such a file needs. Fetch the file again."
    )
