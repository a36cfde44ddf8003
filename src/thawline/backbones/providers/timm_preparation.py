"""From timm's words for a model's input to the record that every room uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.errors import ModelError
from thawline.records import ImagePreparation

if TYPE_CHECKING:
    from thawline.backbones.weights import WeightsFile

SETTINGS = {"mean": "mean", "std": "std", "interpolation": "interpolation", "input_size": "input_px",
            "crop_pct": "crop_pct"}  # fmt: skip
"""timm's name of a setting -> Thawline's."""
_PADDED = frozenset(("timm.models.efficientnet", "timm.models.mobilenetv3", "timm.models.hardcorenas"))
"""Modules of timm whose architectures take ``pad_type``."""
_CROP_PCT = 0.875
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def preparation_from(config: Mapping[str, Any], where: str) -> ImagePreparation:
    """Build the preparation that timm's evaluation transform would apply for this configuration.

    Args:
        config: Keys of timm's ``pretrained_cfg``: input_size (3, H, W), mean, std, interpolation, crop_pct, crop_mode.
        where: Named in errors.
    Raises:
        ModelError: A value is missing or cannot be.
    Source:
        timm.data.transforms_factory.transforms_imagenet_eval: the shorter side becomes floor(H / crop_pct).
    """
    height, width = _input_px(config.get("input_size"), where)
    crop_pct = config.get("crop_pct") or _CROP_PCT
    if not (isinstance(crop_pct, int | float) and 0 < crop_pct <= 1):
        raise ModelError(f"crop_pct must be in (0, 1]; got {crop_pct!r} ({where}).")
    interpolation = config.get("interpolation") or "bicubic"
    if interpolation not in _INTERPOLATIONS:
        raise ModelError(f"interpolation must be one of {', '.join(_INTERPOLATIONS)}; got {interpolation!r} ({where}).")
    crop_mode = config.get("crop_mode") or "center"
    if crop_mode not in ("center", "squash"):
        raise ModelError(f"crop_mode must be center or squash; got {crop_mode!r} ({where}).")
    if height != width:
        raise ModelError(f"input must be square; got {height} x {width} ({where}).")
    return ImagePreparation(
        input_px=(height, width),
        resize_px=math.floor(height / crop_pct),
        interpolation=cast("Any", interpolation),
        crop_mode=cast("Any", crop_mode),
        mean=_channels("mean", config.get("mean"), where),
        std=_channels("std", config.get("std"), where),
    )


def in_three_channels(weights: WeightsFile, asked: ModelAsk) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe weights as those of a model that takes three channels, which every picture is given to a model in.

    Those of one channel are spread over three when they are loaded: then a grey picture has the same features.

    Returns:
        timm's configuration and the arguments of the constructor, with those that were asked for.
    Raises:
        ModelError: They were made for another number of channels, or another one is asked for.
    """
    config, model_args = dict(weights.pretrained_cfg), dict(weights.model_args)
    own, size = model_args.pop("in_chans", 3), config.get("input_size")
    if isinstance(size, Sequence) and len(size) == 3 and (own == 1 or size[0] == 1):
        config["input_size"] = [3, *size[1:]]
    if own not in (1, 3):
        raise ModelError(
            f"weights must be made for pictures of one or three channels; those of {weights.path} take {own!r}. "
            "Choose others."
        )
    model_args |= asked.model_args or {}
    if model_args.pop("in_chans", 3) != 3:
        raise ModelError(
            "in_chans must be 3: pictures come in three channels, grey ones too, and weights of one channel are spread "
            f"over three. Got {(asked.model_args or {})['in_chans']!r}: leave it out."
        )
    return config, model_args


def assumed(
    found: Description,
    said: Mapping[str, Any],
    taken: Mapping[str, Any],
    asked: ModelAsk,
    file: str,
    padding: str | None,
    source: str = "",
) -> tuple[str, ...]:
    """Say which settings neither the weights nor the user gave, what was taken, and which options say otherwise.

    Args:
        found: Has the preparation that was taken.
        said: What the weights say, in timm's words.
        taken: The same, and timm's defaults for what they leave out.
        file: Name of the weights.
        padding: What the convolutions take, if that was left open.
        source: Whose values were taken; by default timm's, of the architecture.
    Returns:
        One sentence or two; nothing if all was given.
    """
    given = asked.given()
    left = [key for key, ours in SETTINGS.items() if said.get(key) is None and ours not in given]
    preparation = found.preparation
    if padding is not None and "pad_type" in (asked.model_args or {}):
        padding = None
    if (not left and padding is None) or not isinstance(preparation, ImagePreparation):
        return ()
    height = preparation.input_px[0]
    values = {
        "mean": f"mean {_written(preparation.mean)}",
        "std": f"std {_written(preparation.std)}",
        "interpolation": f"{preparation.interpolation} interpolation",
        "input_size": f"{height} px input",
        "crop_pct": f"crop {taken.get('crop_pct') or _CROP_PCT:g}",
    }
    words = [values[key] for key in left]
    source = source or f"timm's {found.architecture}"
    options = [f"--{SETTINGS[key].replace('_', '-')}" for key in left]
    if padding is not None:
        words.append("padding as TensorFlow does" if padding == "same" else "padding as PyTorch does")
        options.append(f"--model-arg pad_type={'same' if padding != 'same' else chr(34) * 2}")
    return (
        f"{file} does not say how its pictures were prepared. Taken from {source}: "
        f"{', '.join(words)}. If it was trained otherwise, set {_listed(options)}.",
    )


def convolutions_pad(architecture: str, model_args: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """Return the padding that timm's defaults give an architecture: ``same``, as TensorFlow, or empty, as PyTorch.

    None if the architecture takes no ``pad_type``, or the weights describe themselves: then it is known.
    """
    if said or "pad_type" in model_args:
        return None
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    if not timm.is_model(architecture) or timm.model_entrypoint(architecture).__module__ not in _PADDED:
        return None
    return "same" if architecture.startswith("tf_") else ""


def _written(channels: Sequence[float]) -> str:
    """0.5, or 0.485,0.456,0.406: as the options take it."""
    return f"{channels[0]:g}" if len(set(channels)) == 1 else ",".join(f"{value:g}" for value in channels)


def _listed(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


def _input_px(size: object, where: str) -> tuple[int, int]:
    if isinstance(size, Sequence) and len(size) == 3 and all(isinstance(px, int) and px > 0 for px in size):
        if size[0] != 3:
            raise ModelError(f"input must have 3 channels; got {size[0]} ({where}).")
        if max(size) > 4096:
            raise ModelError(f"input must be at most 4096 px; got {size[1]} x {size[2]} ({where}).")
        return size[1], size[2]
    raise ModelError(f"input_size must be [3, height, width]; got {size!r} ({where}). Give --input-px 224.")


def _channels(name: str, value: object, where: str) -> tuple[float, float, float]:
    if isinstance(value, int | float):
        value = (value,) * 3
    numbers = isinstance(value, Sequence) and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    if not numbers or len(cast("Sequence[float]", value)) not in (1, 3):
        raise ModelError(
            f"{name} must be one number or three, one per channel; got {value!r} ({where}). Give --{name} 0.5."
        )
    channels = [float(v) for v in cast("Sequence[float]", value)]
    channels = channels * 3 if len(channels) == 1 else channels
    if name == "std" and min(channels) <= 0:
        raise ModelError(f"std must be above 0; got {value!r} ({where}).")
    return channels[0], channels[1], channels[2]
