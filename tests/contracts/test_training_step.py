"""One training step at every rung of every family: the receipt is clean, and exactly what is above the line changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.contracts.zoo import LARGE, TINY, above, create, images, rungs
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones import Receipt
from thawline.backbones.cut import Cut, cut
from thawline.backbones.watch import FreezeWatch

N_IMAGES, N_CLASSES = 4, 3
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Net(nn.Module):
    """A backbone and a fresh linear head."""

    def __init__(self, backbone: nn.Module, px: int) -> None:
        super().__init__()
        self.backbone = backbone
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            self.head = nn.Linear(backbone(images(2, px)).shape[1], N_CLASSES)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def statistics_above(net: Net, names: list[str], rung: str) -> set[str]:
    """Names of the running statistics of the layers above a rung, from the names alone."""
    layers = [f"backbone.{name}." for name in names[names.index(rung) + 1 :]]
    return {name for name, _ in net.named_buffers() if name.endswith(STATISTICS) and name.startswith(tuple(layers))}


def train_one_step(net: Net, halves: Cut, px: int, *, moving: bool) -> Receipt:
    """One step of AdamW on one batch, with running statistics above the line that move or do not."""
    halves.suffix.train()
    for layer in halves.suffix.modules():
        if isinstance(layer, _NormBase):
            layer.train(moving)
    thawed = [f"backbone.{name}" for name in halves.suffix_parameter_names] + ["head.weight", "head.bias"]
    buffers = [f"backbone.{name}" for name in halves.suffix_buffer_names if moving]
    watch = FreezeWatch(f"above {halves.rung}", net, thawed=thawed, buffers=buffers)
    optimiser = torch.optim.AdamW([net.get_parameter(name) for name in thawed], lr=0.01)
    logits = net.head(halves.suffix(*halves.prefix(images(N_IMAGES, px))))
    functional.cross_entropy(logits, torch.arange(N_IMAGES) % N_CLASSES).backward()
    watch.saw_gradients()
    optimiser.step()
    return watch.issue()


def check_rung(net: Net, names: list[str], rung: str, px: int) -> None:
    halves = cut(net.backbone, rung, input_px=(px, px))
    learned = {f"backbone.{name}" for name in above(net.backbone, names, rung)} | {"head.weight", "head.bias"}
    before = {name: tensor.detach().clone() for name, tensor in named_tensors(net)}
    for moving in (False, True):
        receipt = train_one_step(net, halves, px, moving=moving)
        statistics = statistics_above(net, names, rung) if moving else set()
        changed = {name for name, tensor in named_tensors(net) if not torch.equal(tensor, before[name])}
        assert changed == learned | statistics, rung
        assert set(receipt.thawed) == learned, rung
        assert set(receipt.moved_buffers) == statistics, rung
        with torch.no_grad():
            for name, tensor in named_tensors(net):
                tensor.copy_(before[name])
        net.zero_grad(set_to_none=True)


def check_every_rung(architecture: str, px: int) -> None:
    net = Net(create(architecture), px)
    names = rungs(net.backbone, px)
    for rung in names:
        check_rung(net, names, rung, px)


@pytest.mark.parametrize("architecture", TINY)
def test_every_rung_of_a_small_model(architecture):
    check_every_rung(architecture, TINY[architecture])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LARGE)
def test_every_rung(architecture):
    check_every_rung(architecture, LARGE[architecture])
