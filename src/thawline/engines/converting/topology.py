"""Common architectures as OpenVINO graphs without weights: filled from a weights file, they need no torch.

They serve the first fit; a bundle carries its own graphs. ``topologies.zip`` holds one entry for each architecture with
its arguments and input size: the graph in OpenVINO's XML, and for each of its constants the name of the tensor that
fills it, after batch norms are folded into the convolutions before them. ``tools/record_topologies.py`` writes it.

A test proves that a filled graph equals, bit for bit, what converting the backbone with torch gives. That holds for the
releases of timm and OpenVINO that it was recorded with; with others the bits may differ, so features from recorded
graphs have keys of their own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import lzma
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.weights import FLOATS
from thawline.engines.converting.fold import Fold
from thawline.errors import ThawlineError
from thawline.records import ImagePreparation, of_pictures
from thawline.scale.releases import release

if TYPE_CHECKING:
    import openvino as ov

    from thawline.backbones import Backbone
    from thawline.records import Preparation

logger = logging.getLogger(__name__)

ARCHIVE = Path(__file__).parent / "topologies.zip"
FORMAT = 1
MEAN, STD = "preprocessing.mean", "preprocessing.std"
"""Names of the constants that come from the preparation; no tensor of a module has such a name."""
COUNTER = "num_batches_tracked"
"""Ends the name of the only tensors that hold whole numbers; they decide no feature."""

Values = Callable[[str], NDArray[np.float32]]
"""Name of a tensor -> its values."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A constant of the graph that a tensor fills."""

    offset: int
    """Where it begins among the constants, in bytes."""
    shape: tuple[int, ...]
    tensor: str
    """Its name in the weights file, after batch norms are folded, or ``MEAN`` or ``STD``."""
    axes: tuple[int, ...] | None = None
    """Order that the axes of the tensor are transposed to; None leaves them."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A converted backbone up to some rungs, without its weights."""

    architecture: str
    model_args: Mapping[str, Any]
    input_px: tuple[int, int]
    rungs: tuple[str, ...]
    batch_size: int
    """Pictures in one run of the graph."""
    multiply_adds: int
    """Of one picture."""
    first_share: float
    """Share of the work that must stay in float32: with less, features in bfloat16 strayed when it was recorded."""
    timm: str
    openvino: str
    shapes: Mapping[str, tuple[int, ...]]
    """Name -> shape of every tensor that the weights must hold; they must hold no other."""
    folds: tuple[Fold, ...]
    fillings: tuple[Filling, ...]
    literals: tuple[tuple[int, bytes], ...]
    """(offset, bytes) of each constant that does not depend on the weights."""
    size: int
    """Bytes of all constants together."""
    xml: str

    @functools.cached_property
    def revision(self) -> str:
        """Return a digest of everything here that decides the numbers."""
        graph = asdict(replace(self, timm="", openvino="", first_share=0.0, multiply_adds=0))
        return hashlib.sha256(json.dumps(graph, sort_keys=True, default=bytes.hex).encode()).hexdigest()[:12]

    def filled(self, values: Values, preparation: Preparation) -> NDArray[np.uint8]:
        """Return all constants, (size,) bytes: exactly what ``torch.nn.utils.fusion`` makes of these tensors.

        Args:
            values: From a weights file whose tensors have ``shapes``.
        Raises:
            WeightsError: A tensor does not hold floating-point numbers.
        """
        constants = np.zeros(self.size, np.uint8)
        for offset, literal in self.literals:
            constants[offset : offset + len(literal)] = np.frombuffer(literal, np.uint8)
        folded = with_folds(values, self.folds)
        pictures = of_pictures(preparation)
        given = {MEAN: pictures.mean, STD: pictures.std}
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
        """Return the backbone as a graph in float32 that takes pixels uint8 (B, H, W, 3).

        Raises:
            WeightsError: A tensor does not hold floating-point numbers.
        """
        from thawline.scale.openvino_core import core
        from thawline.scale.openvino_import import ov

        constants = self.filled(backbone.tensors.arrays(), backbone.preparation)
        return core().read_model(self.xml.encode(), ov.Tensor(constants))


def read(archive: Path, name: str) -> Topology | None:
    """Read one entry of an archive; None if the archive has no such entry.

    Raises:
        OSError, zipfile.BadZipFile, lzma.LZMAError, ValueError, KeyError, TypeError: Absent, damaged, another format.
    """
    with zipfile.ZipFile(archive) as opened:
        if name not in opened.namelist():
            return None
        described = json.loads(opened.read(name))
    if described.pop("format") != FORMAT:
        raise ValueError(f"{name} has another format")
    described["shapes"] = {name: tuple(shape) for name, shape in described["shapes"].items()}
    described["folds"] = tuple(Fold(**fold) for fold in described["folds"])
    described["fillings"] = tuple(
        Filling(f["offset"], tuple(f["shape"]), f["tensor"], f["axes"] and tuple(f["axes"]))
        for f in described["fillings"]
    )
    described["literals"] = tuple((offset, bytes.fromhex(text)) for offset, text in described["literals"])
    for pair in ("input_px", "rungs"):
        described[pair] = tuple(described[pair])
    return Topology(**described)


def entry_name(architecture: str, model_args: Mapping[str, Any], input_px: tuple[int, int]) -> str:
    """Name the entry of the archive that holds the topology of such a backbone."""
    described = json.dumps(dict(model_args), sort_keys=True)
    arguments = f"-{hashlib.sha256(described.encode()).hexdigest()[:8]}" if model_args else ""
    return f"{architecture}-{input_px[0]}{arguments}.json"


def recorded(backbone: Backbone, rungs: Sequence[str]) -> Topology | None:
    """Return the topology that a backbone's weights fit, tensor for tensor; None if none was recorded.

    Reads only the header of the weights.
    """
    if not isinstance(backbone.preparation, ImagePreparation):
        return None
    px = backbone.preparation.input_px
    topology = _read_once(ARCHIVE, entry_name(backbone.architecture, backbone.model_args, px))
    if topology is None:
        return None
    reason = _why_not(topology, backbone, tuple(rungs))
    if reason is not None:
        logger.info("%s is converted with torch: %s.", backbone.name, reason)
        return None
    backbone.fits(topology.shapes)
    return topology


def _why_not(topology: Topology, backbone: Backbone, rungs: tuple[str, ...]) -> str | None:
    """Say why a topology must not be used; None if it may be."""
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
def _read_once(archive: Path, name: str) -> Topology | None:
    try:
        return read(archive, name)
    except (OSError, zipfile.BadZipFile, lzma.LZMAError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s in %s cannot be read (%s): this backbone is converted with torch.", name, archive, error)
        return None


def with_folds(values: Values, folds: Sequence[Fold]) -> Values:
    """Return the tensors of a module after its batch norms are folded.

    Every operation is a float32 operation of its own and rounds where torch rounds: a fused or float64 one would change
    bits.
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
