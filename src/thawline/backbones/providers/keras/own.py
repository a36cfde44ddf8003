"""A model that a user saved with Keras: its graph comes from its own file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thawline.backbones.providers.keras.applications import with_bgr
from thawline.backbones.providers.keras.config import graph_of
from thawline.backbones.providers.keras.files import described
from thawline.backbones.providers.keras.graph import Graph, Node
from thawline.backbones.providers.keras.preparation import APPLICATIONS, MODES, application_named
from thawline.errors import ModelError, WeightsError

_WEIGHTLESS = frozenset("Activation Dropout Flatten Identity ReLU Reshape Softmax ActivityRegularization".split())
"""Layers that may stand after a classifier."""
_SCALES = frozenset("Add Divide Multiply Normalization Rescaling Subtract".split())
"""Layers and operations that prepare pictures within a model."""
_BEFORE_LAYERS = frozenset("Concatenate Cropping2D GetItem Identity InputLayer Stack ZeroPadding2D".split()) | _SCALES


def graph_in(path: Path) -> Graph:
    """Read the graph of the whole model in a file.

    Raises:
        WeightsError: The file is not there, is damaged, or holds weights alone.
        ModelError: The model cannot be followed; says which layer.
    """
    file = described(path)
    if file.config is None:
        raise WeightsError(
            f"a model of your own must be saved whole; {path} holds weights alone. Save it with model.save, or give "
            f"the architecture: keras/NAME@{path}."
        )
    return graph_of(file.config, keras_2=file.keras_2)


def without_classifier(graph: Graph) -> tuple[Graph, Node | None]:
    """Return the model up to what its classifier is given, and the classifier; None if it ends otherwise.

    A classifier is a last dense layer, or a last convolution of one pixel after a global pooling.
    """
    nodes = {node.name: node for node in graph.nodes}
    last = nodes[graph.output]
    while last.kind in _WEIGHTLESS and len(last.inputs) == 1:
        last = nodes[last.inputs[0]]
    pixel = last.kind == "Conv2D" and _is_one(last.settings.get("kernel_size")) and _is_pooled(last, nodes)
    if last.kind != "Dense" and not pixel:
        return graph, None
    return graph.up_to(last.inputs[0]), last


def _is_one(size: object) -> bool:
    return size in (1, [1, 1])


def _is_pooled(node: Node, nodes: Mapping[str, Node]) -> bool:
    """Whether a layer is given one position: a global pooling stands before it, with layers of one pixel between."""
    while len(node.inputs) == 1:
        node = nodes[node.inputs[0]]
        if node.kind.startswith("Global"):
            return True
        if node.kind not in _WEIGHTLESS and not (node.kind == "Conv2D" and _is_one(node.settings.get("kernel_size"))):
            return False
    return False


def own_mode(graph: Graph) -> tuple[str, str]:
    """Return the mode of ``preprocess_input`` that suits a user's model, and what it was taken from; empty if said."""
    for node in graph.nodes:
        if node.kind in _SCALES and (node.kind in ("Rescaling", "Normalization") or node.settings.get("args")):
            return "none", ""
        if node.kind not in _BEFORE_LAYERS:
            break
    names = dict.fromkeys(name for node in graph.nodes for name in node.path.split("/")[:-1])
    application = application_named(list(names))
    if application is not None:
        mode = APPLICATIONS[application].mode
        return mode, f"keras.applications' {application}, which it holds: preprocessing={mode}"
    return "0..1", "the usual for models without layers for it: pixels divided by 255"


def prepared(graph: Graph, mode: str) -> Graph:
    """Return the graph for pictures in RGB: a model that Caffe trained is given BGR."""
    return with_bgr(graph) if MODES[mode].reverse else graph


def notes_on(path: Path, source: str, classifier: Node | None, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what was taken that the file does not say.

    Args:
        source: What the preprocessing was taken from; empty if it is known.
        classifier: The layer that was left out.
        given: What the user asked for.
    """
    notes = []
    if source and not {"mean", "std"} <= given.keys():
        notes.append(
            f"{path.name} does not say how its pictures were prepared. Taken from {source}. If it was trained "
            f"otherwise, set --model-arg preprocessing= to one of {', '.join(MODES)}, or --mean and --std."
        )
    if classifier is not None:
        outputs = classifier.settings.get("units") or classifier.settings.get("filters")
        notes.append(
            f"The last layer of {path.name}, {classifier.name} ({outputs:,} outputs), is taken for its classifier and "
            "left out."
        )
    return tuple(notes)


def side_of(graph: Graph, input_px: int | None, name: str) -> int:
    """Return the side of the input: as asked, or as the model was made.

    Raises:
        ModelError: Neither says it, or it cannot be.
    """
    side = graph.side  # also refuses what takes no square pictures
    chosen = side if input_px is None else input_px
    if chosen is None:
        raise ModelError(f"input size must be known; the model of {name} takes any. Give --input-px 224, say.")
    return checked_side(chosen, name)


def checked_side(side: int, name: str) -> int:
    """Refuse an impossible size of the input."""
    if not 1 <= side <= 4096:
        raise ModelError(f"input must be 1 to 4096 px; got {side} ({name}).")
    return side
