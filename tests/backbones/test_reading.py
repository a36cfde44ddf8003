"""Features of a layer: averaged, the largest, on a grid, or every number; and where the last map of a model is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

import thawline as tl
from thawline.backbones.cut import cut
from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.reading import Reading, with_pooling
from thawline.backbones.thaw import resolve_thaw
from thawline.errors import ModelError, UsageError


def opened(folder: Path, architecture: str, **settings: object) -> tl.Backbone:
    path = folder / f"{architecture}.safetensors"
    model = import_timm().create_model(architecture, num_classes=3)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return tl.open_backbone(f"timm/{architecture}@{path}", **settings)


def pictures(px: int) -> torch.Tensor:
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tl.Backbone:
    return opened(tmp_path_factory.mktemp("weights"), "test_resnet")


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("avg", lambda x: x.mean((2, 3))),
        ("max", lambda x: x.amax((2, 3))),
        ("flatten", lambda x: x.reshape(len(x), -1)),
        ("grid:5", lambda x: functional.avg_pool2d(x, x.shape[-1] // 5).reshape(len(x), -1)),
    ],
)
def test_a_map_is_read_as_asked(
    resnet: tl.Backbone, pooling: str, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    images, model = pictures(160), resnet.module()
    with torch.inference_mode():
        x = model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(images))))))
        assert x.shape[-1] % 5 == 0
        (found,) = resnet.reader([f"layer2:{pooling}"])(images)
        assert torch.allclose(found, expected(x), atol=1e-6)
    assert resnet.width(f"layer2:{pooling}") == found.shape[1]


def test_one_pass_reads_a_layer_in_two_ways(resnet: tl.Backbone) -> None:
    with torch.inference_mode():
        pooled, flat = resnet.reader(["layer2", "layer2:flatten"])(pictures(160))
        alone = resnet.reader(["layer2"])(pictures(160))[0]
    assert torch.equal(pooled, alone)
    assert flat.shape[1] > pooled.shape[1]


def test_the_last_map_is_what_the_model_pools(resnet: tl.Backbone) -> None:
    assert resnet.last_map == "layer4"
    with torch.inference_mode():
        averaged, pooled = resnet.reader(["pooled:avg", "pooled"])(pictures(160))
    assert torch.allclose(averaged, pooled, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "px", "layer", "width"),
    [
        ("vgg16", 224, "features", 25_088),  # the dense layers above are written as convolutions
        ("vgg16", 32, "features", 512),  # one position is left, and nothing pooled it as a whole
        ("resnet18", 32, "layer4", 512),
        pytest.param("resnet50", 224, "layer4", 7 * 7 * 2_048, marks=pytest.mark.slow),
        pytest.param("mobilenetv2_100", 224, "bn2", 7 * 7 * 1_280, marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", 224, "norm", 197 * 192, marks=pytest.mark.slow),
        pytest.param("convnext_atto", 96, "norm_pre", 3 * 3 * 320, marks=pytest.mark.slow),
    ],
)
def test_where_the_last_map_is(architecture: str, px: int, layer: str, width: int) -> None:
    backbone = tl.open_backbone(f"timm/{architecture}", input_px=px, architecture_only=True)
    assert backbone.last_map == layer
    assert backbone.width("pooled:flatten") == width


def test_vgg19s_second_pooling_layer_at_256_pixels() -> None:
    backbone = tl.open_backbone("timm/vgg19", input_px=256, architecture_only=True)
    assert backbone.width("features.9:flatten") == 64 * 64 * 128
    assert backbone.width("features.9:grid:4") == 4 * 4 * 128
    assert backbone.width("features.9") == 128


@pytest.mark.slow
def test_channels_last_maps_are_read_by_their_channels(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "swin_tiny_patch4_window7_224")
    kept: list[torch.Tensor] = []
    backbone.module().layers[1].register_forward_hook(lambda _layer, _inputs, output: kept.append(output))
    with torch.inference_mode():
        largest, grid = backbone.reader(["layers.1:max", "layers.1:grid:2"])(pictures(224))
    x = kept[0].permute(0, 3, 1, 2)  # (B, C, H, W)
    assert torch.equal(largest, x.amax((2, 3)))
    assert torch.allclose(grid, functional.avg_pool2d(x, x.shape[-1] // 2).flatten(1), atol=1e-5)


def test_tokens_have_no_grid() -> None:
    backbone = tl.open_backbone("timm/test_vit", architecture_only=True)
    assert backbone.width("blocks.1:flatten") == 101 * 64
    with pytest.raises(ModelError, match=r"pooling grid needs an image-shaped output; layer 'blocks.1' gives"):
        backbone.width("blocks.1:grid:2")


def test_a_grid_finer_than_the_map_is_refused(resnet: tl.Backbone) -> None:
    with pytest.raises(ModelError, match=r"positions, 5 x 5; got 6 x 6. Choose a smaller grid"):
        resnet.width("pooled:grid:6")


@pytest.mark.parametrize("rung", ["layer2:sum", "layer2:grid", "layer2:grid:0", "layer2:max:3", "layer2:"])
def test_an_unknown_pooling_is_refused(rung: str) -> None:
    with pytest.raises(UsageError, match="pooling must be one of avg, max, flatten, grid:N; got"):
        Reading.of(rung)


def test_a_pooling_goes_to_every_layer_and_is_given_once() -> None:
    assert with_pooling("layer1, pooled", "grid:2") == "layer1:grid:2,pooled:grid:2"
    assert with_pooling("layer1:max", None) == "layer1:max"
    with pytest.raises(UsageError, match="pooling must be given once; got 'max' for 'layer1:flatten'"):
        with_pooling("layer1:flatten", "max")


@pytest.mark.parametrize("rung", ["pooled:flatten", "layer3:grid:2", "layer2", "layer1:max"])
def test_a_backbone_that_ends_at_a_layer_is_cut_like_any_other(resnet: tl.Backbone, rung: str) -> None:
    shorter, images = resnet.up_to(rung), pictures(160)
    ladder = shorter.ladder
    assert ladder.rungs[-1].shape == (resnet.width(rung),)
    assert [line.name for line in ladder.rungs[:-1]] == [
        line.name for line in resnet.ladder.rungs[: len(ladder.rungs) - 1]
    ]
    above = sum(p.numel() for name, p in resnet.module().named_parameters() if name in ladder.unused)
    assert ladder.parameters + above == resnet.ladder.parameters
    for line in (ladder.rungs[0].name, ladder.rungs[-2].name, "pooled"):
        parts = cut(shorter, line)
        with torch.inference_mode():
            assert torch.allclose(parts.suffix(*parts.prefix(images)), resnet.reader([rung])(images)[0], atol=1e-5)


def test_a_thaw_setting_counts_only_what_is_below_the_layer(resnet: tl.Backbone) -> None:
    ladder, module = resnet.up_to("layer3:grid:2").ladder, resnet.module()
    last = resolve_thaw(ladder, "last:1", module)
    assert {name.split(".")[0] for name in last.thawed} == {"layer3"}
    assert {name for name in last.frozen if name.startswith("layer4")} == set(ladder.unused)
    everything = resolve_thaw(ladder, "all", module)
    assert not {name for name in (*everything.thawed, *everything.buffers) if name.startswith("layer4")}
    assert everything.n_trainable == ladder.parameters
    with pytest.raises(UsageError):
        resolve_thaw(ladder, "from:layer4", module)


def test_a_layer_inside_a_block_cannot_end_a_training(resnet: tl.Backbone) -> None:
    with pytest.raises(ModelError, match=r"cannot be trained up to 'layer2.0.conv1', which lies inside another layer"):
        _ = resnet.up_to("layer2.0.conv1").ladder


def test_a_layer_above_that_works_in_place_changes_nothing(resnet: tl.Backbone) -> None:
    assert resnet.module().act1.inplace  # it writes into what bn1 gave
    images = pictures(64)
    with torch.inference_mode():
        alone = [resnet.reader([rung])(images)[0] for rung in ("bn1", "bn1:flatten")]
        together = resnet.reader(["bn1", "bn1:flatten", "layer1"])(images)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])
    assert alone[1].min() < 0
