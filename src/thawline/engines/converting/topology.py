"""Common architectures as OpenVINO has them, recorded without weights: filled from a file, they need no torch.

``topologies/`` holds one file for each architecture, arguments and input size: the graph in OpenVINO's XML, and for
each of its constants the tensor of the weights file that it is, batch norms folded into the convolutions before them.
``recording`` writes them. What comes out is, bit for bit, what converting the backbone with torch gives where timm and
OpenVINO are the recorded releases; a test proves it. Where they are others it may not be: so features that came this
way have keys of their own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import lzma
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.weights import FLOATS
from thawline.engines.converting.fold import Fold
from thawline.errors import ThawlineError
from thawline.scale.releases import release

if TYPE_CHECKING:
    import openvino as ov

    from thawline.backbones import Backbone
    from thawline.records import Preparation

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "topologies"
FORMAT = 1
MEAN, STD = "preprocessing.mean", "preprocessing.std"
"""Constants that come from the preparation; no tensor of a module has such a name."""
COUNTER = "num_batches_tracked"
"""Ends the name of the one kind of tensor that is a whole number; nothing is computed with it."""

Values = Callable[[str], NDArray[np.float32]]
"""Name of a tensor -> its values."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A constant of the graph that is a tensor."""

    offset: int
    """Where it begins among the constants, in bytes."""
    shape: tuple[int, ...]
    tensor: str
    """Its name in the weights file, after batch norms are folded, or ``MEAN`` or ``STD``."""
    axes: tuple[int, ...] | None = None
    """The order that the axes of the tensor are brought to; None as they are."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A backbone up to some rungs, as converted, without its weights."""

    architecture: str
    model_args: Mapping[str, Any]
    input_px: tuple[int, int]
    rungs: tuple[str, ...]
    batch_size: int
    """Pictures in one run of the graph."""
    multiply_adds: int
    """Of one picture."""
    first_share: float
    """Of the work; with less in float32, features in bfloat16 strayed when it was recorded."""
    timm: str
    openvino: str
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor that the weights must have, and no other."""
    folds: tuple[Fold, ...]
    fillings: tuple[Filling, ...]
    literals: tuple[tuple[int, bytes], ...]
    """(offset, bytes) of constants that do not depend on the weights."""
    size: int
    """Bytes of all constants together."""
    xml: str

    @functools.cached_property
    def revision(self) -> str:
        """Digest of what decides the numbers."""
        graph = asdict(replace(self, timm="", openvino="", first_share=0.0, multiply_adds=0))
        return hashlib.sha256(json.dumps(graph, sort_keys=True, default=bytes.hex).encode()).hexdigest()[:12]

    def filled(self, values: Values, preparation: Preparation) -> NDArray[np.uint8]:
        """All constants, (size,) bytes: exactly what ``torch.nn.utils.fusion`` would make of these tensors.

        Args:
            values: Of a weights file whose tensors have ``shapes``.
        Raises:
            WeightsError: A tensor does not hold floating-point numbers.
        """
        constants = np.zeros(self.size, np.uint8)
        for offset, literal in self.literals:
            constants[offset : offset + len(literal)] = np.frombuffer(literal, np.uint8)
        folded = with_folds(values, self.folds)
        given = {MEAN: preparation.mean, STD: preparation.std}
        for filling in self.fillings:
            name = filling.tensor
            tensor = np.array(given[name], np.float32) if name in given else folded(name)
            if filling.axes is not None:
                tensor = tensor.transpose(filling.axes)
            n = math.prod(filling.shape)
            tensor = np.broadcast_to(tensor.reshape(filling.shape) if tensor.size == n else tensor, filling.shape)
            place = constants[filling.offset : filling.offset + 4 * n].view(np.float32)
            place.reshape(filling.shape)[...] = tensor
        return constants

    def graph(self, backbone: Backbone) -> ov.Model:
        """The backbone as a graph in float32, from pixels uint8 (B, H, W, 3).

        Raises:
            WeightsError: A tensor does not hold floating-point numbers.
        """
        import openvino as ov

        from thawline.engines.openvino_core import core

        constants = self.filled(backbone.tensors.arrays(), backbone.preparation)
        return core().read_model(self.xml.encode(), ov.Tensor(constants))

    def write(self, folder: Path) -> Path:
        """Write it where ``recorded`` finds it."""
        described = {"format": FORMAT} | asdict(self)
        text = json.dumps(described, separators=(",", ":"), default=bytes.hex)
        path = folder / file_name(self.architecture, self.model_args, self.input_px)
        path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        return path


def read(path: Path) -> Topology:
    """Read what ``Topology.write`` wrote.

    Raises:
        OSError, ValueError, KeyError, TypeError: It is not there, or of another format.
    """
    described = json.loads(lzma.decompress(path.read_bytes()))
    if described.pop("format") != FORMAT:
        raise ValueError(path)
    described["shapes"] = {name: tuple(shape) for name, shape in described["shapes"].items()}
    described["folds"] = tuple(Fold(**fold) for fold in described["folds"])
    described["fillings"] = tuple(
        Filling(f["offset"], tuple(f["shape"]), f["tensor"], f["axes"] and tuple(f["axes"]))
        for f in described["fillings"]
    )
    described["literals"] = tuple((offset, bytes.fromhex(text)) for offset, text in described["literals"])
    for name in ("input_px", "rungs"):
        described[name] = tuple(described[name])
    return Topology(**described)


def file_name(architecture: str, model_args: Mapping[str, Any], input_px: tuple[int, int]) -> str:
    """Where the topology of such a backbone lies."""
    described = json.dumps(dict(model_args), sort_keys=True)
    arguments = f"-{hashlib.sha256(described.encode()).hexdigest()[:8]}" if model_args else ""
    return f"{architecture}-{input_px[0]}{arguments}.json.xz"


def recorded(backbone: Backbone, rungs: Sequence[str]) -> Topology | None:
    """The topology of a backbone, where there is one that its weights fit, tensor for tensor; else None.

    Only headers are read, so that whoever asks later is told the same.
    """
    if not re.fullmatch(r"\w+", backbone.architecture):
        return None
    px = backbone.preparation.input_px
    topology = _read_once(FOLDER / file_name(backbone.architecture, backbone.model_args, px))
    if topology is None:
        return None
    reason = _why_not(topology, backbone, tuple(rungs))
    if reason is not None:
        logger.info("%s is converted with torch: %s.", backbone.name, reason)
        return None
    return topology


def _why_not(topology: Topology, backbone: Backbone, rungs: tuple[str, ...]) -> str | None:
    """Why a topology must not be used; None where it may."""
    if rungs != topology.rungs:
        return f"{', '.join(topology.rungs)} alone is recorded"
    if dict(topology.model_args) != backbone.model_args:
        return "other settings are recorded"
    if _numbers(release("timm"))[:2] != _numbers(topology.timm)[:2]:
        return f"it was recorded with timm {topology.timm}"
    if _numbers(release("openvino")) < _numbers(topology.openvino)[:2]:
        return f"it was recorded with OpenVINO {topology.openvino}"
    try:
        entries = backbone.tensors.entries()
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        kinds = {entry["dtype"] for name, entry in entries.items() if not name.endswith(COUNTER)}
    except (ThawlineError, LookupError, TypeError, ValueError) as error:  # a header may hold anything
        return str(error)
    if shapes != topology.shapes:
        return "the weights do not fit the architecture"
    return None if kinds <= FLOATS.keys() else "the weights are no floating-point numbers"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


@functools.lru_cache(maxsize=8)
def _read_once(path: Path) -> Topology | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        logger.warning("%s cannot be read (%s): this backbone is converted with torch.", path, error)
        return None


def with_folds(values: Values, folds: Sequence[Fold]) -> Values:
    """The tensors of a module after its batch norms were folded.

    Rounded where torch rounds, so that every bit is the same: in float32, and never two operations at once.
    """
    of = {fold.conv: fold for fold in folds}

    def value(name: str) -> NDArray[np.float32]:
        conv, _, kind = name.rpartition(".")
        fold = of.get(conv)
        if fold is None:
            return values(name)
        scale = np.float32(1) / np.sqrt(values(f"{fold.norm}.running_var") + np.float32(fold.eps))
        gamma = _or(values, f"{fold.norm}.weight", np.ones_like(scale))
        if kind == "weight":
            weight = values(name)
            scaled: NDArray[np.float32] = weight * (gamma * scale).reshape(-1, *[1] * (weight.ndim - 1))
            return scaled
        bias = _or(values, name, np.zeros_like(scale))
        beta = _or(values, f"{fold.norm}.bias", np.zeros_like(scale))
        shifted: NDArray[np.float32] = (bias - values(f"{fold.norm}.running_mean")) * scale * gamma + beta
        return shifted

    return value


def _or(values: Values, name: str, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return values(name)
    except KeyError:  # a layer without it
        return otherwise
