"""One training step at every rung of every family: the receipt is clean, and exactly what is above the line changed."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import pytest
import torch
from tests.contracts.zoo import LARGE, TINY, above, create, images, rungs, tiers
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones import Receipt
from thawline.backbones.cut import Cut, cut
from thawline.backbones.opening import open_backbone
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import resolve_thaw
from thawline.backbones.watch import FreezeWatch
from thawline.errors import ReceiptError

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

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


def train_one_step(
    net: Net, halves: Cut, px: int, *, moving: bool = False, declared: Collection[str] | None = None
) -> Receipt:
    """One step of AdamW on one batch.

    Args:
        net: Its head and what is above the line learn.
        halves: Of its backbone.
        px: Side of the images.
        moving: Whether running statistics above the line move.
        declared: Names in the backbone of what is said to learn; by default what the cut says.
    """
    halves.suffix.train()
    for layer in halves.suffix.modules():
        if isinstance(layer, _NormBase):
            layer.train(moving)
    learning = [tensor for tensor in net.parameters() if tensor.requires_grad]
    thawed = halves.suffix_parameter_names if declared is None else declared
    thawed = [*(f"backbone.{name}" for name in thawed), "head.weight", "head.bias"]
    buffers = [f"backbone.{name}" for name in halves.suffix_buffer_names if moving]
    watch = FreezeWatch(f"above {halves.rung}", net, thawed=thawed, buffers=buffers)
    optimiser = torch.optim.AdamW(learning, lr=0.01)
    logits = net.head(halves.suffix(*halves.prefix(images(N_IMAGES, px))))
    functional.cross_entropy(logits, torch.arange(N_IMAGES) % N_CLASSES).backward()
    watch.saw_gradients()
    optimiser.step()
    return watch.issue()


def check_rung(net: Net, names: list[str], rung: str, px: int) -> None:
    halves = cut(net.backbone, rung, signature=Signature("timm", (3, px, px)))
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


@pytest.mark.parametrize("architecture", tiers(TINY))
def test_every_rung_of_a_small_model(architecture):
    check_every_rung(architecture, TINY[architecture])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LARGE)
def test_every_rung(architecture):
    check_every_rung(architecture, LARGE[architecture])


def train_above(rung: str, *, declared: str) -> Receipt:
    """Train above one rung where what is above another was declared to learn."""
    net, px = Net(create("test_resnet"), 64), 64
    names = cut(net.backbone, declared, signature=Signature("timm", (3, px, px))).suffix_parameter_names
    return train_one_step(net, cut(net.backbone, rung, signature=Signature("timm", (3, px, px))), px, declared=names)


def test_a_line_where_it_was_declared():
    for rung in ("layer2.0", "layer3.0"):
        assert train_above(rung, declared=rung).status == "clean"


def test_a_line_one_layer_too_low(monkeypatch):
    with pytest.raises(ReceiptError, match=r"no gradient to frozen tensors; 'backbone\.layer3\.0\.conv1\.weight'"):
        train_above("layer2.0", declared="layer3.0")
    monkeypatch.setattr(FreezeWatch, "_look_below", lambda self: None)  # and if nobody had looked at the first step:
    with pytest.raises(ReceiptError, match=r"must leave frozen .* first 'backbone\.layer3\.0\.conv1\.weight'"):
        train_above("layer2.0", declared="layer3.0")


def test_a_line_one_layer_too_high():
    with pytest.raises(ReceiptError, match=r"must send gradient .* first 'backbone\.layer3\.0\.conv1\.weight'"):
        train_above("layer3.0", declared="layer2.0")


def test_a_thaw_with_holes():
    """Scattered layers learn; what lies between them, above the line, is frozen and proved to be."""
    backbone = open_backbone("embedded/resnet18_half")
    thaw = resolve_thaw(backbone.ladder, r"regex:layer3|layer4\.1\.conv1", backbone.blueprint())
    net, px = Net(copy.deepcopy(backbone.module()).train(), 64), 64
    halves = cut(net.backbone, thaw.rung, signature=Signature("timm", (3, px, px)))
    holes = set(halves.suffix_parameter_names) - set(thaw.thawed)
    assert {"layer4.0.conv1.weight", "layer4.1.conv2.weight"} <= holes
    for name in holes:
        net.backbone.get_parameter(name).requires_grad_(False)
    receipt = train_one_step(net, halves, px, declared=thaw.thawed)
    assert receipt.thawed == (*(f"backbone.{name}" for name in thaw.thawed), "head.weight", "head.bias")
    assert receipt.frozen_parameters == len(thaw.frozen)
