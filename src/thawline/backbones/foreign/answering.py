"""The child's side: import a reader, give up everything but reading, read standard input, answer through one pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import IO, Any

from thawline.backbones.foreign.confinement import confine


class Refused(Exception):
    """A file that cannot be read; the text is for the user, with ``{path}`` for the name of the file."""


Read = Callable[..., tuple[dict[str, Any], Iterable[memoryview | bytes]]]
"""(open file, its size, further settings) -> (header, the bytes that follow it, piece by piece)."""


def main(reader: str, memory_bytes: str, cpu_s: str, *settings: str) -> None:
    """Read the file that is standard input and write the answer to what is standard output.

    Args:
        reader: Name of a module of this folder; it imports its libraries at its top, and its ``read`` is a ``Read``.
        memory_bytes, cpu_s: As for ``confine``.
    """
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print goes nowhere
    file, size = os.fdopen(0, "rb", closefd=False), os.fstat(0).st_size
    read: Read = import_module(f"thawline.backbones.foreign.{reader}").read
    confine(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s))
    try:
        header, pieces = read(file, size, *settings)
    except Refused as error:
        header, pieces = {"refused": str(error)}, ()
    except MemoryError:
        header, pieces = {"refused": _TOO_LARGE}, ()
    _answer(pipe, header, pieces)
    sys.stdout.flush()
    os._exit(0)  # nothing of the file's making is torn down


_TOO_LARGE = "weights must fit into memory as their file does; {path} asks for much more. Fetch the file again."


def _answer(pipe: IO[bytes], header: dict[str, Any], pieces: Iterable[memoryview | bytes]) -> None:
    text = json.dumps(header).encode()
    pipe.write(len(text).to_bytes(8, "little") + text)
    for piece in pieces:
        pipe.write(piece)
    pipe.flush()
