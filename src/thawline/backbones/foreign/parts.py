"""Join the parts of a large file of weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thawline.backbones.derived import derived
from thawline.backbones.foreign.types import ITEM_BYTES
from thawline.backbones.header import read_header
from thawline.errors import WeightsError
from thawline.scale.disk import file_sha256

_REVISION = 1
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.(?:safetensors|bin)$)")
_MOST_PARTS, _INDEX_LIMIT = 999, 2**26
_CHUNK_BYTES = 2**22


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return the parts of the file that a path stands for, as an index of parts or as one of them; else nothing.

    Raises:
        WeightsError: A part is not there, or the index names files of other folders.
    """
    if path.name.endswith(".index.json"):
        names = _indexed(path)
    elif (match := _PART.search(path.name)) and 2 <= int(match[2]) <= _MOST_PARTS:
        names = [_PART.sub(f"-{n:05d}-of-{match[2]}", path.name) for n in range(1, int(match[2]) + 1)]
    else:
        return ()
    parts = tuple(path.with_name(name) for name in names)
    for part in parts:
        if not part.is_file():
            raise WeightsError(
                f"weights must be complete; {path} belongs to {len(parts)} parts, and {part} is not there. "
                "Fetch it, too."
            )
    return parts


def _indexed(path: Path) -> list[str]:
    """Names of the parts that an index lists."""
    try:
        if path.stat().st_size > _INDEX_LIMIT:
            raise ValueError("it is too long")
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        if not 1 <= len(names) <= _MOST_PARTS:
            raise ValueError(f"it names {len(names)} files")
        if odd := [name for name in names if name in ("", ".", "..") or set(name) & set("/\\\0")]:
            raise ValueError(f"{odd[0][:80]!r} is not a file beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"an index of weights must list the parts beside it; {path} does not: {error}.") from error
    return names


def join(parts: Sequence[Path], name: str) -> Path:
    """Return a safetensors file with the tensors of all parts, which are safetensors files.

    Args:
        name: Of the file that the parts make up, for its metadata.
    Raises:
        WeightsError: A part is damaged, or two have a tensor of the same name.
        StorageError: The file cannot be written.
    """
    digest = hashlib.sha256("".join(map(file_sha256, parts)).encode()).hexdigest()
    return derived(digest, f"joined {_REVISION} {name}", lambda target: _write(parts, name, target))


def _write(parts: Sequence[Path], name: str, target: Path) -> None:
    found: dict[str, tuple[dict[str, Any], Path, int]] = {}  # name -> (entry, file, first byte of the file's data)
    metadata: dict[str, str] = {}
    for part in parts:
        header, start = read_header(part)
        metadata |= header.pop("__metadata__", None) or {}
        for tensor, entry in header.items():
            if tensor in found:
                raise WeightsError(f"weights must be there once; {tensor} is in several parts ({part}).")
            found[tensor] = (entry, part, start)
    joined: dict[str, Any] = {}
    sources: list[tuple[Path, int, int]] = []  # (file, first byte, bytes) of each tensor
    position = 0
    for tensor in sorted(found, key=lambda name: (-ITEM_BYTES.get(found[name][0]["dtype"], 1), name)):
        entry, part, start = found[tensor]
        first, last = entry["data_offsets"]
        joined[tensor] = {**entry, "data_offsets": [position, position + last - first]}
        sources.append((part, start + first, last - first))
        position += last - first
    text = json.dumps({"__metadata__": metadata | {"source": name}, **joined}).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part, first, n_bytes in sources:
            with part.open("rb") as source:
                source.seek(first)
                while n_bytes > 0 and (piece := source.read(min(n_bytes, _CHUNK_BYTES))):
                    file.write(piece)
                    n_bytes -= len(piece)
