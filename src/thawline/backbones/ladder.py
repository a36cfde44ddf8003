"""The ladder of a backbone: every position where the thaw line can stand, from input to output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thawline.backbones.names import INPUT

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones.signature import Signature
    from thawline.records import Precision

_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Rung:
    """One position where the thaw line can stand: just above a layer.

    Everything up to and including the layer is frozen, everything after it learns.
    """

    name: str
    """The layer's own name in the model, such as ``blocks.2.1``; or that of a parameter used outside of layers, such as
    ``pos_embed``. The lowest rung is ``input``, the highest ``pooled``."""
    stage: str
    """The stage that the layer belongs to: ``stem``, ``blocks.2``, ``layer3``, ``head``."""
    kind: str
    """Class of the layer, in its own library: ``InvertedResidual``, ``Conv2d``."""
    shape: tuple[int, ...]
    """What crosses the line here, per sample: (C, H, W), (H, W, C), (T, D) or (D,); the largest, if several cross."""
    parameters: int
    """Of the layer itself, and of layers since the rung below that have no rung of their own.

    The output of such layers crosses together with something that no file could hold per sample, such as the
    patches of all images as one batch.
    """
    below: int
    """At or below this rung: frozen when the line stands here."""
    flops_below_frac: float
    """Share of the backbone's FLOPs (2 x MAC) at or below this rung."""
    bytes_per_sample: int
    """Of all tensors that cross the line here, in bf16."""
    read_at: str | None = None
    """Module whose output is read for features of this depth: the activation after the layer, or the layer itself;
    None if no module gives them."""
    read_shape: tuple[int, ...] = ()
    """Of what is read, per sample."""

    def row_bytes(self, precision: Precision) -> int:
        """What the boundary cache takes for one view of one sample here, where the layers compute in that precision."""
        if self.name == INPUT:  # kept as they are: a pixel takes one byte, the id of a token four
            return self.bytes_per_sample // _BF16_BYTES * (4 if len(self.shape) == 1 else 1)
        return self.bytes_per_sample * (2 if precision == "f32" else 1)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs of one backbone, from ``input`` (nothing frozen) to ``pooled`` (everything frozen)."""

    model: str
    layers: int
    """Layers that have parameters: rungs, with ``input`` and ``pooled`` left out."""
    parameters: int
    rungs: tuple[Rung, ...]
    signature: Signature
    """What the backbone's module takes."""
    unused: tuple[str, ...] = ()
    """Parameters above the layer where features are read; they are counted nowhere, and never learn."""
    channels_last: bool = False
    """Whether what crosses a line in three dimensions is (H, W, C), as in Swin, and not (C, H, W)."""

    def width(self, rung: Rung) -> int:
        """Length of the features read at a rung: its channels, as positions are averaged."""
        shape = rung.read_shape or rung.shape
        return shape[0] if len(shape) == 3 and not self.channels_last else shape[-1]


def build_ladder(module: nn.Module, name: str, signature: Signature) -> Ladder:
    """Find every rung of a backbone from its architecture alone: no weights are read, no memory is taken.

    Args:
        module: On the ``meta`` device, say.
        name: What the user calls the backbone.
        signature: What the module takes, and how it is traced.
    Raises:
        ModelError: The architecture cannot be cut; says why.
    """
    from thawline.backbones.graph import LayerGraph

    graph = LayerGraph(module, name, signature)
    unused: tuple[str, ...] = ()
    if signature.readout is not None:
        used = graph.parameters_below(len(graph.nodes) - 1)
        unused = tuple(name for name, parameter in graph.module.named_parameters() if parameter not in used)
    total = sum(parameter.numel() for name, parameter in module.named_parameters() if name not in unused)
    flops = graph.flops()
    rungs: list[Rung] = []
    kinds = {layer.name: layer.kind for layer in signature.library_layers(module) or ()}
    layers = [line.layer for line in graph.lines]
    named = [graph.stage_of(layer) for layer in layers]
    if any(named):
        stages = list(_stages_of_names(layers, named))
    else:
        given = {str(node.target): shape[2:4] for node, shape in graph.shapes.items()}  # (B, C, H, W) -> (H, W)
        sizes = [() if signature.channels_last(module) else given.get(layer, ()) for layer in layers]
        stages = _divided(layers, list(_stages(layers, graph.is_stem)), sizes)
    for line, stage in zip(graph.lines, stages, strict=True):
        shapes = [graph.shapes[node][1:] for node in line.crossing]  # without the batch
        is_top = line is graph.lines[-1]  # parameters that no forward pass uses are frozen with all others
        below = total if is_top else sum(parameter.numel() for parameter in graph.parameters_below(line.position))
        read_at, read_shape = graph.read_at(line)
        rung = Rung(
            name=line.layer,
            stage=stage,
            kind=kinds.get(line.layer, line.kind),
            shape=max(shapes, key=math.prod),
            parameters=below - (rungs[-1].below if rungs else 0),
            below=below,
            flops_below_frac=flops[line.position] / max(flops[-1], 1),
            bytes_per_sample=sum(map(math.prod, shapes)) * _BF16_BYTES,
            read_at=read_at or None,
            read_shape=read_shape,
        )
        rungs.append(rung)
    return Ladder(
        model=name,
        layers=sum(rung.parameters > 0 for rung in rungs[:-1]),
        parameters=total,
        rungs=tuple(rungs),
        signature=signature,
        unused=unused,
        channels_last=signature.channels_last(module),
    )


def _stages(layers: Sequence[str], is_stem: Callable[[str], object]) -> Iterator[str]:
    """Name the stage of each layer, given all of them from ``input`` to ``pooled``.

    ``blocks.2.1`` is in ``blocks.2``, ``stages.0.downsample.1`` in ``stages.0``, ``layer3.0`` in ``layer3``. A layer
    beside the stages is ``stem`` before the first of them, ``head`` after the last, and a stage of its own between.
    """
    inside = [_around(layer) for layer in layers]
    # densenet: features.conv0 and features.denseblock1.denselayer1
    beside = {stage for stage in inside if any(other.startswith(f"{stage}.") for other in inside)} | {""}
    staged = [place for place, stage in enumerate(inside) if stage not in beside and not is_stem(stage)]
    for place, (layer, stage) in enumerate(zip(layers, inside, strict=True)):
        if place in staged:
            yield stage
        elif place in (0, len(layers) - 1):
            yield layer
        elif is_stem(layer) or (staged and place < staged[0]):
            yield "stem"
        else:
            yield "head" if staged and place > staged[-1] else layer


def _stages_of_names(layers: Sequence[str], named: Sequence[str | None]) -> Iterator[str]:
    """Name the stage of each layer, given what the names of some say.

    A layer whose name says nothing is in the stage of the one before it; ``stem`` before the first of them, ``head``
    after the last.
    """
    places = [place for place, stage in enumerate(named) if stage is not None]
    stage = "stem"
    for place, (layer, own) in enumerate(zip(layers, named, strict=True)):
        stage = own or stage
        yield layer if place in (0, len(layers) - 1) else "head" if place > places[-1] else stage


def _divided(layers: Sequence[str], stages: Sequence[str], sizes: Sequence[tuple[int, ...]]) -> list[str]:
    """Divide stages whose layers are only numbered, as in VGG and torchvision's MobileNets, where the size changes.

    A part has the name of its first layer: of ``features.0`` to ``features.28``, ``features.5`` begins the second one.

    Args:
        sizes: Height and width of what each layer gives.
    """
    named = list(stages)
    for stage in set(stages):
        places = [place for place, own in enumerate(stages) if own == stage]
        if not all(layers[place].removeprefix(f"{stage}.").isdigit() for place in places):
            continue
        if len({sizes[place] for place in places}) == 1:
            continue
        first = places[0]
        for place in places:
            first = first if sizes[place] == sizes[first] else place
            named[place] = layers[first]
    return named


def _around(layer: str) -> str:
    """Name of what holds a layer: up to its first number, or else up to its last dot."""
    *parts, _ = layer.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[: first + 1])
