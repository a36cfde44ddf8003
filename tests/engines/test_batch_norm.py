"""Batch norm folded into the convolution before it."""

from __future__ import annotations

import pytest
import torch
from tests.norm_statistics import with_statistics
from torch import nn

from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.converting.batch_norm import folded


def _trained(module: nn.Module) -> nn.Module:
    return with_statistics(module).requires_grad_(False)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "mobilenetv2_035", "regnetx_002"])
def test_every_batch_norm_of_a_network_is_folded(architecture: str) -> None:
    module = _trained(import_timm().create_model(architecture, num_classes=0))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    light = folded(module, images)
    assert light is not module
    assert not [layer for layer in light.modules() if isinstance(layer, nn.BatchNorm2d)]
    other = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(light(other), module(other), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in light.parameters())


def test_a_network_without_batch_norm_is_given_back() -> None:
    module = import_timm().create_model("test_vit", num_classes=0).eval()
    assert folded(module, torch.zeros(1, 3, 160, 160)) is module


def test_a_convolution_whose_output_is_wanted_stays() -> None:
    module = _trained(import_timm().create_model("test_resnet", num_classes=0))
    light = folded(module, torch.randn(1, 3, 64, 64), keep=("conv1.6",))
    assert torch.equal(light.conv1[6].weight, module.conv1[6].weight)
    assert isinstance(light.bn1, nn.BatchNorm2d)
    assert not isinstance(light.layer1[0].bn1, nn.BatchNorm2d)


class _ReadTwice(nn.Module):
    """Something else reads the convolution as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


class _Squared(nn.Conv2d):
    """More than a convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) ** 2


class _Shared(nn.Module):
    """One batch norm for two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.two(self.norm(self.one(x)))).mean((2, 3))


@pytest.mark.parametrize(
    "module", [_ReadTwice(), nn.Sequential(_Squared(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), _Shared()]
)
def test_what_folding_would_change_is_left_as_it_is(module: nn.Module) -> None:
    module = _trained(module)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert folded(module, images) is module
