"""The ladder against published shapes, torch's own counts, and the halves of the models that it describes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from thawline.backbones.backbone import Backbone
from thawline.backbones.cut import cut
from thawline.backbones.ladder import Ladder, _stages
from thawline.backbones.opening import open_backbone
from thawline.backbones.signature import Signature
from thawline.backbones.weights import TensorFile
from thawline.errors import ModelError
from thawline.records import ImagePreparation

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

KIB = 1024


class NoWeights(TensorFile):
    """Weights that fail the test if anybody reads them."""

    def __init__(self) -> None:
        pass

    def load(self):
        raise AssertionError("weights were read")

    shapes = digest = load


def backbone(architecture: str, px: int = 224, **model_args) -> Backbone:
    preparation = ImagePreparation(input_px=(px, px), resize_px=px, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Backbone(
        name=f"timm/{architecture}",
        architecture=architecture,
        model_args=model_args,
        preparation=preparation,
        tensors=NoWeights(),
    )


@pytest.fixture(scope="module")
def mobilenet() -> Ladder:
    return backbone("mobilenetv2_100").ladder


def test_mobilenetv2_has_the_costs_of_its_paper(mobilenet):
    """KiB in half precision and percent of FLOPs at the end of each stage, at 224 px (Sandler et al. 2018, table 2)."""
    ends = {rung.stage: rung for rung in mobilenet.rungs}
    found = {stage: (rung.bytes_per_sample / KIB, round(100 * rung.flops_below_frac)) for stage, rung in ends.items()}
    assert {stage: found[stage] for stage in ("stem", *(f"blocks.{i}" for i in range(7)))} == {
        "stem": (784, 4),
        "blocks.0": (392, 7),
        "blocks.1": (147, 25),
        "blocks.2": (49, 38),
        "blocks.3": (24.5, 51),
        "blocks.4": (36.75, 70),
        "blocks.5": (15.3125, 86),
        "blocks.6": (30.625, 93),
    }
    assert found["pooled"] == (2.5, 100)


def test_mobilenetv2_rungs_are_its_own_layers_in_order(mobilenet):
    names = [rung.name for rung in mobilenet.rungs]
    assert names[:5] == ["input", "conv_stem", "bn1", "blocks.0.0", "blocks.1.0"]
    assert names[-4:] == ["blocks.6.0", "conv_head", "bn2", "pooled"]
    third = mobilenet.rungs[names.index("blocks.2.1")]
    assert (third.kind, third.shape, third.stage) == ("InvertedResidual", (32, 28, 28), "blocks.2")
    assert mobilenet.model == "timm/mobilenetv2_100"


def test_the_line_above_the_stem_of_a_resnet_stands_after_its_pooling():
    """Pooling learns nothing and makes what crosses four times smaller: the same parameters, a smaller cache."""
    stem = next(rung for rung in backbone("resnet18").ladder.rungs if rung.name == "bn1")
    assert stem.shape == (64, 56, 56)
    assert stem.bytes_per_sample == 64 * 56 * 56 * 2


@pytest.mark.parametrize("architecture", ["mobilenetv2_100", "test_resnet", "test_vit", "test_convnext", "regnetx_002"])
def test_parameters_add_up(architecture, mobilenet):
    model = backbone(architecture, 160 if architecture.startswith("test_") else 224)
    ladder = mobilenet if architecture == "mobilenetv2_100" else model.ladder
    total = sum(parameter.numel() for parameter in model.blueprint().parameters())
    parameters = [rung.parameters for rung in ladder.rungs]
    assert [rung.below for rung in ladder.rungs] == [sum(parameters[: i + 1]) for i in range(len(parameters))]
    assert ladder.parameters == total == ladder.rungs[-1].below
    assert ladder.rungs[0].parameters == ladder.rungs[-1].parameters == 0
    assert ladder.layers == len(ladder.rungs) - 2


def test_parameters_that_no_forward_pass_uses_are_frozen_with_the_whole():
    """EfficientViM weighs its stages with four numbers, the last of which it never uses."""
    model = backbone("efficientvim_m1", 64)
    ladder = model.ladder
    assert ladder.rungs[-1].below == ladder.parameters > ladder.rungs[-2].below
    assert ladder.layers == len(ladder.rungs) - 2


def test_stages_whose_blocks_timm_does_not_group_are_stepped_into():
    names = [rung.name for rung in backbone("pvt_v2_b0", 64).ladder.rungs]
    assert names[1:5] == ["patch_embed", "stages.0.blocks.0", "stages.0.blocks.1", "stages.0.norm"]


def test_a_layer_may_change_the_list_that_it_is_given():
    """HRNet fuses its branches in place, in the list that holds them."""
    assert backbone("hrnet_w18_small", 64).ladder.rungs[-1].shape == (2048,)


def test_a_rung_counts_what_its_layer_holds():
    model = backbone("test_vit", 160)
    module = model.blueprint()
    rungs = {rung.name: rung for rung in model.ladder.rungs}
    assert rungs["blocks.3"].parameters == sum(p.numel() for p in module.get_submodule("blocks.3").parameters())
    assert (rungs["pos_embed"].parameters, rungs["pos_embed"].kind) == (module.pos_embed.numel(), "Parameter")


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_flops_are_those_of_the_half_below(architecture):
    model = backbone(architecture, 160)
    module, images = model.blueprint(), torch.empty(1, 3, 160, 160, device="meta")
    whole = flops(module, images)
    real = torch.nn.Module.to_empty(module, device="cpu")
    torch.manual_seed(0)
    for tensor in real.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape)) if tensor.is_floating_point() else tensor.zero_()
    for rung in model.ladder.rungs[:: 3 if architecture == "test_vit" else 2]:
        halves = cut(real, rung.name, signature=Signature("timm", (3, 160, 160)))
        crossing = halves.prefix(images := torch.zeros(1, 3, 160, 160))
        # on meta: torch does not count the attention kernel of the CPU
        below = flops(copy.deepcopy(halves.prefix).to("meta"), images.to("meta"))
        assert rung.flops_below_frac == pytest.approx(below / whole)
        assert rung.bytes_per_sample == sum(tensor.bfloat16().nbytes for tensor in crossing)
        assert rung.shape == tuple(crossing[0].shape[1:])


def flops(module, images) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    return counter.get_total_flops()


def test_all_that_crosses_is_counted_and_the_largest_is_shown():
    rungs = {rung.name: rung for rung in backbone("densenet121", 64).ladder.rungs}
    second = rungs["features.denseblock1.denselayer2"]
    assert second.shape == (64, 16, 16)
    assert second.bytes_per_sample == (64 + 32 + 32) * 16 * 16 * 2


@pytest.mark.parametrize(
    ("architecture", "stages"),
    [
        ("test_resnet", ["input", "stem", "layer1", "layer2", "layer3", "layer4", "pooled"]),
        ("test_vit", ["input", "stem", "blocks", "head", "pooled"]),
        ("test_convnext", ["input", "stem", "stages.0", "stages.1", "stages.2", "stages.3", "head", "pooled"]),
        ("regnetx_002", ["input", "stem", "s1", "s2", "s3", "s4", "pooled"]),
        ("vgg11", ["input", *(f"features.{first}" for first in (0, 3, 6, 11, 16)), "head", "pooled"]),
    ],
)
def test_stages(architecture, stages):
    ladder = backbone(architecture, 160 if architecture.startswith("test_") else 64).ladder
    assert list(dict.fromkeys(rung.stage for rung in ladder.rungs)) == stages


def test_layers_that_are_only_numbered_are_divided_where_the_size_changes():
    """The five blocks of VGG 16, as its paper has them (Simonyan and Zisserman 2015, table 1)."""
    stages = [rung.stage for rung in backbone("vgg16", 64).ladder.rungs]
    assert [stages.count(f"features.{first}") for first in (0, 5, 10, 17, 24)] == [2, 2, 3, 3, 3]


def test_a_layer_between_stages_is_a_stage_of_its_own():
    stages = {rung.name: rung.stage for rung in backbone("densenet121", 64).ladder.rungs}
    assert stages["features.conv0"] == "stem"
    assert stages["features.denseblock2.denselayer7"] == "features.denseblock2"
    assert stages["features.transition1"] == "features.transition1"
    assert stages["features.norm5"] == "head"
    inception = {rung.name: rung.stage for rung in backbone("inception_v3", 96).ladder.rungs}
    assert inception["Mixed_5b"] == "Mixed_5b"  # no stages at all: each layer is one


def test_what_comes_before_the_stages_is_the_stem_also_where_nobody_says_so():
    layers = ["input", "conv1", "layer1.0", "layer2.0", "norm", "pooled"]
    assert list(_stages(layers, lambda _name: False)) == ["input", "stem", "layer1", "layer2", "head", "pooled"]


def test_tokens_that_are_not_kept_per_picture_have_no_rung():
    """TNT runs the patches of all pictures as one batch beside the pictures."""
    ladder = backbone("tnt_s_legacy_patch16_224").ladder
    assert [rung.name for rung in ladder.rungs] == ["input", "blocks.11", "norm", "pooled"]
    assert sum(rung.parameters for rung in ladder.rungs) == ladder.parameters


def test_a_model_that_cannot_be_traced_is_refused():
    with pytest.raises(ModelError, match=r"timm/twins_svt_small cannot be cut: its forward pass cannot be traced"):
        _ = backbone("twins_svt_small").ladder


def test_dropout_between_layers_that_is_baked_into_the_forward_pass_is_refused():
    with pytest.raises(ModelError, match=r"something else in training between its layers\. Open it with --model-arg"):
        _ = backbone("test_resnet", 64, drop_rate=0.5).ladder
    ladder = backbone("ghostnet_050", 64, drop_rate=0.0).ladder
    assert ladder.rungs[-1].shape == (1280,)


def test_the_embedded_backbone_has_a_ladder(weights_file: Path):
    opened = open_backbone(f"timm/test_resnet@{weights_file}")
    ladder = opened.ladder
    assert ladder.parameters == opened.n_parameters()
    assert ladder.rungs[0].shape == (3, *opened.preparation.input_px)
    assert not opened.is_built
