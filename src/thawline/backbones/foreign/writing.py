"""Write what a confined reader answers as a safetensors file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from thawline.backbones.foreign.reading import Answer
from thawline.backbones.foreign.types import ITEM_BYTES
from thawline.errors import WeightsError

_MOST_TIMES = 8
"""As in ``torch_reader``: tied weights are stored once and named several times."""


def write_answer(answer: Answer, target: Path, source: Path) -> None:
    """Write the tensors of an answer, byte for byte.

    Raises:
        WeightsError: The reader announces what cannot be, or stops early.
        OSError: The target cannot be written.
    """
    limit = _MOST_TIMES * source.stat().st_size
    try:
        header, n_bytes = _announced(answer.header)
    except (KeyError, TypeError, ValueError) as error:
        raise _unsound(source) from error
    if n_bytes > limit:
        raise _unsound(source)
    said = {"source": source.name, "unused": answer.header["unused"], "said": answer.header["said"]}
    header["__metadata__"] = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items() if value
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        taken = 0
        for piece in answer.take(n_bytes):
            file.write(piece)
            taken += len(piece)
        if taken != n_bytes:
            raise _unsound(source)


def _announced(answered: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """(header of a safetensors file, bytes of all tensors); raises TypeError, KeyError or ValueError if it is none."""
    header: dict[str, Any] = {}
    position = 0
    for name, kind, shape in answered["tensors"]:
        if not isinstance(name, str) or name in header or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(name)
        size = math.prod(shape) * ITEM_BYTES[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    return header, position


def _unsound(path: Path) -> WeightsError:
    return WeightsError(f"weights must be a sound file; the reader of {path} stopped early. Fetch the file again.")
