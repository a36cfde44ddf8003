"""The classes of Keras layers that are understood, and those of their settings that decide numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thawline.errors import ModelError

_CONVOLUTION: dict[str, Any] = {
    "kernel_size": None, "strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "activation": "linear",
    "use_bias": True, "data_format": "channels_last",
}  # fmt: skip
_POOLING: dict[str, Any] = {
    "pool_size": [2, 2], "strides": None, "padding": "valid", "data_format": "channels_last"
}  # fmt: skip
_GLOBAL: dict[str, Any] = {"keepdims": False, "data_format": "channels_last"}
_OPERATION: dict[str, Any] = {"args": None}

SETTINGS: dict[str, dict[str, Any]] = {
    "Activation": {"activation": None},
    "ActivityRegularization": {},
    "Add": _OPERATION,
    "AlphaDropout": {"rate": None},
    "Average": {},
    "AveragePooling2D": _POOLING,
    "BatchNormalization": {
        "axis": -1, "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True, "renorm": False,
    },
    "Concatenate": {"axis": -1},
    "Conv2D": {"filters": None, "groups": 1} | _CONVOLUTION,
    "Cropping2D": {"cropping": [[0, 0], [0, 0]], "data_format": "channels_last"},
    "CustomScaleLayer": {"scale": 1.0},
    "Dense": {"units": None, "activation": "linear", "use_bias": True},
    "DepthwiseConv2D": {"depth_multiplier": 1} | _CONVOLUTION,
    "Divide": _OPERATION,
    "Dropout": {"rate": None, "noise_shape": None},
    "ELU": {"alpha": 1.0},
    "Flatten": {"data_format": "channels_last"},
    "GetItem": _OPERATION,
    "GlobalAveragePooling2D": _GLOBAL,
    "GlobalMaxPooling2D": _GLOBAL,
    "GroupNormalization": {"groups": 32, "axis": -1, "epsilon": 0.001, "center": True, "scale": True},
    "InputLayer": {"batch_shape": None, "dtype": "float32"},
    "LayerNormalization": {
        "axis": -1, "epsilon": 0.001, "center": True, "scale": True, "rms_scaling": False,
    },
    "LayerScale": {"projection_dim": None, "init_values": 1e-6},
    "LeakyReLU": {"negative_slope": 0.3},
    "MaxPooling2D": _POOLING,
    "Maximum": _OPERATION,
    "Minimum": _OPERATION,
    "Multiply": _OPERATION,
    "Normalization": {"axis": -1, "mean": None, "variance": None, "invert": False},
    "PReLU": {"shared_axes": None},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "Rescaling": {"scale": 1.0, "offset": 0.0},
    "Reshape": {"target_shape": None},
    "ReverseChannels": {},
    "SeparableConv2D": {"filters": None, "depth_multiplier": 1} | _CONVOLUTION,
    "Softmax": {"axis": -1},
    "SpatialDropout2D": {"rate": None, "data_format": "channels_last"},
    "Stack": {"axis": -1} | _OPERATION,
    "StochasticDepth": {"drop_path_rate": 0.0},
    "Subtract": _OPERATION,
    "UpSampling2D": {"size": [2, 2], "interpolation": "nearest", "data_format": "channels_last"},
    "ZeroPadding2D": {"padding": [[1, 1], [1, 1]], "data_format": "channels_last"},
}  # fmt: skip
"""Class -> setting -> default; None where there is none."""

AUGMENTATIONS = frozenset(
    (
        "AugMix AutoContrast CutMix Equalization GaussianDropout GaussianNoise MixUp RandAugment RandomBrightness "
        "RandomColorDegeneration RandomColorJitter RandomContrast RandomElasticTransform RandomErasing RandomFlip "
        "RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization "
        "RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom Solarization"
    ).split()
)
"""Layers that do something in training only; Thawline has its own views."""
MODELS = frozenset(("Functional", "Model", "Sequential"))
"""Layers that are models of layers."""
OPERATIONS = {
    "TrueDivide": "Divide", "Divide": "Divide", "Subtract": "Subtract", "Add": "Add", "Multiply": "Multiply",
    "GetItem": "GetItem", "Stack": "Stack", "Maximum": "Maximum", "Minimum": "Minimum",
}  # fmt: skip
"""Operations between layers, by their class in Keras 3 -> how they are recorded."""
FUNCTIONS = {
    "math.truediv": "Divide", "math.divide": "Divide", "math.subtract": "Subtract", "math.add": "Add",
    "math.multiply": "Multiply", "__operators__.add": "Add", "math.maximum": "Maximum", "math.minimum": "Minimum",
    "nn.bias_add": "Add",
}  # fmt: skip
"""The same, by their names in Keras 2."""
_RENAMED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization",
            "Merge": "Add", "SyncBatchNormalization": "BatchNormalization",
            "AvgPool2D": "AveragePooling2D", "MaxPool2D": "MaxPooling2D", "Convolution2D": "Conv2D",
            "GlobalAvgPool2D": "GlobalAveragePooling2D", "GlobalMaxPool2D": "GlobalMaxPooling2D"}  # fmt: skip
_LAYOUTS = ("channels_last", None)
_IDENTITY = "Identity"
SETTINGS[_IDENTITY] = {}


def kind_of_layer(kind: str) -> str:
    """Return the class under which a layer is recorded: augmentation does nothing outside training."""
    kind = kind.rpartition(">")[2]  # registered classes are written Package>Class
    return _IDENTITY if kind in AUGMENTATIONS or kind == "Masking" else _RENAMED.get(kind, kind)


def settings_of(kind: str, config: Mapping[str, Any], name: str, *, keras_2: bool = False) -> dict[str, Any]:
    """Keep of a layer's configuration what decides numbers and is not the default.

    Args:
        kind: As ``kind_of_layer`` has it.
        config: As Keras writes it.
        name: Of the layer, for messages.
        keras_2: The file was written by Keras 2, whose ``hard_sigmoid`` is another function.
    Raises:
        ModelError: The class is not known, or a setting cannot be followed.
    """
    if kind not in SETTINGS:
        raise ModelError(
            f"layers of a Keras model must be of classes that Thawline knows; {name!r} is a {kind}. "
            "Save the part of the model that stands before it, or a model without it."
        )
    if config.get("data_format") not in _LAYOUTS:
        raise ModelError(f"Keras models must be channels_last; layer {name!r} is {config['data_format']!r}.")
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and "Quantized" in str(dtype.get("class_name")):
        raise ModelError(f"Keras models must not be quantised; layer {name!r} is. Give the model from before.")
    kept: dict[str, Any] = {}
    known = SETTINGS[kind]
    for setting, value in config.items():
        key = {"alpha": "negative_slope"}.get(setting, setting) if kind == "LeakyReLU" else setting
        if key not in known or key == "data_format":
            continue
        plain = _activation(value, name, keras_2) if key == "activation" else value
        plain = plain[0] if kind == "BatchNormalization" and key == "axis" and isinstance(plain, list) else plain
        if plain != known[key]:
            kept[key] = plain
    return kept


def _activation(value: Any, name: str, keras_2: bool) -> Any:
    """Return the name of an activation, or (class, settings) of a layer that is used as one."""
    if isinstance(value, dict):
        kind = kind_of_layer(str(value.get("class_name")))
        config = value.get("config")
        if kind == "function" and isinstance(config, str):
            value = config
        elif kind in SETTINGS and isinstance(config, dict):
            return [kind, settings_of(kind, config, name)]
        else:
            value = value.get("class_name")
    if value is None:
        return "linear"
    if not isinstance(value, str):
        raise ModelError(f"activation must be a name; layer {name!r} has {json.dumps(value, default=str)[:80]}.")
    return "hard_sigmoid_2" if keras_2 and value == "hard_sigmoid" else value.rpartition(">")[2]
