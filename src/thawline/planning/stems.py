"""Find the first convolution of a backbone, the batch norm behind it, and what happens to the input before it."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.errors import StorageError
from thawline.planning.source_memory import SAME, ColourMap, Stem
from thawline.scale import cache_root
from thawline.scale.disk import written_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones import Backbone

_REVISION = 1
"""Raised when places are found in another way; those that are kept are then found again."""
_PROBES = np.vstack([np.zeros(3), np.eye(3), [0.3, 0.5, 0.8]])
"""Pictures of one colour, as the module takes them: the first four give an affine map, the last checks it."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the stem of a model is."""

    conv: str
    norm: str
    own: ColourMap


def stem_of(backbone: Backbone) -> Stem | None:
    """Return the first convolution and its batch norm; None if the model has none, or does not begin with them.

    The place is kept in the cache: another process that finds it there needs no torch.

    Raises:
        ModelError: The backbone cannot be built.
        WeightsError: Its weights do not fit.
    """
    kept = _kept(backbone)
    try:
        place = _from_json(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        place = _find(backbone)
        with suppress(OSError, StorageError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(kept) as file:
                file.write(_to_json(place))
    return None if place is None else _read(backbone, place)


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


def _find(backbone: Backbone) -> Place | None:
    blueprint = backbone.blueprint()
    layers = list(blueprint.named_modules())  # in the order of definition; running the whole model takes far longer
    for (conv, layer), (norm, following) in pairwise(layers):
        weight, mean = getattr(layer, "weight", None), getattr(following, "running_mean", None)
        if weight is None or weight.ndim != 4:
            continue
        siblings = conv.rpartition(".")[0] == norm.rpartition(".")[0]  # else a pooling may stand between the two
        fits = weight.shape[1] in (1, 3) and mean is not None and len(mean) == len(weight)
        own = _own(backbone, blueprint, conv) if siblings and fits else None
        return None if own is None or own.matrix.shape[0] != weight.shape[1] else Place(conv, norm, own)
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
    values, shapes = backbone.tensors.arrays(), backbone.tensors.shapes()
    if not {f"{place.conv}.weight", f"{place.norm}.running_mean", f"{place.norm}.running_var"} <= shapes.keys():
        return None
    weight = values(f"{place.conv}.weight").astype(np.float64)
    bias = values(f"{place.conv}.bias") if f"{place.conv}.bias" in shapes else np.zeros(len(weight))
    mean, variance = (values(f"{place.norm}.running_{kind}").astype(np.float64) for kind in ("mean", "var"))
    right = weight.ndim == 4 and weight.shape[1] == len(place.own.offset)
    if not right or not len(weight) == len(mean) == len(variance) == len(bias):
        return None
    return Stem(place.conv, place.norm, weight, bias.astype(np.float64), mean, variance, place.own)
