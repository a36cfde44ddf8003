"""int8 without data: weights of 7 bits, activations of 8, their ranges measured on made-up texts.

A few channels of a text encoder's activations are ten times as large as the others, for every text, and stretch the
range of all. They are made smaller before rounding, and their weights larger by as much. Made-up texts show which
channels these are, and how large, as well as real ones do. So a backbone has one int8 graph, whatever it is used for.
Weights have 7 bits: processors without VNNI add two products of 8 bits in a number of 16 bits, which would overflow.

Source:
    Xiao et al. 2023, "SmoothQuant", arXiv:2211.10438; here large channels alone are made smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thawline.engines.converting.rounding import weights_of
from thawline.scale.openvino_core import core
from thawline.scale.openvino_import import ov

ops = ov.opset13
_STEPS = 255
"""Of an activation."""
_WEIGHT_LEVELS = 127
"""Of a weight: from -63 to 63. Twice 255 times 63 fits into 16 bits."""
_MIGRATION = 0.5
_LEAST = 1e-9


def quantised(model: ov.Model, batches: Sequence[NDArray[np.int32]]) -> ov.Model:
    """Return a copy of a graph whose products with weights are computed in int8; everything else is as it was.

    Args:
        model: In float32, of any number of samples of any length; it gives float32 (B, D) for each rung.
        batches: (B, L) samples without padding, to measure ranges on.
    """
    model = model.clone()
    given: dict[str, list[ov.Node]] = {}
    for node in model.get_ordered_ops():
        if weights_of(node) is not None:
            given.setdefault(_name(node.input_value(0)), []).append(node)
    if not given:
        return model
    seen = _seen(model, [nodes[0].input_value(0) for nodes in given.values()], batches)
    for nodes, rows in zip(given.values(), seen, strict=True):
        _quantise(nodes, rows)
    return model


def _name(output: ov.Output) -> str:
    return f"{output.get_node().get_friendly_name()}:{output.get_index()}"


def _seen(
    model: ov.Model, outputs: Sequence[ov.Output], batches: Sequence[NDArray[np.int32]]
) -> list[NDArray[np.float32]]:
    """Smallest and largest number of each channel of each output: (2, C)."""
    extremes = []
    for output in outputs:
        axes = np.arange(output.get_partial_shape().rank.get_length() - 1)
        extremes += [ops.reduce_min(output, axes, False), ops.reduce_max(output, axes, False)]
    watched = ov.Model([ops.result(node) for node in extremes], model.get_parameters(), "watched")
    compiled = core().compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    runs = [[array.copy() for array in compiled([batch]).values()] for batch in batches]
    return [
        np.stack([
            np.min([run[i] for run in runs], axis=0),
            np.max([run[i + 1] for run in runs], axis=0),
        ])
        for i in range(0, len(extremes), 2)
    ]  # fmt: skip


def _quantise(nodes: Sequence[ov.Node], seen: NDArray[np.float32]) -> None:
    """Round what products are given, and their weights.

    Args:
        nodes: Products that are given the same.
        seen: (2, C) its smallest and largest numbers.
    """
    largest = np.abs(seen).max(axis=0)
    usual = max(float(np.median(largest)), _LEAST)
    smaller = (np.maximum(1, largest / usual) ** _MIGRATION).astype(np.float32)  # (C,)
    low, high = (float(side) for side in ((seen[0] / smaller).min(), (seen[1] / smaller).max()))
    low, high = min(low, 0.0), max(high, 0.0, _LEAST)
    step = (high - low) / _STEPS
    below = round(-low / step)  # zero is one of the levels, as padding is nothing but zeros
    ends = [ops.constant(np.float32(step * level)) for level in (-below, _STEPS - below)]
    source = nodes[0].input_value(0)
    rounded = ops.fake_quantize(ops.multiply(source, ops.constant(1 / smaller)), *ends, *ends, _STEPS + 1)
    for node in nodes:
        constant = weights_of(node)
        assert constant is not None
        turned = bool(node.get_attributes()["transpose_b"])
        weights = np.array(constant.data, np.float32)
        weights = (weights if turned else weights.T) * smaller  # (O, C)
        reach = np.maximum(np.abs(weights).max(axis=1, keepdims=True), _LEAST)
        sides = [ops.constant(side) for side in (-reach, reach)]
        held = ops.fake_quantize(ops.constant(np.ascontiguousarray(weights)), *sides, *sides, _WEIGHT_LEVELS)
        product = ops.matmul(rounded, held, False, True)
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(product.output(0))
