"""Models of ``keras.applications`` with random weights, as Keras builds, runs and saves them."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thawline.backbones.providers.keras.applications import NASNET_MOBILE, import_keras

PREPROCESSING = {
    "ConvNeXt": "convnext", "DenseNet": "densenet", "EfficientNetB": "efficientnet",
    "EfficientNetV2": "efficientnet_v2",
    "InceptionResNetV2": "inception_resnet_v2", "InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3", "MobileNet": "mobilenet", "NASNet": "nasnet", "ResNet50V2": "resnet_v2",
    "ResNet101V2": "resnet_v2", "ResNet152V2": "resnet_v2", "ResNet": "resnet", "VGG16": "vgg16", "VGG19": "vgg19",
    "Xception": "xception",
}  # fmt: skip
"""Beginning of a model's name -> Keras's module that has its ``preprocess_input``; the first that fits counts."""


def keras_or_skip() -> Any:
    """Return Keras on the torch backend; skip the test without it."""
    for library in ("keras", "h5py"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install thawline[keras]")
    return import_keras("keras")


def built(model: str, px: int, **args: Any) -> Any:
    """Build a model as Keras does, by default without its top and pooled."""
    keras = keras_or_skip()
    settings = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": (px, px, 3)} | args
    build = getattr(keras.applications, model)
    if model == "NASNetMobile":  # which refuses the torch backend
        build = importlib.import_module("keras.src.applications.nasnet").NASNet
        settings = NASNET_MOBILE | settings
    return build(**settings)


def application(model: str, px: int, **args: Any) -> Any:
    """Build a model and give it weights under which pictures are told apart; always the same."""
    keras_model = shaken(built(model, px, **args))
    norms = [layer for layer in keras_model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.momentum = 0.0
    keras_model(preprocessed(model, pictures(8, px)), training=True)  # statistics of what the weights really give
    for layer in norms:
        layer.momentum = 0.99
        layer.moving_variance.assign(layer.moving_variance + 1e-3)
    return keras_model


def shaken(model: Any) -> Any:
    """Give a Keras model random weights, and its normalisations random scales and shifts."""
    draw = np.random.default_rng(0)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.path.rpartition("/")[2]
        if name in ("count", "mean", "variance") or "seed" in name or "moving" in name:
            continue
        if len(shape) > 1:
            fan = int(np.prod(shape[:2] if "depthwise" in variable.path else shape[:-1]))
            values = draw.normal(0, (2 / fan) ** 0.5, shape)
        else:
            values = draw.uniform(0.5, 1.5, shape) if name in ("gamma", "variable") else draw.normal(0, 0.1, shape)
        variable.assign(values.astype(np.float32))
    return model


def pictures(n: int, px: int) -> NDArray[np.float32]:
    """Pictures of coloured squares and noise, 0 to 255, (n, px, px, 3); always the same."""
    draw = np.random.default_rng(1)
    squares = draw.integers(0, 200, (n, 4, 4, 3)).repeat(-(-px // 4), axis=1).repeat(-(-px // 4), axis=2)
    return (squares[:, :px, :px] + draw.integers(0, 56, (n, px, px, 3))).astype(np.float32)


def preprocessed(name: str, images: NDArray[np.float32]) -> Any:
    """Prepare pictures as Keras does for a model."""
    module = next(module for beginning, module in PREPROCESSING.items() if name.startswith(beginning))
    return importlib.import_module(f"keras.applications.{module}").preprocess_input(images.copy())


def keras_features(keras_model: Any, name: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what Keras makes of pictures with its own preprocessing, in inference mode."""
    return plain(keras_model(preprocessed(name, images), training=False))


def plain(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array


def saved(model: Any, path: Path) -> Path:
    """Save a model, or its weights alone if the name ends in ``.weights.h5``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy, about how Keras converts torch's tensors
        if path.name.endswith(".weights.h5"):
            model.save_weights(path)
        else:
            model.save(path)
    return path
