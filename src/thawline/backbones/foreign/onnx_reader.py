"""Read an ONNX model, and run it once. Runs in a confined process, see ``reading``; nothing else imports this."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from thawline.backbones.foreign.answering import Refused
from thawline.backbones.foreign.onnx_bytes import NotOnnxError, look_through
from thawline.backbones.foreign.onnx_graph import UnreadableError, feature_graph
from thawline.backbones.foreign.sentences import shortened
from thawline.randomness import generator
from thawline.scale.openvino_core import core

BATCH = 4
"""Pictures in one run of a graph whose batch is free."""
_CLOSE = 1e-3
_ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def read(file: IO[bytes], size: int, settings: str) -> tuple[dict[str, Any], Iterable[bytes]]:
    """See ``answering.Read``. The header describes the graph; nothing follows it.

    Args:
        settings: JSON object with ``features`` and ``px``, as ``onnx_graph.feature_graph`` takes them.
    Raises:
        Refused: Not a model that gives features for pictures.
    """
    content, asked = file.read(), json.loads(settings)
    try:
        parameters = look_through(content).parameters
        one = feature_graph(content, **asked, batch=1)
        pictures = generator(0, "onnx").standard_normal((BATCH, 3, one.px, one.px)).astype(np.float32)
        single = core().compile_model(one.model, "CPU", _ONE_THREAD)
        rows = np.concatenate([single(pictures[i : i + 1])[0] for i in range(BATCH)])
        if rows.shape != (BATCH, one.width) or not np.isfinite(rows).all():
            raise UnreadableError("gives NaN or infinity for pictures of noise")
    except (NotOnnxError, UnreadableError) as error:
        raise Refused(_sentence(str(error))) from error
    except Exception as error:  # whatever OpenVINO raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise Refused(_sentence(f"cannot be read by OpenVINO: {shortened(lines[-1].strip())}")) from error
    batch = BATCH if _runs_at_once(content, asked, pictures, rows) else 1
    described = {"px": one.px, "says_px": one.says_px, "features": one.features, "is_output": one.is_output,
                 "width": one.width, "batch": batch, "parameters": parameters}  # fmt: skip
    return {"described": described}, ()


def _runs_at_once(content: bytes, asked: dict[str, Any], pictures: np.ndarray[Any, Any], rows: Any) -> bool:
    """Whether several pictures may run at once: some exporters fix the batch inside the graph."""
    try:
        several = core().compile_model(feature_graph(content, **asked, batch=BATCH).model, "CPU", _ONE_THREAD)
        found = several(pictures)[0]
    except Exception:
        return False
    return bool(found.shape == rows.shape and np.abs(found - rows).max() <= _CLOSE * np.abs(rows).max())


def _sentence(what: str) -> str:
    what = what.rstrip(". ")
    step = "" if ". " in what or "?" in what else " Export the model again, whole, with one input of pictures."
    return f"an ONNX model must give features for pictures; {{path}} {what}.{step}"
