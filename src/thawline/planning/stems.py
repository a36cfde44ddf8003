"""Find the first convolution of a backbone, the batch norm behind it, and what happens to the input before it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.backbones.weights import read_header
from thawline.errors import ModelError, StorageError, WeightsError
from thawline.planning.source_memory import SAME, ColourMap, Floats, Stem
from thawline.scale import cache_root
from thawline.scale.disk import written_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones import Backbone

SOURCE = ".source.safetensors"
"""Takes the place of ``.safetensors`` in the name of weights, for what is kept beside them."""
_REVISION = 1
"""Raised when places are found in another way; those that are kept are then found again."""
_PLAIN = ("embedded", "timm")
"""Families whose models do nothing to their input before the first convolution."""
_PROBES = np.vstack([np.zeros(3), np.eye(3), [0.3, 0.5, 0.8]])
"""Pictures of one colour, as the module takes them: the first four give an affine map, the last checks it."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the stem of a model is."""

    conv: str
    norm: str
    """Empty if the convolution has none; what it gave in training may then be kept beside the weights."""
    own: ColourMap


def stem_of(backbone: Backbone) -> Stem | None:
    """Return the first convolution and what it gave in training; None if nothing keeps that.

    A batch norm behind it does. Of other models, so may a file beside the weights; see ``source_moments``. The place is
    kept in the cache: another process that finds it there needs no torch.

    Raises:
        ModelError: The backbone cannot be built, or the file beside its weights is damaged.
        WeightsError: Its weights do not fit.
    """
    kept = any(name.endswith(".running_mean") for name in backbone.tensors.shapes())
    if not kept and not source_path(backbone.tensors.path).is_file():
        return None
    place = place_of(backbone)
    return None if place is None else _read(backbone, place)


def place_of(backbone: Backbone) -> Place | None:
    """Find the first convolution; None if the model does not begin with one, or nobody knows what happens before.

    Names tell it of most models of timm. Of others the model is built, which takes torch.

    Raises:
        ModelError: The backbone cannot be built.
        WeightsError: Its weights do not fit.
    """
    by_names = _by_names(backbone.tensors.shapes()) if backbone.provider in _PLAIN else None
    if by_names is not None:
        return by_names
    kept = _kept(backbone)
    try:
        return _from_json(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        place = _find(backbone)
        with suppress(OSError, StorageError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(kept) as file:
                file.write(_to_json(place))
        return place


def _kept(backbone: Backbone) -> Path:
    decided_by = json.dumps([_REVISION, backbone.provider, backbone.weights_sha256, backbone.preparation.tensor_shape])
    return cache_root() / "stems" / f"{hashlib.sha256(decided_by.encode()).hexdigest()}.json"


def _to_json(place: Place | None) -> str:
    if place is None:
        return "null"
    own = {"matrix": place.own.matrix.tolist(), "offset": place.own.offset.tolist()}
    return json.dumps({"conv": place.conv, "norm": place.norm, **own})


def _from_json(text: str) -> Place | None:
    found = json.loads(text)
    if found is None:
        return None
    matrix, offset = np.array(found["matrix"], dtype=np.float64), np.array(found["offset"], dtype=np.float64)
    if matrix.shape != (len(offset), 3):
        raise ValueError(f"matrix must be ({len(offset)}, 3); got {matrix.shape}")
    return Place(str(found["conv"]), str(found["norm"]), ColourMap(matrix, offset))


def _by_names(shapes: Mapping[str, tuple[int, ...]]) -> Place | None:
    """Tell by names and shapes: ``conv1`` and ``bn1``, ``features.0`` and ``features.1``; None if ambiguous."""
    convolutions = [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 3]
    if len(convolutions) != 1 or not convolutions[0].endswith(".weight"):
        return None
    conv = convolutions[0].removesuffix(".weight")
    parent, _, own = conv.rpartition(".")
    norms = [name.removesuffix(".running_mean") for name in shapes if name.endswith(".running_mean")]
    beside = [
        norm
        for norm in norms
        if norm.rpartition(".")[0] == parent and shapes[f"{norm}.running_mean"] == shapes[convolutions[0]][:1]
    ]
    number = _number(own)
    wanted = number + 1 if own.isdigit() else number
    chosen = [norm for norm in beside if _number(norm) == wanted] if number >= 0 else beside
    return Place(conv, chosen[0], SAME) if len(chosen) == 1 else None


def _number(name: str) -> int:
    """Return the number at the end of a name; -1 if there is none."""
    digits = re.search(r"\d*$", name)
    return int(digits[0]) if digits is not None and digits[0] else -1


def _find(backbone: Backbone) -> Place | None:
    blueprint = backbone.blueprint()
    layers = list(blueprint.named_modules())  # in the order of definition; running the whole model takes far longer
    for (conv, layer), (norm, following) in pairwise(layers):
        weight, mean = getattr(layer, "weight", None), getattr(following, "running_mean", None)
        if weight is None or weight.ndim != 4:
            continue
        siblings = conv.rpartition(".")[0] == norm.rpartition(".")[0]  # else a pooling may stand between the two
        remembers = siblings and mean is not None and len(mean) == len(weight)
        own = _own(backbone, blueprint, conv) if weight.shape[1] in (1, 3) else None
        if own is None or own.matrix.shape[0] != weight.shape[1]:
            return None
        return Place(conv, norm if remembers else "", own)
    return None


def _own(backbone: Backbone, blueprint: nn.Module, conv: str) -> ColourMap | None:
    """Return what the model does to its input before the first convolution; None if that is no affine map."""
    import torch

    shape = backbone.preparation.tensor_shape
    given = torch.empty(1, *shape, device="meta")
    with suppress(RuntimeError, NotImplementedError):  # torch has no shape rule for some operator: run it
        if _reaching(blueprint, conv, given) is given:
            return SAME
    module = backbone.module()
    at = next(module.parameters())
    colours = torch.from_numpy(_PROBES).to(at.device, at.dtype)
    images = colours[:, :, None, None].expand(-1, -1, *shape[1:]).contiguous()  # (5, 3, H, W)
    seen = _reaching(module, conv, images)
    if seen is None or seen.ndim != 4 or len(seen) != len(_PROBES):
        return None
    middle = seen[:, :, seen.shape[2] // 2, seen.shape[3] // 2].double().cpu().numpy()  # (5, C); zeros at the border
    own = ColourMap((middle[1:4] - middle[0]).T, middle[0])
    straight = np.allclose(own.matrix @ _PROBES[4] + own.offset, middle[4], rtol=1e-3, atol=1e-3)
    return own if straight and bool(own.matrix.any()) else None


class _Reached(Exception):
    """Ends a forward pass at the first convolution."""


def _reaching(module: nn.Module, conv: str, images: torch.Tensor) -> torch.Tensor | None:
    """Return what the convolution takes, the very tensor, when the module is given images."""
    import torch

    caught: list[torch.Tensor] = []

    def catch(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs[0])
        raise _Reached

    hook = module.get_submodule(conv).register_forward_pre_hook(catch)
    try:
        with torch.no_grad(), suppress(_Reached):
            module(images)
    finally:
        hook.remove()
    return caught[0] if caught else None


def _read(backbone: Backbone, place: Place) -> Stem | None:
    filters = filters_at(backbone, place)
    kept = _statistics(backbone, place)
    if filters is None or kept is None or not len(filters[0]) == len(kept[1]) == len(kept[2]):
        return None
    return Stem(place.conv, kept[0], *filters, *kept[1:], place.own)


def filters_at(backbone: Backbone, place: Place) -> tuple[Floats, Floats] | None:
    """Return the first convolution's weight (O, C, h, w) and bias (O,) from the file; None if they are not there."""
    values, shapes = backbone.tensors.arrays(), backbone.tensors.shapes()
    weight, bias = (shapes.get(f"{place.conv}.{part}", ()) for part in ("weight", "bias"))
    if len(weight) != 4 or weight[1] != len(place.own.offset) or bias not in ((), weight[:1]):
        return None
    offsets = values(f"{place.conv}.bias").astype(np.float64) if bias else np.zeros(weight[0])
    return values(f"{place.conv}.weight").astype(np.float64), offsets


def _statistics(backbone: Backbone, place: Place) -> tuple[str, Floats, Floats] | None:
    """Return what keeps them, and mean (O,) and variance (O,) of what the convolution gave in training."""
    if not place.norm:
        return _kept_beside(backbone, place.conv)
    names = [f"{place.norm}.running_{kind}" for kind in ("mean", "var")]
    if not set(names) <= backbone.tensors.shapes().keys():
        return None
    values = backbone.tensors.arrays()
    mean, variance = (values(name).astype(np.float64) for name in names)
    return place.norm, mean, variance


def source_path(weights: Path) -> Path:
    """Return the path of what ``source_moments`` keeps beside a weights file."""
    return weights.with_name(weights.name.removesuffix(".safetensors") + SOURCE)


def _kept_beside(backbone: Backbone, conv: str) -> tuple[str, Floats, Floats] | None:
    path = source_path(backbone.tensors.path)
    if not path.is_file():
        return None
    from safetensors.numpy import load_file

    try:
        said = read_header(path)[0].get("__metadata__", {})
        if (said.get("weights_sha256"), said.get("conv")) != (backbone.weights_sha256, conv):
            return None
        tensors = load_file(path)
        mean, variance = (tensors[name].astype(np.float64) for name in ("mean", "variance"))
    except (WeightsError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path} must be as keep_source leaves it: {error}. Delete the file.") from error
    return path.name, mean, variance
