"""Record topologies: convert an architecture twice, with random weights, and find the tensor behind each constant."""

from __future__ import annotations

import itertools
import json
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.arithmetic import one_thread
from thawline.engines.converting.batch_norm import folds
from thawline.engines.converting.conversion import traced
from thawline.engines.converting.fold import Fold
from thawline.engines.converting.rounding import work
from thawline.engines.converting.topology import COUNTER, FORMAT, MEAN, STD, Filling, Topology, entry_name, with_folds
from thawline.engines.graphs import N_STAND_INS
from thawline.errors import ModelError
from thawline.inputs.image.stand_ins import stand_ins
from thawline.inputs.image.tensors import Normalise
from thawline.randomness import generator
from thawline.scale.releases import release

_RUNGS = ("pooled",)
_LITERAL_BYTES = 4096
"""Largest constant that may be no tensor: larger ones would make the package grow; no usual architecture has any."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, so that the same topologies give the same archive."""


class NotRecordableError(ModelError):
    """The graph holds numbers that are neither those of one tensor nor independent of the weights."""


def record(
    architecture: str,
    *,
    model_args: Mapping[str, Any] | None = None,
    input_px: int | None = None,
    first_share: float = 0.0,
) -> Topology:
    """Record an architecture of timm up to its pooled features.

    Args:
        model_args: Keyword arguments of ``timm.create_model``.
        input_px: Side of the input; by default the one that timm names for the architecture.
        first_share: See ``Topology``.
    Raises:
        NotRecordableError: Says which constant of the graph is in the way.
        ModelError: timm or OpenVINO does not take the architecture.
    """
    with tempfile.TemporaryDirectory() as folder:
        draws = []
        for seed in (0, 1):
            place = Path(folder) / str(seed)
            place.mkdir()
            backbone = _drawn(architecture, model_args or {}, input_px, seed, place / "weights.safetensors")
            draws.append(_Draw.of(backbone, first_share, place))
        topology = draws[0].topology
        if topology != draws[1].topology:
            what = _difference(topology, draws[1].topology)
            raise NotRecordableError(f"{architecture} cannot be recorded: {what}.")
        for draw in draws:
            filled = topology.filled(draw.backbone.tensors.arrays(), draw.backbone.preparation)
            if filled.tobytes() != draw.constants:
                raise NotRecordableError(
                    f"{architecture} cannot be recorded: filled in, it is not the same to the bit."
                )
    return topology


def write_archive(topologies: Iterable[Topology], path: Path) -> None:
    """Write topologies as the one archive that ``topology.read`` reads; every entry is compressed by itself."""
    with zipfile.ZipFile(path, "w") as archive:
        for topology in topologies:
            described = {"format": FORMAT} | asdict(topology)
            text = json.dumps(described, separators=(",", ":"), default=bytes.hex)
            name = entry_name(topology.architecture, topology.model_args, topology.input_px)
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_LZMA)


def _difference(one: Topology, other: Topology) -> str:
    """Say in words how the topologies of two draws differ."""
    if one.xml != other.xml:
        return "its graph depends on its weights"
    if one.folds != other.folds:
        return "which batch norms can be folded depends on its weights"
    strays = [len(numbers) for offset, numbers in one.literals if (offset, numbers) not in other.literals]
    return f"{len(strays)} constants of up to {max(strays, default=0)} bytes are computed from its weights"


@dataclass(frozen=True, slots=True, eq=False)
class _Draw:
    """An architecture with one set of random weights, and what converting it shows."""

    backbone: Backbone
    constants: bytes
    topology: Topology

    @classmethod
    def of(cls, backbone: Backbone, first_share: float, folder: Path) -> _Draw:
        with one_thread(torch.device("cpu")):
            model, _ = traced(backbone, _RUNGS)
            folded = _folds(backbone)
        batch_size = int(model.get_parameters()[0].get_output_shape(0)[0])
        for number, node in enumerate(
            model.get_ordered_ops()
        ):  # the converter numbers its names from process to process
            node.set_friendly_name(f"n{number}")
        ov.save_model(model, folder / "graph.xml", compress_to_fp16=False)
        graph, constants = _compact(folder / "graph.xml"), (folder / "graph.bin").read_bytes()
        fillings, literals = _origins(backbone, folded, graph, constants)
        topology = Topology(
            architecture=backbone.architecture,
            model_args=backbone.model_args,
            input_px=backbone.preparation.input_px,
            rungs=_RUNGS,
            batch_size=batch_size,
            multiply_adds=work(model) // batch_size,
            first_share=first_share,
            timm=release("timm"),
            openvino=release("openvino"),
            shapes=backbone.tensors.shapes(),
            folds=folded,
            fillings=fillings,
            literals=literals,
            size=len(constants),
            xml=ET.tostring(graph, encoding="unicode"),
        )
        return cls(backbone, constants, topology)


def _drawn(architecture: str, model_args: Mapping[str, Any], input_px: int | None, seed: int, path: Path) -> Backbone:
    """Open an architecture with random weights and a random preparation: no two numbers are equal by accident."""
    timm = import_timm()
    model = timm.create_model(architecture, num_classes=0, **model_args)
    model.load_state_dict({name: _tensor(name, tensor, seed) for name, tensor in model.state_dict().items()})
    side = input_px or timm.get_pretrained_cfg(architecture).input_size[1]
    _settle(model, (side, side), seed)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    described = timm.get_pretrained_cfg(architecture).to_dict()
    save_file(tensors, path, {"architecture": architecture, "pretrained_cfg": json.dumps(described)})
    mean, std = generator(seed, "recording", "preprocessing").uniform(0.4, 0.6, (2, 3)).tolist()
    name = f"timm/{architecture}@{path}"
    return open_backbone(name, model_args=model_args, input_px=input_px, mean=tuple(mean), std=tuple(std))


def _tensor(name: str, like: torch.Tensor, seed: int) -> torch.Tensor:
    """Draw numbers such as training might leave."""
    if not like.is_floating_point():
        return like.clone()
    draws, shape = generator(seed, "recording", name), tuple(like.shape)
    if name.endswith("bias"):
        values = 0.2 * draws.standard_normal(shape)
    elif len(shape) < 2:  # scales
        values = draws.uniform(0.5, 1.5, shape)
    else:
        values = draws.standard_normal(shape) * (1.4 / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(values, np.float32))


def _settle(model: nn.Module, input_px: tuple[int, int], seed: int) -> None:
    """Give batch norms the statistics of pictures, in place; otherwise activations grow or vanish layer by layer."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None]
    for norm in norms:
        norm.momentum = 1.0
    pictures = torch.from_numpy(stand_ins(N_STAND_INS, input_px, seed=seed)).permute(
        0, 3, 1, 2
    )  # (B, H, W, 3) -> (B, 3, H, W)
    with one_thread(torch.device("cpu")), torch.no_grad():
        model.train()(pictures.float() / 127.5 - 1)
    for norm in norms:  # a channel that hardly varies would blow up rounding errors
        variance = cast("torch.Tensor", norm.running_var)
        variance += 0.2 * variance.mean() + 1e-3


def _folds(backbone: Backbone) -> tuple[Fold, ...]:
    normalise = Normalise(backbone.preparation, torch.device("cpu"))
    images = normalise(torch.from_numpy(stand_ins(2, backbone.preparation.input_px)))
    return folds(backbone.module(), images, keep=_RUNGS)


def _compact(path: Path) -> ET.Element:
    """Read OpenVINO's XML without the remarks on how it was made and without the names of tensors."""
    graph = ET.parse(path).getroot()
    graph.set("name", "recorded")
    for parent in graph.iter():
        parent.text, parent.tail = (parent.text or "").strip() or None, None
        parent.attrib.pop("names", None)
        for child in [child for child in parent if child.tag in ("rt_info", "meta_data")]:
            parent.remove(child)
    return graph


def _constants(graph: ET.Element) -> Iterator[tuple[int, int, str, tuple[int, ...]]]:
    """Yield (offset, bytes, element type, shape) of every constant."""
    for data in graph.iterfind("./layers/layer[@type='Const']/data"):
        shape = data.attrib["shape"]
        dims = tuple(int(n) for n in shape.split(",")) if shape else ()
        yield int(data.attrib["offset"]), int(data.attrib["size"]), data.attrib["element_type"], dims


def _origins(
    backbone: Backbone, folded: tuple[Fold, ...], graph: ET.Element, constants: bytes
) -> tuple[tuple[Filling, ...], tuple[tuple[int, bytes], ...]]:
    """Find the tensor behind each constant; return the others as (offset, bytes)."""
    tensors = _Tensors(backbone, folded)
    fillings, literals = set(), set()
    for offset, size, kind, shape in _constants(graph):
        stored = constants[offset : offset + size]
        found = tensors.find(np.frombuffer(stored, np.float32).reshape(shape)) if kind == "f32" and size else None
        if found is not None:
            fillings.add(Filling(offset, shape, *found))
        elif size <= _LITERAL_BYTES:
            literals.add((offset, stored))
        else:
            described = f"{kind} {'x'.join(map(str, shape))}"
            raise NotRecordableError(
                f"{backbone.architecture} cannot be recorded: a constant {described} of its graph is none of its "
                "tensors."
            )
    return tuple(sorted(fillings, key=lambda filling: (filling.offset, filling.shape))), tuple(sorted(literals))


class _Tensors:
    """All that may fill a constant: tensors of the module after batch norms are folded, mean and standard deviation."""

    def __init__(self, backbone: Backbone, folded: tuple[Fold, ...]) -> None:
        values = with_folds(backbone.tensors.arrays(), folded)
        names = {name for name in backbone.tensors.shapes() if not name.endswith(COUNTER)}
        names |= {f"{fold.conv}.bias" for fold in folded}
        tensors = {name: values(name) for name in names}
        tensors[MEAN], tensors[STD] = (
            np.array(numbers, np.float32) for numbers in (backbone.preparation.mean, backbone.preparation.std)
        )
        self._by_first: dict[tuple[int, float], list[tuple[str, NDArray[np.float32]]]] = defaultdict(list)
        for name, tensor in sorted(tensors.items()):
            self._by_first[tensor.size, float(tensor.flat[0])].append((name, tensor))

    def find(self, constant: NDArray[np.float32]) -> tuple[str, tuple[int, ...] | None] | None:
        """Return the name of the tensor behind a constant and how its axes are transposed; None if there is none."""
        once = constant
        if constant.ndim and bool((constant == constant[:1]).all()):
            once = constant[:1]  # repeated for each picture
        for name, tensor in self._by_first[once.size, float(once.flat[0])]:
            if np.array_equal(tensor.ravel(), once.ravel()):
                return name, None
            for axes in itertools.permutations(range(tensor.ndim)):
                if np.array_equal(tensor.transpose(axes).ravel(), once.ravel()):
                    return name, axes
        return None
