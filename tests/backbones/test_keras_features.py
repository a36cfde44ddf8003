"""Models of Keras as torch modules: what they compute, count, cut and learn is what Keras does."""

from __future__ import annotations

import copy
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.keras_models import application, built, keras_features, keras_or_skip, pictures, saved
from torch.nn.modules.batchnorm import _NormBase

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.cut import cut
from thawline.backbones.providers.keras import library_layers
from thawline.backbones.providers.keras.layers import make
from thawline.backbones.providers.keras.preparation import APPLICATIONS
from thawline.backbones.watch import FreezeWatch

SMALL = {"MobileNet": (32, {"alpha": 0.25}), "MobileNetV3Small": (33, {"minimalistic": True, "alpha": 0.75})}
"""Models of the first tier -> side of the input, and arguments of the constructor."""
SIDES = {"InceptionResNetV2": 80, "InceptionV3": 79, "Xception": 72, "NASNetMobile": 40, "NASNetLarge": 48}
"""Sides that are not 64 in the second tier; odd ones meet the paddings that Keras puts unevenly."""
FORMATS = (".h5", ".keras")


def prepared(backbone: Backbone, images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) of 0 to 255 -> normalised (B, 3, H, W)"""
    preparation = backbone.preparation
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preparation.mean, preparation.std))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std


def features(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return backbone.module()(prepared(backbone, images)).numpy()


def same(found: np.ndarray, expected: np.ndarray, *, rounding: float = 0.0) -> None:
    """Compare within 1e-4, or where float32 itself rounds more than that, within thrice its rounding, at most 1e-3."""
    assert found.shape == expected.shape
    largest = float(np.abs(expected).max())
    assert float(np.abs(found - expected).max()) <= min(max(1e-4 * largest, 3 * rounding), 1e-3 * largest)
    assert float(expected.std(0).max()) > 1e-3 * float(np.abs(expected).max())  # pictures are told apart


def rounding(backbone: Backbone, images: np.ndarray) -> float:
    """Largest difference between float32 and float64; it grows with depth where weights are random."""
    with torch.no_grad():
        exact = copy.deepcopy(backbone.module()).double()(prepared(backbone, images).double()).numpy()
    return float(np.abs(features(backbone, images) - exact).max())


def check_application(model: str, px: int, args: dict, path: Path) -> None:
    keras_model = application(model, px, **args)
    images = pictures(2, px)
    expected = keras_features(keras_model, model, images)
    opened = tl.open_backbone(f"keras/{model}@{saved(keras_model, path)}", input_px=px, model_args=args or None)
    same(features(opened, images), expected, rounding=rounding(opened, images))
    layers = library_layers(opened.module())
    assert sum(layer.parameters for layer in layers) == keras_model.count_params()
    assert len(layers) == len(keras_model.layers) - 1  # Thawline adds the pooling to what has no top
    check_cuts(opened, px)
    check_step(opened, px)


def check_cuts(backbone: Backbone, px: int) -> None:
    samples = torch.rand(3, 3, px, px, generator=torch.Generator().manual_seed(0))
    rungs = [rung.name for rung in backbone.ladder.rungs]
    with torch.no_grad():
        whole = backbone.module()(samples)
        for place in (len(rungs) // 5, len(rungs) // 2, len(rungs) - 2):
            halves = cut(backbone, rungs[place])
            found = halves.suffix(*halves.prefix(samples))
            assert float((found - whole).abs().max()) <= 1e-5 * float(whole.abs().max()), rungs[place]


def check_step(backbone: Backbone, px: int) -> None:
    """Train above a middle line: everything above moves, nothing below does."""
    rungs = [rung.name for rung in backbone.ladder.rungs]
    module = backbone.module()
    halves = cut(backbone, rungs[len(rungs) // 2])
    for layer in halves.suffix.modules():
        layer.train(not isinstance(layer, _NormBase))
    watch = FreezeWatch("above the middle", module, thawed=halves.suffix_parameter_names)
    learning = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=0.01)
    pooled = halves.suffix(*halves.prefix(torch.rand(4, 3, px, px, generator=torch.Generator().manual_seed(0))))
    (pooled * torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    watch.saw_gradients()
    optimiser.step()
    receipt = watch.issue()
    assert receipt.status == "clean"
    assert set(receipt.thawed) == set(halves.suffix_parameter_names)
    assert receipt.moved


@pytest.mark.parametrize(("model", "form"), list(zip(SMALL, FORMATS, strict=True)))
def test_features_are_those_of_keras(model: str, form: str, tmp_path: Path) -> None:
    px, args = SMALL[model]
    check_application(model, px, args, tmp_path / f"saved{form}")


@pytest.mark.slow
@pytest.mark.parametrize("model", APPLICATIONS)
def test_features_of_every_model_are_those_of_keras(model: str, tmp_path: Path) -> None:
    check_application(model, SIDES.get(model, 64), {}, tmp_path / "saved.weights.h5")


@pytest.mark.slow
@pytest.mark.parametrize("model", APPLICATIONS)
def test_every_model_is_counted_as_keras_counts(model: str) -> None:
    px = SIDES.get(model, 224)
    keras = keras_or_skip()
    with keras.device("meta"):
        keras_model = built(model, px, pooling=None)
    layers = library_layers(tl.open_backbone(f"keras/{model}", input_px=px, architecture_only=True).blueprint())
    extra = model.startswith("EfficientNetB")  # a layer more with the weights of ImageNet
    assert (len(layers) - extra, sum(layer.parameters for layer in layers)) == (
        len(keras_model.layers), keras_model.count_params(),
    )  # fmt: skip


def test_the_guides_figures() -> None:
    keras_or_skip()
    resnet = tl.open_backbone("keras/ResNet50", architecture_only=True)
    layers = library_layers(resnet.blueprint())
    assert (len(layers), sum(layer.parameters for layer in layers)) == (175, 23_587_712)
    assert (layers[0].kind, layers[-1].name) == ("InputLayer", "conv5_block3_out")
    first = [name for layer in layers[:8] for name in layer.tensors]
    assert first == ["conv1_conv.weight", "conv1_conv.bias", *(f"conv1_bn.{n}" for n in
                     ("weight", "bias", "running_mean", "running_var")), "conv2_block1_1_conv.weight",
                     "conv2_block1_1_conv.bias"]  # fmt: skip
    vgg16 = tl.open_backbone("keras/VGG16", architecture_only=True).blueprint()
    assert vgg16.shapes["block5_pool"] == (512, 7, 7)
    assert math.prod(vgg16.shapes["block5_pool"]) == 25_088
    vgg19 = tl.open_backbone("keras/VGG19", input_px=256, architecture_only=True).blueprint()
    assert vgg19.shapes["block2_pool"] == (128, 64, 64)


def test_the_top_is_left_out_and_what_stands_before_it_stays(tmp_path: Path) -> None:
    keras_model = application("MobileNet", 32, alpha=0.25, include_top=True, pooling=None, classes=7)
    keras = keras_or_skip()
    path = saved(keras_model, tmp_path / "whole.weights.h5")
    with_top = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25, "include_top": True})
    without = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
    images = pictures(2, 32)
    same(features(with_top, images), features(without, images))
    before = keras.Model(keras_model.input, keras_model.get_layer("dropout").output)
    same(features(with_top, images), keras_features(before, "MobileNet", images).reshape(2, -1))


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (7, 2), (7, 1), (9, 3)])
def test_what_lies_outside_does_not_count_in_a_mean(side: int, stride: int) -> None:
    """As in TensorFlow, on which the weights were trained; Keras on torch repeats the edge of uneven paddings."""
    made = make("AveragePooling2D", "pool", {"pool_size": [3, 3], "strides": [stride, stride], "padding": "same"},
                [(2, side, side)])  # fmt: skip
    samples = torch.rand(1, 2, side, side)
    n = -(-side // stride)
    before = max((n - 1) * stride + 3 - side, 0) // 2
    expected = torch.empty(1, 2, n, n)
    for row in range(n):
        for column in range(n):
            rows, columns = (slice(max(at * stride - before, 0), at * stride - before + 3) for at in (row, column))
            expected[:, :, row, column] = samples[:, :, rows, columns].mean((2, 3))
    assert made.shape == (2, n, n)
    assert torch.allclose(made.module(samples), expected, atol=1e-6)


def test_dropout_and_batch_norm_obey_their_mode() -> None:
    keras_or_skip()
    args = {"weights": "none", "alpha": 0.25, "include_top": True, "dropout": 0.5}
    module = tl.open_backbone("keras/MobileNet", input_px=32, model_args=args).module()
    samples = torch.rand(4, 3, 32, 32)
    before = module.conv1_bn.running_mean.clone()
    assert torch.equal(module(samples), module(samples))
    assert torch.equal(module.conv1_bn.running_mean, before)
    module.train()
    assert not torch.equal(module(samples), module(samples))
    assert module.conv1_bn.momentum == pytest.approx(0.01)
    assert not torch.equal(module.conv1_bn.running_mean, before)


def test_random_weights_are_always_the_same() -> None:
    keras_or_skip()
    args = {"weights": "none", "alpha": 0.25}
    first = tl.open_backbone("keras/MobileNet", input_px=32, model_args=args)
    again = tl.open_backbone("keras/MobileNet", input_px=32, model_args=args)
    assert first.weights_sha256 == again.weights_sha256
    assert float(first.module().conv1.weight.std()) > 0


def test_real_weights_of_mobilenet_give_keras_features(real_weights: Path) -> None:
    path = real_weights / "keras" / "mobilenet_1_0_224.imagenet.weights.h5"
    keras = keras_or_skip()
    whole = keras.applications.MobileNet(weights=None)
    whole.load_weights(path)
    keras_model = keras.Model(whole.input, whole.get_layer("dropout").input)
    images = pictures(2, 224)
    opened = tl.open_backbone(f"keras/MobileNet@{path}")
    same(features(opened, images), keras_features(keras_model, "MobileNet", images).reshape(2, -1))


def test_a_users_real_model_gives_keras_features(real_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    path = real_weights / "keras" / "dog_breed_mobilenetv2.h5"
    keras = keras_or_skip()
    whole = keras.models.load_model(path, compile=False)
    keras_model = keras.Model(whole.input, whole.get_layer("global_average_pooling2d").output)
    images = pictures(2, 160)
    expected = keras_features(keras_model, "MobileNetV2", images)
    for name in ("custom", "MobileNetV2"):
        opened = tl.open_backbone(f"keras/{name}@{path}")
        assert opened.preparation.input_px == (160, 160)
        same(features(opened, images), expected)
