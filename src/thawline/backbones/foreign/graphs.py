"""Keep a graph of another library as a file of weights: one tensor of bytes, and what a reader found out about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.derived import derived
from thawline.backbones.foreign.reading import read_confined
from thawline.backbones.header import read_header
from thawline.errors import ModelError, WeightsError
from thawline.scale.disk import file_sha256

if TYPE_CHECKING:
    from thawline.backbones.foreign.onnx_graph import FeatureGraph

_REVISION = 1
_LIMIT = 2**31
"""Protocol buffers hold no more."""
TENSOR = "graph.onnx"
"""Name of the tensor that holds the bytes."""
FEATURES = "features"
"""The argument of the model that names the tensor whose values are the features."""


def onnx_as_safetensors(path: Path, *, features: str | None, px: int | None) -> tuple[Path, dict[str, Any]]:
    """Return a safetensors file that holds an ONNX model, and what is known of the model.

    A confined process reads the model and runs it once; only then does this process touch it.

    Args:
        features, px: As for ``onnx_graph.feature_graph``.
    Raises:
        WeightsError: No ONNX model that gives features for pictures.
        StorageError: The file cannot be written.
        OSError: The model cannot be read.
    """
    if path.stat().st_size > _LIMIT:
        raise WeightsError(f"an ONNX model must be smaller than 2 GiB; {path} is not. Export it in half precision.")
    settings = json.dumps({"features": features, "px": px})

    def write(target: Path) -> None:
        with read_confined("onnx_reader", path, settings) as answer:
            described = answer.header["described"]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise WeightsError(f"weights must stay as they are while they are read; {path} has changed. Try again.")
        metadata = {"source": path.name, "described": json.dumps(described)}
        entry = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
        header = json.dumps({"__metadata__": metadata, TENSOR: entry}).encode()
        header += b" " * (-len(header) % 8)
        target.write_bytes(len(header).to_bytes(8, "little") + header + content)

    digest = file_sha256(path)
    made = derived(digest, f"from onnx {_REVISION} {path.name} {settings}", write)
    return made, json.loads(read_header(made)[0]["__metadata__"]["described"])


def read_onnx(content: bytes, *, features: str, px: int, batch: int) -> FeatureGraph:
    """Read a model that a confined process has read before, or that a bundle carries.

    Args:
        features, px, batch: As for ``onnx_graph.feature_graph``.
    Raises:
        ModelError: It does not stand alone, or OpenVINO cannot read it.
    """
    from thawline.backbones.foreign.onnx_bytes import look_through
    from thawline.backbones.foreign.onnx_graph import feature_graph

    try:
        look_through(content)
        return feature_graph(content, features=features, px=px, batch=batch)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"OpenVINO cannot read the ONNX model: {reason}. Give the file again.") from error
