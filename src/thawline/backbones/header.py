"""The header of a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from thawline.backbones.file_kinds import not_safetensors
from thawline.errors import WeightsError

_LIMIT = 100 * 2**20
"""The safetensors library refuses larger headers; so do we, before reading one."""


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a safetensors header and the offset at which its data begin.

    Raises:
        WeightsError: Not safetensors, or cut short.
    Source:
        The safetensors format: 8 bytes of little-endian length, a JSON header, the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_LIMIT, size - 8):
            cut = size >= 9 and 2 <= length <= _LIMIT and file.read(1) == b"{"
            raise _incomplete(path, size, 8 + length) if cut else not_safetensors(path)
        try:
            header = cast("dict[str, Any]", json.loads(file.read(length)))
            end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise not_safetensors(path) from error
    if end != size - 8 - length:
        raise _incomplete(path, size, end + 8 + length)
    return header, 8 + length


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is there, with all that its header promises."""
    try:
        read_header(path)
    except (OSError, WeightsError):
        return False
    return True


def _incomplete(path: Path, size: int, promised: int) -> WeightsError:
    return WeightsError(
        f"weights must be complete; {path} holds {size:,} bytes where its header promises {promised:,}. "
        "Fetch the file again."
    )
