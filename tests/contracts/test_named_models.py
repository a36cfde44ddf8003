"""The models that people come with by name: cut equals whole, a training step is clean, a bundle ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from tests.contracts.test_cut import check_learning, close
from tests.contracts.test_training_step import Net, statistics_above, train_one_step
from tests.contracts.zoo import above, images, shaken, tensors
from tests.hf_models import need_transformers
from torch import nn

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.cut import cut

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
    backbone, px = opened(name), MODELS[name]
    model = built(backbone)
    rungs = [rung.name for rung in backbone.ladder.rungs]
    assert rungs[0] == "input"
    assert rungs[-1] == "pooled"
    with torch.no_grad():
        whole = model(images(3, px))
    for share in (0.25, 0.5, 0.75):
        rung = rungs[round(share * (len(rungs) - 1))]
        halves = cut(model, rung, signature=backbone.signature)
        crossing = halves.prefix(images(3, px))  # another batch size than the cut was checked with
        with torch.no_grad():
            close(halves.suffix(*crossing), whole)
        assert set(halves.suffix_parameter_names) == above(model, rungs, rung), rung
        check_learning(model, halves, rungs, rung, images(3, px))


@pytest.mark.parametrize("name", tiers())
def test_a_training_step_above_the_middle(name: str) -> None:
    backbone, px = opened(name), MODELS[name]
    net = Net(built(backbone), px)
    rungs = [rung.name for rung in backbone.ladder.rungs]
    rung = rungs[len(rungs) // 2]
    halves = cut(net.backbone, rung, signature=backbone.signature)
    before = {key: tensor.clone() for key, tensor in tensors(net).items()}
    receipt = train_one_step(net, halves, px, moving=True)
    learned = {f"backbone.{key}" for key in above(net.backbone, rungs, rung)} | {"head.weight", "head.bias"}
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert receipt.status == "clean"
    assert set(receipt.thawed) == learned
    assert changed == learned | statistics_above(net, rungs, rung)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith(("torchvision/", "hf/"))])
def test_a_bundle_predicts_what_its_run_did(name: str, tiny_photos: Path, tmp_path: Path) -> None:
    data = tl.open_data(tiny_photos)
    backbone = tl.open_backbone(name, input_px=MODELS[name], model_args={"weights": "none"})
    run = tl.fit(data, tl.plan(data, backbone, thaw="none"), run=tmp_path / "run")
    bundle = tl.load_bundle(run.folder)
    features = tl.extract_features(data, backbone, precision="f32").values
    with torch.no_grad():
        again = tl.load_bundle(run.folder).backbone.module()(images(2, MODELS[name]))
        assert torch.equal(again, backbone.module()(images(2, MODELS[name])))
    expected = bundle.head.predict_proba(features)
    assert np.abs(bundle.predict(data).probabilities - expected).max() < 0.02  # the bundle may run in bfloat16
