"""Features from an earlier layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError


def opened(tmp_path: Path, architecture: str, **settings: object) -> tl.Backbone:
    path = tmp_path / f"{architecture}.safetensors"
    model = import_timm().create_model(architecture, num_classes=3)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return tl.open_backbone(f"timm/{architecture}@{path}", **settings)


def test_a_convolution_is_averaged_over_positions(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "test_resnet")
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    model = backbone.module()
    with torch.inference_mode():
        x = model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(images))))))
        assert torch.equal(backbone.reader(["layer2"])(images)[0], x.mean((2, 3)))


def test_tokens_are_averaged_without_the_class_token(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "test_vit")
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    model = backbone.module()
    with torch.inference_mode():
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        x = model.blocks[1](model.blocks[0](x))
        assert torch.equal(backbone.reader(["blocks.1"])(images)[0], x[:, 1:].mean(1))


def test_channels_last_architectures_keep_their_channels(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "swin_tiny_patch4_window7_224")
    with torch.inference_mode():
        assert backbone.reader(["layers.1"])(torch.zeros(1, 3, 224, 224))[0].shape == (1, 192)


def test_what_lies_above_is_not_run(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "test_resnet")
    ran = []
    backbone.module().layer4.register_forward_hook(lambda *_: ran.append(1))
    with torch.inference_mode():
        backbone.reader(["layer2"])(torch.zeros(1, 3, 160, 160))[0]
        assert not ran
        backbone.reader(["pooled"])(torch.zeros(1, 3, 160, 160))[0]
        assert ran


def test_no_hook_stays_behind(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "test_resnet")
    with torch.inference_mode():
        backbone.reader(["layer2"])(torch.zeros(1, 3, 160, 160))[0]
    assert not backbone.module().layer2._forward_hooks


def test_an_unknown_layer_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a layer of test_resnet; got 'layer22'. Did you mean 'layer2"):
        opened(tmp_path, "test_resnet").reader(["layer22"])


def test_a_layer_that_never_runs_is_refused(tmp_path: Path) -> None:
    backbone = opened(tmp_path, "test_resnet")
    backbone.module().unused = torch.nn.Identity()
    with pytest.raises(ModelError, match="'unused' is not run in a forward pass"):
        backbone.reader(["unused"])(torch.zeros(1, 3, 160, 160))[0]
