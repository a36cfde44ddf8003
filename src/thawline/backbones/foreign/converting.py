"""Turn weight files of other formats into safetensors, once."""

from __future__ import annotations

import zipfile
from pathlib import Path

from thawline.backbones.derived import derived
from thawline.backbones.file_kinds import TORCH_SUFFIXES
from thawline.backbones.foreign import parts, pickles
from thawline.backbones.foreign.reading import read_confined
from thawline.backbones.foreign.writing import write_answer
from thawline.scale.disk import file_sha256

_REVISION = 1
"""Counts changes of what a converted file holds."""
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def as_safetensors(path: Path) -> Path:
    """Return a safetensors file with the tensors of a file of another format; any other file is returned as it is.

    Checkpoints of PyTorch are converted, and the parts of a large file joined, given their index or one of them. The
    result is kept in the cache folder. Its metadata tell ``source`` (name of the file), ``unused`` (JSON: names of the
    optimiser's tensors, which are not converted) and ``said`` (JSON: numbers and short texts beside the weights, such
    as the epoch).

    Raises:
        WeightsError: The file holds something other than plain tensors, wants to call something, or is damaged.
        StorageError: The conversion cannot be written.
        OSError: The file cannot be read.
    """
    if several := parts.parts_of(path):
        return parts.join([_converted(part) for part in several], path.name)
    return _converted(path)


def _converted(path: Path) -> Path:
    if not is_checkpoint(path):
        return path
    pickles.check(path)

    def write(target: Path) -> None:
        with read_confined("torch_reader", path) as answer:
            write_answer(answer, target, path)

    return derived(file_sha256(path), f"from torch {_REVISION} {path.name}", write)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of PyTorch, by its first bytes; of an archive that is cut, by its name."""
    with path.open("rb") as file:
        begin = file.read(9)
    if not begin.startswith(_ZIP):
        is_safetensors = begin[3:] == b"\0\0\0\0\0{"  # the first byte of a length may be that of a pickle
        return begin.startswith(_PICKLE) and not is_safetensors
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return path.suffix.lower() in TORCH_SUFFIXES
