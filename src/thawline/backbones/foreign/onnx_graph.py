"""Read an ONNX model as a graph of OpenVINO that gives features: pictures (B, 3, H, W) -> (B, D)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from thawline.backbones.foreign.sentences import shortened
from thawline.errors import nearest
from thawline.scale.openvino_core import core
from thawline.scale.openvino_import import ov

DEFAULT_PX = 224
_THROUGH = frozenset("Add Subtract Multiply Divide Softmax LogSoftmax Sigmoid Reshape Squeeze Convert Clamp".split())
"""Operations between a classifier and the output of its model: a bias, probabilities, a change of shape."""


class UnreadableError(ValueError):
    """A model that cannot be a backbone; the text completes "FILE ..." and may end with a next step."""


@dataclass(frozen=True, slots=True)
class FeatureGraph:
    """A model up to its features."""

    model: ov.Model
    px: int
    """Side of its input."""
    says_px: bool
    """Whether the file fixes the side."""
    features: str
    """Name of the tensor that is read."""
    is_output: bool
    """Whether that is an output of the model, and not the input of its classifier."""
    width: int


def feature_graph(content: bytes, *, features: str | None, px: int | None, batch: int) -> FeatureGraph:
    """Read a model and end it at its features: averaged over positions, if they have positions.

    Args:
        content: Bytes of an ONNX file.
        features: Name of a tensor in the graph; by default the input of the last layer if that is a classifier (a
            matrix of weights with nothing but a bias and probabilities after it), else the first output.
        px: Side of the input, if the file leaves it open.
        batch: Pictures in one run.
    Raises:
        UnreadableError: No picture goes in, or no features come out.
        RuntimeError: OpenVINO cannot read it.
    """
    model = core().read_model(io.BytesIO(content))
    if len(model.inputs) != 1:
        raise UnreadableError(f"takes {len(model.inputs)} inputs instead of one picture")
    given = model.input(0)
    shape = given.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or given.get_element_type() not in (ov.Type.f32, ov.Type.f16):
        raise UnreadableError(f"takes {shortened(str(shape))} of {given.get_element_type().to_string()}, not pictures")
    last = _is(shape[3], 3) and not _is(shape[1], 3)
    if not last and not (_is(shape[1], 3) or shape[1].is_dynamic):
        raise UnreadableError(f"takes pictures of {shape[1]} channels, not three")
    sides = [shape[i] for i in ((1, 2) if last else (2, 3))]
    fixed = [side.get_length() for side in sides if side.is_static]
    if len(set(fixed)) > 1:
        raise UnreadableError(f"takes pictures of {fixed[0]} x {fixed[1]}, which are not square")
    side = fixed[0] if fixed else (px or DEFAULT_PX)
    if px is not None and px != side:
        raise UnreadableError(f"takes pictures of {side} px, not of {px}. Leave --input-px out")
    model.reshape([batch, side, side, 3] if last else [batch, 3, side, side])
    output, name, is_output = _features(model, features)
    ended = ov.Model([_pooled(output, name)], list(model.get_parameters()), "features")
    found = ended.output(0).get_partial_shape()
    if found.is_dynamic or found[0].get_length() != batch or found[1].get_length() < 1:
        raise UnreadableError(f"gives features of shape {found} for {batch} pictures, not one row for each")
    if last:
        steps = ov.preprocess.PrePostProcessor(ended)
        steps.input().tensor().set_layout(ov.Layout("NCHW"))
        steps.input().model().set_layout(ov.Layout("NHWC"))
        ended = steps.build()
    if given.get_element_type() != ov.Type.f32 or ended.output(0).get_element_type() != ov.Type.f32:
        steps = ov.preprocess.PrePostProcessor(ended)
        steps.input().tensor().set_element_type(ov.Type.f32)
        steps.output().tensor().set_element_type(ov.Type.f32)
        ended = steps.build()
    return FeatureGraph(ended, side, bool(fixed), name, is_output, found[1].get_length())


def _is(dimension: Any, length: int) -> bool:
    return bool(dimension.is_static and dimension.get_length() == length)


def _features(model: ov.Model, asked: str | None) -> tuple[Any, str, bool]:
    """(where the features come out, what they are called, whether that is an output of the model)"""
    if asked is not None:
        known: dict[str, Any] = {}
        for node in model.get_ordered_ops():
            if node.get_type_name() in ("Constant", "Result"):
                continue
            for output in node.outputs():
                known |= dict.fromkeys([*output.get_names(), node.get_friendly_name()], output)
        if asked not in known:
            raise UnreadableError(f"has no tensor {asked!r}.{nearest(asked, known) or ' Leave features out'}")
        return known[asked], asked, False
    node = model.get_results()[0].input_value(0).get_node()
    output, is_output = model.get_results()[0].input_value(0), True
    while True:
        if node.get_type_name() == "MatMul" and _is_constant(node.input_value(1).get_node()):
            if len(node.input_value(0).get_partial_shape()) == 2:
                output, is_output = node.input_value(0), False
            break
        inputs = [node.input_value(i) for i in range(node.get_input_size())]
        going = [one for one in inputs if not _is_constant(one.get_node())]
        if node.get_type_name() not in _THROUGH or len(going) != 1:
            break
        node = going[0].get_node()
    return output, min(output.get_names(), default=output.get_node().get_friendly_name()), is_output


def _is_constant(node: Any) -> bool:
    """Whether a value is a constant, or made of constants."""
    waiting, n_seen = [node], 0
    while waiting:
        node = waiting.pop()
        n_seen += 1
        if n_seen > 100 or node.get_type_name() == "Parameter":
            return False
        waiting += [node.input_value(i).get_node() for i in range(node.get_input_size())]
    return True


def _pooled(output: Any, name: str) -> Any:
    """(B, ...) -> (B, D)"""
    from openvino import opset13 as ops  # after ``openvino_import``

    shape = output.get_partial_shape()
    axes = {2: None, 3: [1], 4: [2, 3]}
    if shape.rank.is_dynamic or len(shape) not in axes:
        raise UnreadableError(f"gives {name!r} of shape {shortened(str(shape))}, which is no row of features")
    if (over := axes[len(shape)]) is None:
        return output
    return ops.reduce_mean(output, ops.constant(over, ov.Type.i64), False).output(0)
