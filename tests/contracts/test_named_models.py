"""The models that people come with by name: cut equals whole, a training step is clean, a bundle ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from tests.contracts.whole import check_bundle, check_step, check_three_rungs
from tests.contracts.zoo import shaken
from tests.hf_models import need_transformers
from tests.keras_models import application, keras_or_skip, saved
from torch import nn

import thawline as tl
from thawline.backbones import Backbone

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

MODELS = {
    "torchvision/alexnet": 96,
    "torchvision/googlenet": 96,
    "torchvision/inception_v3": 128,
    "torchvision/squeezenet1_0": 96,
    "torchvision/squeezenet1_1": 64,
    "torchvision/vgg16": 64,
    "torchvision/vgg16_bn": 64,
    "torchvision/vgg19": 64,
    "torchvision/resnet50": 96,
    "torchvision/resnet101": 64,
    "torchvision/resnet152": 64,
    "torchvision/resnext50_32x4d": 64,
    "torchvision/mobilenet_v2": 96,
    "torchvision/mobilenet_v3_small": 96,
    "torchvision/mobilenet_v3_large": 96,
    "torchvision/shufflenet_v2_x0_5": 96,
    "torchvision/mnasnet0_5": 96,
    "torchvision/densenet121": 96,
    "torchvision/densenet169": 64,
    "torchvision/densenet201": 64,
    "torchvision/efficientnet_b0": 96,
    "torchvision/efficientnet_b1": 64,
    "torchvision/efficientnet_b2": 64,
    "torchvision/efficientnet_b3": 64,
    "torchvision/efficientnet_b4": 64,
    "torchvision/efficientnet_b5": 64,
    "torchvision/efficientnet_b6": 64,
    "torchvision/efficientnet_b7": 64,
    "torchvision/efficientnet_v2_s": 64,
    "torchvision/regnet_x_400mf": 96,
    "torchvision/regnet_y_400mf": 96,
    "torchvision/convnext_tiny": 64,
    "torchvision/vit_b_16": 224,
    "torchvision/swin_t": 64,
    "torchvision/swin_v2_t": 64,
    "torchvision/maxvit_t": 224,
    "timm/inception_resnet_v2": 96,
    "timm/mobilenetv1_100": 96,
    "timm/mobilenetv3_large_100": 96,
    "timm/nasnetalarge": 96,
    "timm/resnetv2_50": 64,
    "timm/vgg19": 64,
    "timm/vit_small_patch14_dinov2": 518,
    "hf/facebook/convnext-tiny-224": 64,
    "hf/facebook/deit-tiny-patch16-224": 64,
    "hf/facebook/dinov2-small": 70,
    "hf/facebook/dinov2-with-registers-small": 70,
    "hf/google/siglip-base-patch16-224": 64,
    "hf/google/vit-base-patch16-224": 64,
    "hf/microsoft/beit-base-patch16-224": 64,
    "hf/microsoft/resnet-50": 64,
    "hf/microsoft/swin-tiny-patch4-window7-224": 224,
    "hf/openai/clip-vit-base-patch32": 64,
}
"""Model -> side of its input here: small where the architecture takes any size."""
KERAS = {f"keras/{name}": 64 for name in (
    "DenseNet121 DenseNet169 DenseNet201 EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 "
    "EfficientNetB5 EfficientNetB6 EfficientNetB7 MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large ResNet50 "
    "ResNet101 ResNet152 ResNet50V2 ResNet101V2 ResNet152V2 VGG16 VGG19 ConvNeXtTiny"
).split()} | {"keras/InceptionResNetV2": 80, "keras/InceptionV3": 80, "keras/Xception": 80, "keras/NASNetMobile": 64,
              "keras/NASNetLarge": 64}  # fmt: skip
"""The same for models of Keras; ``tests/backbones/test_keras_features.py`` cuts and trains them."""
FIRST_TIER = ("torchvision/squeezenet1_1", "torchvision/mnasnet0_5", "torchvision/shufflenet_v2_x0_5")


def tiers() -> list[ParameterSet]:
    return [pytest.param(name, marks=() if name in FIRST_TIER else pytest.mark.slow) for name in MODELS]


def opened(name: str) -> Backbone:
    if name.startswith("hf/"):
        need_transformers()
    # dropout between fully connected layers acts above the line alone; in a copy frozen by hand, it acts below, too
    args = {"dropout": 0.0} if name.startswith(("torchvision/alexnet", "torchvision/vgg")) else None
    return tl.open_backbone(name, input_px=MODELS[name], model_args=args, architecture_only=True)


def built(backbone: Backbone) -> nn.Module:
    return shaken(backbone.build)


@pytest.mark.parametrize("name", tiers())
def test_three_rungs(name: str) -> None:
    backbone = opened(name)
    check_three_rungs(backbone, built(backbone), MODELS[name])


@pytest.mark.parametrize("name", tiers())
def test_a_training_step_above_the_middle(name: str) -> None:
    backbone = opened(name)
    check_step(backbone, built(backbone), MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in MODELS if not name.startswith("timm/")), *KERAS])
def test_a_bundle_predicts_what_its_run_did(name: str, tiny_photos: Path, tmp_path: Path) -> None:
    if name in KERAS:
        keras_or_skip()
    backbone = tl.open_backbone(name, input_px=(MODELS | KERAS)[name], model_args={"weights": "none"})
    check_bundle(backbone, tiny_photos, tmp_path / "run")


def test_a_thawed_model_of_keras_ships(tiny_photos: Path, tmp_path: Path) -> None:
    path = saved(application("MobileNet", 32, alpha=0.25), tmp_path / "shaken.weights.h5")
    backbone = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
    check_bundle(backbone, tiny_photos, tmp_path / "run", thaw="last-keras:10")
