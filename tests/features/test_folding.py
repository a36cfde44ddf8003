"""Frozen layers with batch norms and activations folded into convolutions."""

from __future__ import annotations

import pytest
import torch
from tests.norm_statistics import with_statistics
from torch import nn

from thawline.backbones.cut import Cut, cut
from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.signature import Signature
from thawline.features.folding import Folded, folded


def _trained(module: nn.Module) -> nn.Module:
    return with_statistics(module).to(memory_format=torch.channels_last)


def _halves(module: nn.Module, rung: str, px: int) -> tuple[Cut, tuple[torch.Tensor]]:
    images = torch.randn(3, 3, px, px, generator=torch.Generator().manual_seed(1))
    halves = cut(module, rung, signature=Signature("timm", (3, px, px)))
    return halves, (images.to(memory_format=torch.channels_last),)


@pytest.mark.parametrize(
    ("architecture", "rung"),
    [
        ("test_resnet", "layer3.0"),  # a residual is added in place behind the last batch norm of each block
        ("mobilenetv2_035", "blocks.1.1"),
        ("test_efficientnet", "blocks.2.0"),
        ("regnetx_002", "s2.b1"),
        ("tf_mobilenetv3_small_minimal_100", "blocks.1.0"),  # pads as TensorFlow does
    ],
)
def test_folded_layers_compute_the_same(architecture: str, rung: str) -> None:
    module = _trained(import_timm().create_model(architecture, num_classes=0))
    halves, images = _halves(module, rung, 64)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    light = folded(halves.prefix, images, torch.float32)
    assert isinstance(light, nn.Module)
    n_norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in halves.prefix.modules())
    assert sum(isinstance(layer, Folded) for layer in light.modules()) == n_norms > 0
    assert not [layer for layer in light.modules() if isinstance(layer, nn.BatchNorm2d)]
    other = (torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last),)
    for one, two in zip(light(*other), halves.prefix(*other), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
        assert one.stride() == two.stride()
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_in_bfloat16_folded_layers_are_nearer_to_the_truth() -> None:
    """One rounding for each convolution, not one more for each batch norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _trained(import_timm().create_model("mobilenetv2_035", num_classes=0))
    halves, images = _halves(module, "blocks.1.1", 64)
    (exact,), light = halves.prefix(*images), folded(halves.prefix, images, torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (usual,), (found,) = halves.prefix(*images), light(*images)
    assert found.dtype == usual.dtype == torch.bfloat16
    assert (found - exact).square().mean() <= 0.9 * (usual - exact).square().mean()


def test_layers_without_batch_norm_are_run_as_they_are() -> None:
    halves, images = _halves(import_timm().create_model("test_vit", num_classes=0).eval(), "blocks.2", 160)
    assert folded(halves.prefix, images, torch.float32) is halves.prefix


class _Odd(nn.Module):
    """(B, 3, H, W) -> (B, 8)"""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.top = nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = self.norm(y)
        if self.how == "the convolution is read twice":
            z = self.act(z) + y
        elif self.how == "the batch norm is read twice":
            z = self.act(z) - z
        elif self.how == "it is changed in place":
            z += 1
            z = self.act(z)
        else:
            z = self.act(self.norm(self.act(z)))
        return self.top(z).mean((2, 3))


@pytest.mark.parametrize(
    ("how", "n_folded"),
    [
        ("the convolution is read twice", None),
        ("the batch norm is read twice", None),
        ("it is changed in place", 1),
        ("they are called twice", None),
    ],
)
def test_what_others_read_is_not_folded_away(how: str, n_folded: int | None) -> None:
    halves, images = _halves(_trained(_Odd(how)), "top", 16)
    light = folded(halves.prefix, images, torch.float32)
    if n_folded is None:
        assert light is halves.prefix
    else:
        assert sum(isinstance(layer, Folded) for layer in light.modules()) == n_folded
    for one, two in zip(light(*images), halves.prefix(*images), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
