"""Look through the bytes of an ONNX model without its library: does it stand alone, and how many parameters has it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MOST_FIELDS, _DEEPEST = 4_000_000, 40
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DIMS, _DATA_TYPE, _LOCATION = 1, 2, 14
_EXTERNAL = 1
_FLOATING = (1, 10, 11, 16)
"""ONNX's numbers for float32, float16, float64 and bfloat16."""
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Message of ONNX's onnx.proto -> number of a field -> the message that it holds."""


class NotOnnxError(ValueError):
    """The bytes are no ONNX model that stands alone; the text completes "FILE ..."."""


@dataclass(slots=True)
class OnnxContent:
    """What the bytes of a model say."""

    graphs: int = 0
    parameters: int = 0
    """Floating-point numbers in all tensors."""


def look_through(content: bytes) -> OnnxContent:
    """Walk through all tensors of a model; none of them is decoded.

    Raises:
        NotOnnxError: The bytes are damaged, or a tensor lies in another file.
    Source:
        The wire format of protocol buffers; onnx.proto, ModelProto to TensorProto.
    """
    found = OnnxContent()
    view = memoryview(content)
    waiting = [("model", 0, len(content), 0)]
    n_fields = 0
    while waiting:
        message, at, end, depth = waiting.pop()
        if depth > _DEEPEST:
            raise NotOnnxError("is nested deeper than any model")
        found.graphs += message == "graph"
        dims: list[int] = []
        kind = 0
        while at < end:
            n_fields += 1
            if n_fields > _MOST_FIELDS:
                raise NotOnnxError("has more fields than any model")
            tag, at = _varint(view, at, end)
            number, wire = tag >> 3, tag & 7
            value = 0
            start = at
            if wire == _VARINT:
                value, at = _varint(view, at, end)
            elif wire == _BYTES:
                length, start = _varint(view, at, end)
                at = start + length
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
            else:
                raise NotOnnxError("is damaged")
            if at > end:
                raise NotOnnxError("is cut short")
            if wire == _BYTES and number in _INSIDE[message]:
                waiting.append((_INSIDE[message][number], start, at, depth + 1))
            elif message == "tensor" and number == _LOCATION and value == _EXTERNAL:
                raise NotOnnxError("keeps tensors in another file, which is not read")
            elif message == "tensor" and number == _DATA_TYPE:
                kind = value
            elif message == "tensor" and number == _DIMS:
                dims += [value] if wire == _VARINT else _packed(view, start, at)
        if message == "tensor" and kind in _FLOATING:
            found.parameters += math.prod(dims)
    if not found.graphs:
        raise NotOnnxError("is no ONNX model")
    return found


def _packed(view: memoryview, at: int, end: int) -> list[int]:
    values = []
    while at < end:
        value, at = _varint(view, at, end)
        values.append(value)
    return values


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends)"""
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotOnnxError("is damaged")
