"""Join a backbone's tensors and a head's into one safetensors file, byte for byte and without loading a framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError
from thawline.scale.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones.weights import TensorFile

BACKBONE, HEAD = "backbone.", "head."
"""Prefixes of tensor names in ``model.safetensors``."""
_CHUNK_BYTES = 2**24
_DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}


def write_model(path: Path, backbone: TensorFile, head: Mapping[str, NDArray[Any]]) -> None:
    """Write ``model.safetensors``: the backbone's tensors in the precision of their file, then the head's.

    The file is there whole or not at all, so the backbone's own file may be the one that is replaced.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    Source:
        The safetensors format: 8 bytes of little-endian length, a JSON header padded to 8 bytes, the data.
    """
    import numpy as np

    from thawline.backbones.weights import read_header

    _, start = read_header(backbone.path)
    entries = backbone.entries()
    arrays = {name: np.ascontiguousarray(array) for name, array in head.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, entry in entries.items():
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        header[BACKBONE + name] = {**entry, "data_offsets": [position, position + size]}
        position += size
    for name, array in arrays.items():
        offsets = [position, position + array.nbytes]
        header[HEAD + name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": offsets}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with backbone.path.open("rb") as source, written_whole(path, "wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for entry in entries.values():
            first, last = entry["data_offsets"]
            source.seek(start + first)
            for chunk in _chunks(last - first):
                target.write(source.read(chunk))
        for array in arrays.values():
            target.write(array.data)


def read_head(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the head's tensors by name.

    Raises:
        RunError: The file is no safetensors file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if name.startswith(HEAD)]
            return {name.removeprefix(HEAD): file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, TypeError) as error:  # NumPy lacks some types of the format
        raise RunError(f"{path} must hold tensors that can be read; {error}. Copy the run folder again.") from error


def _chunks(n_bytes: int) -> Iterator[int]:
    while n_bytes > 0:
        yield min(n_bytes, _CHUNK_BYTES)
        n_bytes -= _CHUNK_BYTES
