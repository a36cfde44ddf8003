"""bfloat16 without its bias: what rounding the weights shifts on average is given back, and what suffers stays float32.

A weight in bfloat16 has 8 bits. Its error is the same for every sample and every position, so it does not average out
as that of the activations does: it turns the features that a MobileNetV2 has of a photograph by up to 10 degrees. Most
of that is one constant for each channel, the error of the weights times the mean of what they are multiplied with. That
mean is measured on noise with the spectrum of photographs, and the constant is taken out of the bias.

Source:
    Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721,
    who do it for integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.scale.openvino_core import core
from thawline.scale.openvino_import import ov

ops = ov.opset13
Means = Mapping[str, NDArray[np.float32]]
"""Name of a product with weights -> mean (C,) over samples and positions of each channel that it is given."""

_NEVER = 1e30
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """A graph in two; what ``head`` gives is what ``tail`` takes, in that order."""

    head: ov.Model
    tail: ov.Model


def work(model: ov.Model) -> int:
    """Multiply-adds of one run of a graph of fixed shape: convolutions, and products with weights."""
    return sum(_work(node) for node in model.get_ordered_ops())


def split(model: ov.Model, share: float) -> Halves | None:
    """Cut a graph of fixed shape after about this share of its work, where least has to cross.

    Args:
        model: One input, any number of outputs; they all go to the tail.
        share: Of the work, in (0, 0.5); at least this much comes to lie below, and less than twice as much.
    Returns:
        None where no layer ends there.
    """
    nodes = _between(model)
    total, done, best = work(model), 0, None
    for position, node in enumerate(nodes):
        done += _work(node)
        if share * total <= done < 2 * share * total:
            crossing = _crossing(nodes, position)
            size = sum(math.prod(output.get_shape()) for output in crossing)
            if best is None or size <= best[0]:  # the last of equals: after an activation function, not before it
                best = size, position
    if best is None:
        return None
    names = {node.get_friendly_name() for node in nodes[: best[1] + 1]}
    return Halves(_head(model, best[1]), _tail(model, best[1], names))


def run_watched(
    model: ov.Model, pictures: Sequence[NDArray[np.uint8]]
) -> tuple[list[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Run a graph of fixed shape in float32, and note the mean of each channel that a product with weights is given.

    Args:
        pictures: Batches of its input.
    Returns:
        What it gives, (N, D) for each output, and the means.
    """
    watched = model.clone()
    products = [node for node in watched.get_ordered_ops() if weights_of(node) is not None]
    means = []
    for node in products:
        given = node.input_value(0)
        rank = len(given.get_shape())
        channel = 1 if node.get_type_name() in _CONVOLUTIONS else rank - 1
        means.append(ops.reduce_mean(given, np.array([axis for axis in range(rank) if axis != channel]), False))
    n = len(watched.outputs)
    watched = ov.Model([*watched.get_results(), *map(ops.result, means)], watched.get_parameters(), "watched")
    # one thread: sums, and so the means, do not depend on the number of processors
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core().compile_model(watched, "CPU", exact)
    # the compiled model overwrites its output arrays in the next run: copy them
    runs = [[array.copy() for array in compiled([batch]).values()] for batch in pictures]
    noted: dict[str, NDArray[np.float32]] = {
        node.get_friendly_name(): np.asarray(np.mean([run[n + i] for run in runs], axis=0, dtype=np.float32))
        for i, node in enumerate(products)
    }
    return [np.concatenate([run[i] for run in runs]) for i in range(n)], noted


def round_weights(model: ov.Model, means: Means) -> None:
    """Round weights to what bfloat16 can hold, in place, and give back to the biases what that takes on average.

    The processor would round the biases as well, which is again the same error everywhere. What bfloat16 cannot hold of
    a bias is added behind a clamp that never clamps: there it is worked into the layer, too, but stays float32.
    """
    for node in model.get_ordered_ops():
        weights = weights_of(node)
        if weights is None:
            continue
        exact = np.array(weights.data, np.float32)
        rounded = to_bfloat16(exact)
        node.input(1).replace_source_output(ops.constant(rounded).output(0))
        lost = _lost(node, exact - rounded, means[node.get_friendly_name()])
        bias, added = _bias(node, len(lost))
        # The plugin rounds this bias to bfloat16 when it fuses the addition: give it what survives rounding, and add
        # the rest where it stays float32.
        held = to_bfloat16(bias + lost)
        added.input(1).replace_source_output(ops.constant(_per_channel(node, held)).output(0))
        _add_behind_clamp(_behind_residual(added), _per_channel(node, bias + lost - held))


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest number that bfloat16 holds, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # half of the last bit that is kept, less one unless that bit is odd: ties go to even, as the processor rounds
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def _lost(node: ov.Node, error: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of what the error of the weights does to each output channel, (O,)."""
    lost: NDArray[np.float32]
    match node.get_type_name():
        case "Convolution":  # (O, C, ...)
            lost = error.reshape(*error.shape[:2], -1).sum(2) @ mean
        case "GroupConvolution":  # (G, O/G, C/G, ...)
            groups, _, width = error.shape[:3]
            summed = error.reshape(*error.shape[:3], -1).sum(3)
            lost = (summed @ mean.reshape(groups, width, 1)).ravel()
        case _:
            lost = (error if node.get_attributes()["transpose_b"] else error.T) @ mean
    return lost


def _bias(node: ov.Node, width: int) -> tuple[NDArray[np.float32], ov.Node]:
    """What is added to the channels of a product, (O,), and the addition; one is put in where there is none."""
    targets = list(node.output(0).get_target_inputs())
    follower = targets[0].get_node() if len(targets) == 1 else None
    if follower is not None and follower.get_type_name() == "Add" and targets[0].get_index() == 0:
        constant = follower.input_value(1).get_node()
        if constant.get_type_name() == "Constant" and math.prod(constant.get_output_shape(0)) == width:
            return np.array(constant.data, np.float32).ravel(), follower
    nothing = np.zeros(width, np.float32)
    added = ops.add(node, ops.constant(_per_channel(node, nothing)))
    for target in targets:
        target.replace_source_output(added.output(0))
    return nothing, added


def _behind_residual(node: ov.Node) -> ov.Node:
    """The addition of another branch that follows at once, where there is one: it is worked into the layer as well."""
    targets = list(node.output(0).get_target_inputs())
    follower = targets[0].get_node() if len(targets) == 1 else None
    return follower if follower is not None and follower.get_type_name() == "Add" else node


def _add_behind_clamp(node: ov.Node, bias: NDArray[np.float32]) -> None:
    targets = list(node.output(0).get_target_inputs())
    added = ops.add(ops.clamp(node, -_NEVER, _NEVER), ops.constant(bias))
    for target in targets:
        target.replace_source_output(added.output(0))


def _per_channel(node: ov.Node, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O,) in a shape that is added channel by channel to what a product gives."""
    n_positions = len(node.get_output_shape(0)) - 2 if node.get_type_name() in _CONVOLUTIONS else 0
    return values.reshape(-1, *[1] * n_positions) if n_positions else values


def weights_of(node: ov.Node) -> ov.Node | None:
    """The constant that a product multiplies with, where the other factor is data."""
    if node.get_type_name() not in (*_CONVOLUTIONS, "MatMul"):
        return None
    weights, data = node.input_value(1).get_node(), node.input_value(0).get_node()
    if weights.get_type_name() != "Constant" or data.get_type_name() == "Constant":
        return None
    if node.get_type_name() == "MatMul":
        plain = len(weights.get_output_shape(0)) == 2 and not node.get_attributes()["transpose_a"]
        return weights if plain else None
    return weights


def _work(node: ov.Node) -> int:
    weights = weights_of(node)
    if weights is None:
        return 0
    outputs, shape = math.prod(node.get_output_shape(0)), list(weights.get_output_shape(0))
    match node.get_type_name():
        case "Convolution":
            each = math.prod(shape[1:])
        case "GroupConvolution":
            each = math.prod(shape[2:])
        case _:
            each = shape[1 if node.get_attributes()["transpose_b"] else 0]
    return int(outputs * each)


def _between(model: ov.Model) -> list[ov.Node]:
    """The nodes that depend on the input, in order, without the input and the results."""
    reached = {parameter.get_friendly_name() for parameter in model.get_parameters()}
    between = []
    for node in model.get_ordered_ops():
        if any(value.get_node().get_friendly_name() in reached for value in node.input_values()):
            reached.add(node.get_friendly_name())
            if node.get_type_name() != "Result":
                between.append(node)
    return between


def _crossing(nodes: Sequence[ov.Node], position: int) -> list[ov.Output]:
    """What nodes up to a position give to nodes behind it, or to a result."""
    below = {node.get_friendly_name() for node in nodes[: position + 1]}
    return [
        output
        for node in nodes[: position + 1]
        for output in node.outputs()
        if any(target.get_node().get_friendly_name() not in below for target in output.get_target_inputs())
    ]


def _head(model: ov.Model, position: int) -> ov.Model:
    model = model.clone()
    crossing = _crossing(_between(model), position)
    return ov.Model([ops.result(output) for output in crossing], model.get_parameters(), "head")


def _tail(model: ov.Model, position: int, below: set[str]) -> ov.Model:
    model = model.clone()
    given = []
    for output in _crossing(_between(model), position):
        parameter = ops.parameter(output.get_shape(), output.get_element_type())
        for target in list(output.get_target_inputs()):
            if target.get_node().get_friendly_name() not in below:
                target.replace_source_output(parameter.output(0))
        given.append(parameter)
    return ov.Model(model.get_results(), given, "tail")
