"""How the models of ``keras.applications`` were trained to see pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from thawline.backbones.providers.provider import ModelAsk
from thawline.errors import ModelError
from thawline.records import ImagePreparation


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """A mode of Keras's ``preprocess_input``, in words of values in 0..1."""

    mean: tuple[float, float, float]
    """In the order of RGB."""
    std: tuple[float, float, float]
    reverse: bool = False
    """Whether the model then takes BGR."""


_BYTE = 1 / 255
MODES = {
    "caffe": Preprocessing((123.68 / 255, 116.779 / 255, 103.939 / 255), (_BYTE,) * 3, reverse=True),
    "tf": Preprocessing((0.5,) * 3, (0.5,) * 3),
    "torch": Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": Preprocessing((0.0,) * 3, (_BYTE,) * 3),
    "0..1": Preprocessing((0.0,) * 3, (1.0,) * 3),
}
"""Name of a mode -> what it does. ``none``: the model takes 0..255, and has its own layers for the rest."""


@dataclass(frozen=True, slots=True)
class Application:
    """A model of ``keras.applications``."""

    px: int
    """Side of the input for which its weights were trained."""
    mode: str
    """Of ``preprocess_input``."""
    beginning: str
    """Of the name that the model has in Keras."""


APPLICATIONS = {
    **{f"ConvNeXt{size}": Application(224, "none", f"convnext_{size.lower()}")
       for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    **{f"DenseNet{n}": Application(224, "torch", f"densenet{n}") for n in (121, 169, 201)},
    **{f"EfficientNetB{n}": Application(px, "none", f"efficientnetb{n}")
       for n, px in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    **{f"EfficientNetV2{size}": Application(px, "none", f"efficientnetv2-{size.lower()}")
       for size, px in (("B0", 224), ("B1", 240), ("B2", 260), ("B3", 300), ("S", 384), ("M", 480), ("L", 480))},
    "InceptionResNetV2": Application(299, "tf", "inception_resnet_v2"),
    "InceptionV3": Application(299, "tf", "inception_v3"),
    "MobileNet": Application(224, "tf", "mobilenet_"),
    "MobileNetV2": Application(224, "tf", "mobilenetv2_"),
    "MobileNetV3Large": Application(224, "none", "MobileNetV3Large"),
    "MobileNetV3Small": Application(224, "none", "MobileNetV3Small"),
    "NASNetLarge": Application(331, "tf", "NASNet"),
    "NASNetMobile": Application(224, "tf", "NASNet"),
    **{f"ResNet{n}": Application(224, "caffe", f"resnet{n}") for n in (50, 101, 152)},
    **{f"ResNet{n}V2": Application(224, "tf", f"resnet{n}v2") for n in (50, 101, 152)},
    "VGG16": Application(224, "caffe", "vgg16"),
    "VGG19": Application(224, "caffe", "vgg19"),
    "Xception": Application(299, "tf", "xception"),
}  # fmt: skip
"""Names of ``keras.applications``, as of Keras 3.15."""

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def preparation_of(mode: str, side: int, asked: ModelAsk, where: str) -> ImagePreparation:
    """Build the preparation of a model.

    Keras resizes both sides to the model's input, bilinearly, which is what ``image_dataset_from_directory`` and
    ``load_img`` do and what people train and predict with. Nothing is cropped unless that is asked for.

    Args:
        mode: One of ``MODES``.
        side: Of the input, in pixels.
        asked: Overrides it.
        where: Named in errors.
    Raises:
        ModelError: A value cannot be.
    """
    crop_pct = 1.0 if asked.crop_pct is None else asked.crop_pct
    if not 0 < crop_pct <= 1:
        raise ModelError(f"crop_pct must be in (0, 1]; got {crop_pct!r} ({where}).")
    interpolation: Any = asked.interpolation or "bilinear"
    if interpolation not in _INTERPOLATIONS:
        raise ModelError(f"interpolation must be one of {', '.join(_INTERPOLATIONS)}; got {interpolation!r} ({where}).")
    known = MODES[mode]
    std = known.std if asked.std is None else _channels(asked.std)
    if min(std) <= 0:
        raise ModelError(f"std must be above 0; got {asked.std!r} ({where}).")
    return ImagePreparation(
        input_px=(side, side),
        resize_px=math.floor(side / crop_pct),
        interpolation=interpolation,
        crop_mode="squash",
        mean=known.mean if asked.mean is None else _channels(asked.mean),
        std=std,
    )


def _channels(value: float | tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (float(value),) * 3 if isinstance(value, int | float) else map(float, value)
    return first, second, third


def application_named(names: list[str]) -> str | None:
    """Return the application that a model within a user's model is, by the names that Keras gives them."""
    for name in names:
        fitting = [
            (len(known.beginning), model) for model, known in APPLICATIONS.items() if name.startswith(known.beginning)
        ]
        if fitting:
            return max(fitting)[1]
    return None
