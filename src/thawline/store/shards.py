"""Write and read one file of the store: some rows, the digests of their samples, and a checksum over both.

A shard is a safetensors file with ``digests`` uint8 (n, 32) and ``values`` (n, ...). It is there whole or not at all,
and is never changed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from thawline.scale.disk import whole_file
from thawline.store.keys import Stored

SUFFIX = ".safetensors"
_DIGEST = np.dtype("V32")

_STORED: dict[Stored, tuple[str, np.dtype[Any]]] = {
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
    "bfloat16": ("U16", np.dtype("<u2")),
    "uint8": ("U8", np.dtype("u1")),
    "int32": ("I32", np.dtype("<i4")),
}
"""Name in a key -> (name in safetensors, type in memory)."""
_NAMES = {kind: name for name, kind in _STORED.values()}


class DamagedShardError(Exception):
    """A shard has other content than was written; its rows have to be computed again."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The description of a shard; its values stay on disk until they are read."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """(n, ...) of ``values``."""
    offset: int
    """Where ``values`` begin in the file."""
    digests: NDArray[np.void]
    """(n,) 32 bytes each."""
    sha256: str

    def values(self) -> NDArray[Any]:
        """Map the values (n, ...) read-only; the map ends with the array."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape)

    def is_intact(self) -> bool:
        """Read everything once and compare it with the checksum."""
        return _checksum(self.digests, self.values()) == self.sha256


def storage_dtype(stored: Stored) -> np.dtype[Any]:
    """Return the type in memory of values stored under this name."""
    return _STORED[stored][1]


def digest_rows(digests: Sequence[str]) -> NDArray[np.void]:
    """(N,) hex SHA-256 -> (N,) of 32 bytes each; raises ValueError if one is not a SHA-256."""
    packed = bytes.fromhex("".join(digests))
    if len(packed) != _DIGEST.itemsize * len(digests) or any(len(digest) != 64 for digest in digests):
        raise ValueError("digests must be SHA-256 in hex, 64 characters each")
    return np.frombuffer(packed, dtype=_DIGEST)


def write_shard(folder: Path, digests: NDArray[np.void], values: NDArray[Any]) -> int:
    """Write rows as a new shard whose name no other writer uses; return its size in bytes."""
    values, digests = np.ascontiguousarray(values), np.ascontiguousarray(digests)
    end = values.nbytes + digests.nbytes
    header = {
        "__metadata__": {"sha256": _checksum(digests, values)},
        "values": {
            "dtype": _NAMES[values.dtype],
            "shape": values.shape,
            "data_offsets": (0, values.nbytes),
        },
        "digests": {
            "dtype": "U8",
            "shape": (len(digests), _DIGEST.itemsize),
            "data_offsets": (values.nbytes, end),
        },
    }
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)  # so that the values begin at a multiple of eight bytes
    length = len(described).to_bytes(8, "little")
    # Written piece by piece, because the library would need two more copies of the values in memory.
    with whole_file(folder / f"{uuid.uuid4().hex}{SUFFIX}", "wb") as file:
        for piece in (length, described, _bytes_of(values), _bytes_of(digests)):
            file.write(piece)
    return len(length) + len(described) + end


def open_shard(path: Path, stored: Stored) -> Shard:
    """Read the description and the digests of a shard.

    Raises:
        DamagedShardError: The file is not a whole shard of this number format.
    """
    shape, offset, digests_offset, sha256 = _read_header(path, stored)
    digests = np.fromfile(path, dtype=_DIGEST, count=shape[0], offset=digests_offset)
    return Shard(path, storage_dtype(stored), shape, offset, digests, sha256)


def count_rows(path: Path, stored: Stored) -> int:
    """Count the rows of a shard without reading them; 0 if it is damaged."""
    try:
        return _read_header(path, stored)[0][0]
    except DamagedShardError:
        return 0


def _read_header(path: Path, stored: Stored) -> tuple[tuple[int, ...], int, int, str]:
    """(shape of values, where values begin, where digests begin, checksum)"""
    if not path.exists():  # safetensors would not say so in an OSError of its own
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="numpy"):
            pass  # checks that the header is sound and that the file has the length it promises
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        values, digests = header["values"], header["digests"]
        shape = tuple(values["shape"])
        if values["dtype"] != _STORED[stored][0] or digests["dtype"] != "U8" or 0 in shape:
            raise DamagedShardError(path)
        if digests["shape"] != [shape[0], _DIGEST.itemsize]:
            raise DamagedShardError(path)
        begin = 8 + length
        sha256 = header["__metadata__"]["sha256"]
        return shape, begin + values["data_offsets"][0], begin + digests["data_offsets"][0], sha256
    except (SafetensorError, ValueError, KeyError, IndexError) as error:
        raise DamagedShardError(path) from error


def _checksum(digests: NDArray[np.void], values: NDArray[Any]) -> str:
    checksum = hashlib.sha256(f"{values.dtype.str} {values.shape}\n".encode())
    for array in (digests, values):
        checksum.update(_bytes_of(np.ascontiguousarray(array)))
    return checksum.hexdigest()


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.data.cast("B")
