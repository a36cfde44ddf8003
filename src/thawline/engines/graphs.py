"""A frozen part of a backbone as graphs: just converted, or in a folder. Imports OpenVINO only to write them.

A folder of graphs holds ``0.xml`` and ``0.bin`` (OpenVINO's format) for the first graph, ``1.xml`` and ``1.bin`` for
the next, and ``graphs.json``: what they are, and the SHA-256 of each file. The cache and every bundle keep graphs so.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.records import Precision
from thawline.scale.disk import file_sha256

if TYPE_CHECKING:
    import openvino as ov

N_STAND_INS = 8
"""Made-up samples that a conversion is judged on."""
DESCRIPTION = "graphs.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""What ``read_graphs`` may raise."""


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A frozen part of a backbone as graphs; of fixed shape, if samples are."""

    graphs: tuple[tuple[ov.Model, Precision], ...]
    """Run one after the other, each in its precision. The first takes pixels uint8 (B, H, W, 3); the last gives float32
    (B, D), one for each rung."""
    compiled: tuple[ov.CompiledModel, ...]
    """The graphs, ready to run on this processor."""
    multiply_adds: int
    """Of one picture."""
    float32_share: float
    """Share of the work that is computed in float32."""
    cosine: float
    """Smallest cosine to the float32 features, over the stand-ins; 1 in float32."""
    pad: int | None = None
    """What fills up samples that are shorter than others: such graphs take any number of any length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKey:
    """Everything that decides what a backbone is converted to."""

    weights_sha256: str
    preparation_sha256: str
    rungs: tuple[str, ...]
    precision: Precision
    """What was asked for; the first layers may stay in float32."""
    converter: str
    """Release of OpenVINO and revision of the conversion."""

    def digest(self) -> str:
        """Return the SHA-256 (hex) of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGraphs:
    """A converted backbone in a folder, every file checked."""

    key: GraphKey
    files: tuple[Path, ...]
    """The XML of each graph, in the order in which they run; its weights lie beside it."""
    precisions: tuple[Precision, ...]
    multiply_adds: int
    """Of one picture."""
    float32_share: float
    cosine: float
    pad: int | None = None

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def write_graphs(converted: Converted, folder: Path, key: GraphKey, model: str) -> None:
    """Write graphs and their description into an empty folder.

    Args:
        model: What people call the backbone.
    Raises:
        OSError: The folder cannot be written.
    """
    from thawline.scale.openvino_import import ov

    parts = []
    for number, (graph, precision) in enumerate(converted.graphs):
        try:
            ov.save_model(graph, folder / f"{number}.xml", compress_to_fp16=False)
        except RuntimeError as error:  # OpenVINO says "iostream error", whatever the system said
            constants = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
            full = shutil.disk_usage(folder).free < sum(node.get_byte_size() for node in constants)
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, os.strerror(code), str(folder)) from error
        sha256 = {ending: file_sha256(folder / f"{number}.{ending}") for ending in ("xml", "bin")}
        parts.append({"precision": precision, "sha256": sha256})
    described = asdict(key) | {
        "model": model,
        "parts": parts,
        "multiply_adds": converted.multiply_adds,
        "float32_share": converted.float32_share,
        "cosine": converted.cosine,
    }
    if converted.pad is not None:
        described["pad"] = converted.pad
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2), encoding="utf-8")


def read_graphs(folder: Path, *, intact: set[tuple[str, ...]] | None = None) -> StoredGraphs:
    """Read the description of a folder of graphs and check the SHA-256 of each file.

    Args:
        intact: Files that were checked before, by content and stamp: they are not read again while they stay as they
            are. Those that are checked now are added.
    Raises:
        OSError, ValueError, KeyError, TypeError: A file is absent, was altered, or describes no graphs.
    """
    described = json.loads((folder / DESCRIPTION).read_bytes())
    files = tuple(folder / f"{number}.xml" for number in range(len(described["parts"])))
    if not files:
        raise ValueError(f"{folder / DESCRIPTION} names no graph")
    for file, part in zip(files, described["parts"], strict=True):
        for ending in ("xml", "bin"):
            _check(file.with_suffix(f".{ending}"), part["sha256"][ending], set() if intact is None else intact)
    return StoredGraphs(
        key=GraphKey(
            weights_sha256=described["weights_sha256"],
            preparation_sha256=described["preparation_sha256"],
            rungs=tuple(described["rungs"]),
            precision=described["precision"],
            converter=described["converter"],
        ),
        files=files,
        precisions=tuple(part["precision"] for part in described["parts"]),
        multiply_adds=int(described["multiply_adds"]),
        float32_share=float(described["float32_share"]),
        cosine=float(described["cosine"]),
        pad=described.get("pad"),
    )


def _check(path: Path, sha256: str, intact: set[tuple[str, ...]]) -> None:
    stat = path.stat()
    stamp = (str(path), sha256, str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ino))
    if stamp in intact:
        return
    if file_sha256(path) != sha256:
        raise ValueError(f"{path} was altered")
    intact.add(stamp)


def copy_graphs(stored: StoredGraphs, folder: Path) -> None:
    """Copy a folder of graphs into an empty one, file by file; what ``read_graphs`` checks stays the same.

    Raises:
        OSError: The folder cannot be written.
    """
    weights = (file.with_suffix(".bin") for file in stored.files)
    for file in (*stored.files, *weights, stored.folder / DESCRIPTION):
        shutil.copyfile(file, folder / file.name)
