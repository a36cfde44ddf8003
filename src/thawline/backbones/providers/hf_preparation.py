"""From ``preprocessor_config.json`` to the record that every room uses; transformers is not needed for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers.hf_families import PROCESSORS
from thawline.backbones.providers.timm_preparation import preparation_from
from thawline.errors import ModelError

if TYPE_CHECKING:
    from thawline.backbones.providers.hf_families import Family, Processor
    from thawline.backbones.providers.provider import ModelAsk
    from thawline.records import ImagePreparation

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for interpolations."""
_CROPPED_BELOW_PX = 384
"""A ConvNeXt processor crops pictures below this size only; larger ones are squashed."""
_LEAST_CROP_PCT = 0.1
"""Below it, pictures would be enlarged to a size that no memory holds."""
_RESCALED = 1 / 255


@dataclass(frozen=True, slots=True)
class Prepared:
    """How pictures are prepared, and what is to be said of it."""

    preparation: ImagePreparation
    notes: tuple[str, ...]
    said: bool
    """Whether the model says with which mean and standard deviation it was trained."""


def prepared(said: Mapping[str, Any] | None, family: Family, asked: ModelAsk, name: str, where: str) -> Prepared:
    """Build the preparation that the model's processor would apply.

    Args:
        said: ``preprocessor_config.json``; None if there is none.
        family: Its usual preparation is taken then.
        asked: Overrides what is said; with another input size, the share that a crop keeps stays.
        name: Of the model, for messages.
        where: Of the file, for messages.
    Raises:
        ModelError: A value cannot be, or cannot be done.
    """
    described = said or {}
    usual = family.usual if said is None else PROCESSORS.get(_kind(described), PROCESSORS[family.processor])
    input_px, resize_px, square, notes = _sizes(described, usual, where)
    mean, std = _moments(described, usual, where)
    if asked.input_px is not None:
        resize_px, input_px = asked.input_px * resize_px // input_px, asked.input_px
    given = asked.given()
    preparation = preparation_from(
        {
            "input_size": [3, input_px, input_px],
            "crop_pct": given.get("crop_pct", 1.0),
            "interpolation": given.get("interpolation", _interpolation(described, usual, where)),
            "crop_mode": "squash" if square else "center",
            "mean": given.get("mean", mean),
            "std": given.get("std", std),
        },
        where if said is not None else name,
    )
    if asked.crop_pct is None:
        preparation = replace(preparation, resize_px=resize_px)
    if said is None:
        notes = (*notes, *_assumed(preparation, family, given))
    stated = said is not None or {"mean", "std"} <= given.keys()
    return Prepared(preparation, notes, stated)


def _kind(said: Mapping[str, Any]) -> str:
    """``ViT`` for ``ViTImageProcessorFast``, and for ``ViTFeatureExtractor`` of older files."""
    kind = said.get("image_processor_type") or said.get("feature_extractor_type") or ""
    return re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(kind))


def _sizes(said: Mapping[str, Any], usual: Processor, where: str) -> tuple[int, int, bool, tuple[str, ...]]:
    """(side of the input, side after resizing, whether both sides are resized to it, notes)"""
    side, square = _side(said.get("size"), usual, where)
    crop_pct = said.get("crop_pct") or usual.crop_pct
    if crop_pct is not None and usual.crop_pct is not None:
        if not isinstance(crop_pct, int | float) or not _LEAST_CROP_PCT <= crop_pct <= 1:
            raise ModelError(f"crop_pct must be from {_LEAST_CROP_PCT} to 1; got {crop_pct!r} ({where}).")
        return (side, int(side / crop_pct), False, ()) if side < _CROPPED_BELOW_PX else (side, side, True, ())
    if said.get("do_center_crop", usual.crop is not None):
        crop = _whole(said["crop_size"], where) if said.get("crop_size") else usual.crop or side
        if crop > side:
            raise ModelError(f"crop_size must be at most the size of {side} px; got {crop} px ({where}).")
        return crop, side, square, ()
    notes = () if square else ("Its processor cuts nothing out; Thawline takes the square in the centre of a picture.",)
    return side, side, square, notes


def _side(size: Any, usual: Processor, where: str) -> tuple[int, bool]:
    """(side, whether both sides are meant)"""
    if size is None:
        return usual.size, usual.square
    if isinstance(size, Mapping):
        if set(size) == {"shortest_edge"}:
            return _whole(size["shortest_edge"], where), False
        return _whole(size, where), True
    return _whole(size, where), usual.square


def _whole(size: Any, where: str) -> int:
    """Return the side of a square."""
    sides: list[Any] = [size.get("height"), size.get("width")] if isinstance(size, Mapping) else [size, size]
    if not all(isinstance(px, int) and 0 < px <= 4096 for px in sides) or sides[0] != sides[1]:
        raise ModelError(f"size must be one number of pixels, or equal height and width; got {size!r} ({where}).")
    return int(sides[0])


def _interpolation(said: Mapping[str, Any], usual: Processor, where: str) -> str:
    code = said.get("resample")
    if code is None:
        return usual.interpolation
    if not isinstance(code, int) or code not in _RESAMPLE:
        known = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE.items())
        raise ModelError(f"resample must be one of {known}; got {code!r} ({where}). Set --interpolation.")
    return _RESAMPLE[code]


def _moments(said: Mapping[str, Any], usual: Processor, where: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixels from 0 to 1, whatever the processor's own scale is."""
    factor = said.get("rescale_factor", _RESCALED) if said.get("do_rescale", True) else 1.0
    if not isinstance(factor, int | float) or not factor > 0:
        raise ModelError(f"rescale_factor must be above 0; got {factor!r} ({where}).")
    pair: tuple[Any, Any] = (said.get("image_mean") or usual.mean, said.get("image_std") or usual.std)
    if not said.get("do_normalize", True):
        pair = ([0.0] * 3, [1.0] * 3)
    for name, values in zip(("image_mean", "image_std"), pair, strict=True):
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
        if not numbers or len(values) != 3:
            raise ModelError(f"{name} must be three numbers; got {values!r} ({where}).")
    scale = 1.0 if factor == _RESCALED else _RESCALED / factor
    return [value * scale for value in pair[0]], [value * scale for value in pair[1]]


def _assumed(preparation: ImagePreparation, family: Family, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what was taken for want of a file, less what the user gave."""
    mean, std = (",".join(f"{value:g}" for value in values) for values in (preparation.mean, preparation.std))
    taken = {
        "mean": f"mean {mean}",
        "std": f"std {std}",
        "interpolation": f"{preparation.interpolation} interpolation",
        "input_px": f"{preparation.input_px[0]} px input",
        "crop_pct": f"crop {preparation.input_px[0] / preparation.resize_px:.3g}",
    }
    left = [key for key in taken if key not in given]
    if not left:
        return ()
    return (
        f"There is no preprocessor_config.json. Taken from the usual {family.model_type}: "
        f"{', '.join(taken[key] for key in left)}. If it was trained otherwise, set "
        f"{', '.join('--' + key.replace('_', '-') for key in left)}.",
    )
