"""Real architectures with random weights, and what their names alone say of what lies above a rung."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn

from thawline.backbones.graph import LayerGraph
from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.signature import Signature

TINY = {"test_resnet": 64, "test_vit": 160, "test_efficientnet": 64, "test_convnext": 64, "regnetx_002": 64}
LARGE = {
    "mobilenetv2_100": 96,
    "mobilenetv3_small_100": 96,
    "resnet18": 96,
    "resnet50": 96,
    "vgg16_bn": 64,
    "densenet121": 96,
    "inception_v3": 128,
    "xception41": 96,
    "efficientnet_b0": 96,
    "convnext_atto": 96,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
}
"""Architecture -> side of its input here: small where the architecture takes any size."""
FIRST_TIER = ("test_resnet", "test_vit", "mobilenetv3_small_100")


def tiers(architectures: Iterable[str]) -> list[ParameterSet]:
    """Parameters of a test: all but one convolutional network, one transformer and one large model are slow."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in FIRST_TIER else slow) for name in architectures]


def create(architecture: str, **model_args) -> nn.Module:
    """Random weights of one of timm's architectures, shaken."""
    return shaken(lambda: import_timm().create_model(architecture, num_classes=0, **model_args).eval())


def shaken(build: Callable[[], nn.Module]) -> nn.Module:
    """Draw random weights; normalisation layers and what starts at zero are shaken so that every layer matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.rand(parameter.shape) * 0.5)
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.add_(torch.rand(buffer.shape) * 0.1)
    return model


def images(n: int, px: int) -> torch.Tensor:
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(7))


def rungs(model: nn.Module, px: int) -> list[str]:
    return [line.layer for line in LayerGraph(model, "model", Signature("timm", (3, px, px))).lines]


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def above(model: nn.Module, names: list[str], rung: str) -> set[str]:
    """Names of the parameters of the layers above a rung, from the names alone."""
    layers = names[names.index(rung) + 1 :]
    return {name for name, _ in model.named_parameters() if any(f"{name}.".startswith(f"{part}.") for part in layers)}
