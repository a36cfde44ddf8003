"""Layers that run as one give what they give one by one; only those do that can; and nothing is left of it after."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import pytest
import torch
from tests.training import toy
from torch import nn
from torch.nn import functional

from thawline.backbones.ladder import build_ladder
from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import resolve_thaw
from thawline.engines import convolving
from thawline.training.fused import convolution
from thawline.training.fused.chains import Chain, usable_chains
from thawline.training.net import Above, Net

import_timm()
from timm.layers import BatchNormAct2d, Conv2dSame  # noqa: E402

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

Gradients = dict[str, torch.Tensor]


def above_of(name: str, setting: str = "all", *, moving: bool = False, **arguments: Any) -> Above:
    """What is above the line of a net with random weights."""
    px = toy.SIDE[name]
    return Above(
        toy.make_net(name, **arguments),
        toy.thaw(setting, name),
        Signature("timm", (3, px, px)),
        moving_statistics=moving,
    )


def above_toy(backbone: nn.Module) -> Above:
    """The whole of a backbone made by the test, of 8 x 8 pictures."""
    signature = Signature("timm", (3, 8, 8))
    thaw = resolve_thaw(build_ladder(backbone, "made", signature), "all", backbone)
    with torch.no_grad():
        width = backbone(torch.zeros(1, 3, 8, 8)).shape[1]
    return Above(Net(backbone, nn.Linear(width, toy.CLASSES)), thaw, signature, moving_statistics=False)


def gradients(above: Above, n: int = 4, *, seed: int = 3) -> Gradients:
    """Of everything that learns, and the logits; in the mode that ``above`` is in."""
    px = above.signature.shape[-1]
    images = torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(seed)).to(above.net.head.weight.dtype)
    crossing = above.cut.prefix(images.contiguous(memory_format=torch.channels_last))
    above.net.zero_grad()
    logits = above.logits(crossing)
    functional.cross_entropy(logits, torch.arange(n) % toy.CLASSES).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in above.learning.items()}
    return {name: g.clone() for name, g in found.items() if g is not None} | {"logits": logits.detach()}


def assert_close(found: Gradients, expected: Gradients, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        difference = float(torch.linalg.vector_norm(found[name] - right))
        assert difference <= tolerance * float(torch.linalg.vector_norm(right)), name


FAMILIES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "toy": (4, 0, {}),  # its activations are functions, no layers
    "mobilenetv2_100": (52, 35, {"pad_type": "same"}),
    "mobilenetv3_small_100": (34, 5, {}),
    "test_resnet": (15, 8, {}),
    "test_efficientnet": (13, 0, {}),
    "regnetx_002": (44, 27, {}),
    "test_convnext": (0, 0, {}),
    "test_vit": (0, 0, {}),
}
"""Convolutions that batch norm is folded into, those that an activation is computed with, and model arguments."""


def of_family(name: str, setting: str = "all", **settings: bool) -> Above:
    return above_of(name, setting, **settings, **FAMILIES[name][2])


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_of_the_layers_one_by_one(name: str) -> None:
    above = of_family(name)
    above.net.double()
    above.train()
    expected = gradients(above)
    with toy.folded(above) as chains:
        found = gradients(above)
    norms, activations = (sum(layer is not None for layer in layers) for layers in _columns(chains))
    assert (norms, activations) == FAMILIES[name][:2]
    assert expected.keys() == above.learning.keys() | {"logits"}
    assert_close(found, expected, 1e-6)  # logits are float32


@pytest.mark.parametrize("name", ["toy", "test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_gradients_in_float32(name: str) -> None:
    above = of_family(name)
    above.train()
    expected = gradients(above)
    with toy.folded(above):
        assert_close(gradients(above), expected, 1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "regnetx_002",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv2_100", "mobilenetv3_small_100")),
    ],
)
def test_gradients_in_float32_are_as_near_to_the_true_ones(name: str) -> None:
    """Rounding turns some activations of deep random nets on or off, with folding and without: the median counts."""
    errors = []
    for seed in range(5):
        above = of_family(name)
        above.train()
        usual = gradients(above, seed=seed)
        with toy.folded(above):
            found = gradients(above, seed=seed)
        above.net.double()
        true = gradients(above, seed=seed)
        errors.append((_error(found, true), _error(usual, true)))
    of_folded, of_usual = (statistics.median(column) for column in zip(*errors, strict=True))
    assert 0 < of_folded < max(2 * of_usual, 1e-4)


def _columns(chains: list[Chain]) -> tuple[list[Any], list[Any]]:
    return [chain.norm for chain in chains], [chain.activation for chain in chains]


@pytest.mark.parametrize("name", ["mobilenetv2_100", "test_efficientnet", "test_resnet", "test_convnext"])
def test_gradients_in_bf16_are_as_near_to_the_true_ones(name: str) -> None:
    above = of_family(name)
    above.train()
    true = gradients(above)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        usual = gradients(above)
        with toy.folded(above):
            found = gradients(above)
    error, usual_error = (_error(one, true) for one in (found, usual))
    assert 0 < error < 1.1 * usual_error


def _error(found: Gradients, true: Gradients) -> float:
    """Root mean square over tensors of the relative error."""
    errors = [torch.linalg.vector_norm(found[n] - t) / torch.linalg.vector_norm(t) for n, t in true.items()]
    return float(torch.stack(errors).square().mean().sqrt())


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2), (7, 2), (4, 3), ((1, 7), (1, 2))])
def test_detours_of_depthwise_convolutions(
    kernel: Any, stride: Any, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of a depthwise convolution in bf16, against those of the same numbers in float32."""
    torch.manual_seed(0)
    conv = (Conv2dSame if same else nn.Conv2d)(6, 6, kernel, stride, 1 if kernel != (1, 7) else 0, groups=6)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(parameter.bfloat16())
    x = torch.randn(2, 6, 17, 14).bfloat16().contiguous(memory_format=torch.channels_last)
    direction = torch.randn_like(conv(x.float())).bfloat16()
    taken: list[str] = []
    for detour in ("_depthwise_input_gradient", "_depthwise_weight_gradient"):
        usual = getattr(convolution, detour)
        monkeypatch.setattr(convolution, detour, _counting(taken, detour, usual))
    found, expected = (
        torch.autograd.grad((run(given) * direction.to(given.dtype)).sum(), (given, conv.weight, conv.bias))
        for run, given in ((_alone(conv), x.clone().requires_grad_()), (conv, x.float().requires_grad_()))
    )
    wide, strided = max(conv.kernel_size) > 3, max(conv.stride) > 1
    assert len(taken) == wide + strided
    assert convolution.takes_detours(conv)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0.02, atol=0.01 * float(other.abs().max()))


def _counting(taken: list[str], name: str, usual: Any) -> Any:
    def counted(*args: Any) -> Any:
        taken.append(name)
        return usual(*args)

    return counted


def _alone(conv: nn.Conv2d) -> Any:
    """A convolution run as a chain of its own, in bf16."""
    fixed = convolution.Fixed(
        stride=conv.stride, dilation=conv.dilation, groups=conv.groups, activation="none", mean=None, inverse_std=None
    )
    pads = convolving.same_pads if isinstance(conv, Conv2dSame) else convolving.own_pads

    def run(x: torch.Tensor) -> torch.Tensor:
        w, b = convolution.fold(conv, None, fixed, torch.bfloat16)
        return convolution.convolve(x.bfloat16(), w, b, fixed, pads(conv, x.shape[2:]))

    return run


def test_a_frozen_hole_gets_no_gradient_and_what_is_around_it_the_right_one() -> None:
    above = of_family("test_efficientnet")
    for name, parameter in above.net.backbone.named_parameters():
        parameter.requires_grad_("bn1" not in name and "conv_pw." not in name)
    above.train()
    above.learning = {name: p for name, p in above.learning.items() if p.requires_grad}
    expected = gradients(above)
    with toy.folded(above):
        found = gradients(above)
    assert_close(found, expected, 1e-5)
    assert all(p.grad is None for p in above.net.parameters() if not p.requires_grad)


def test_layers_whose_gradients_would_be_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    above, usual = of_family("test_resnet"), convolution._gradients
    assert usable_chains(above)

    def without_weights(*given: Any) -> Any:
        dx, dw, db = usual(*given)
        return dx, None if dw is None else dw / 2, db

    monkeypatch.setattr(convolution, "_gradients", without_weights)
    assert usable_chains(above) == []


def test_layers_whose_outputs_would_be_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    above, usual = of_family("test_resnet"), convolution.activated
    monkeypatch.setattr(convolution, "activated", lambda *given: usual(*given) * 1.01)
    assert usable_chains(above) == []


def test_statistics_that_move_are_not_folded() -> None:
    above = of_family("test_resnet", "stage:layer4", moving=True)
    with toy.folded(above) as chains:
        assert chains == []
        before = {name: tensor.clone() for name, tensor in above.moving.items()}
        gradients(above)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in above.moving.items())


def test_trying_moves_no_statistics_and_draws_from_no_generator_of_others() -> None:
    above = of_family("test_resnet", moving=True)
    before = toy.state(above.net)
    torch.manual_seed(11)
    drawn = torch.rand(3)
    torch.manual_seed(11)
    with toy.folded(above):
        assert torch.equal(torch.rand(3), drawn)
    assert toy.differing(toy.state(above.net), before) == []


def test_without_gradients_layers_run_one_by_one() -> None:
    above = of_family("mobilenetv2_100")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        above.train()
        expected = above.logits((images,))
        with toy.folded(above):
            assert torch.equal(above.logits((images,)), expected)
            with torch.enable_grad():
                assert not torch.equal(above.logits((images,)), expected)


def test_nothing_is_left_behind() -> None:
    above = of_family("test_efficientnet")
    above.eval()
    before = {name: copy.copy(layer.__dict__) for name, layer in above.net.named_modules()}
    names = list(above.net.state_dict())
    with toy.folded(above) as chains:
        assert chains
        assert list(above.net.state_dict()) == names
    above.eval()
    after = {name: layer.__dict__ for name, layer in above.net.named_modules()}
    assert after == before


class Made(nn.Module):
    """(B, 3, 8, 8) -> (B, 4): a convolution and batch norm, with whatever a test makes of them."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None, between: Any = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm = conv or nn.Conv2d(3, 4, 3), norm or nn.BatchNorm2d(4)
        self.act, self.top, self.between = nn.ReLU(), nn.Conv2d(4, 4, 1), between
        self.norm.running_mean.add_(0.3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.top(self.body(x)).mean((2, 3))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))


class ReadTwice(Made):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.act(self.norm(y)) + y


class ReadSecretly(Made):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.act(self.norm(y)) + y.detach()


class NormReadTwice(Made):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return self.act(y) + y


class ChangedBetween(Made):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y.mul_(1)  # what comes out is the same, so that only the graph tells
        return self.act(self.norm(y))


class NormTwice(Made):
    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.norm(self.conv(x))))


class Scaled(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * x)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (Made(), "conv norm act"),
        (Made(norm=BatchNormAct2d(4)), "conv norm act"),
        (Made(norm=BatchNormAct2d(4, act_layer=nn.SiLU)), "conv norm"),
        (Made(norm=BatchNormAct2d(4, apply_act=False)), "conv norm act"),
        (Made(norm=nn.BatchNorm2d(4, affine=False)), "conv norm act"),
        (Made(norm=BatchNormAct2d(4, drop_layer=nn.Dropout)), "conv norm"),
        (Made(conv=nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), ""),
        (Made(conv=nn.Conv2d(3, 4, 3, padding="same")), ""),
        (Made(conv=Scaled(3, 4, 3)), ""),
        (Made(conv=Conv2dSame(3, 4, 3, 2, dilation=2)), "conv norm act"),
        (ReadTwice(), ""),
        (ReadSecretly(), ""),
        (NormReadTwice(), "conv norm"),
        (ChangedBetween(), ""),
        (NormTwice(), ""),
    ],
)
def test_what_is_found(made: Made, expected: str) -> None:
    above = above_toy(made)
    above.train()
    right = gradients(above)
    with toy.folded(above) as chains:
        layers = [
            layer for chain in chains for layer in (chain.conv, chain.norm, chain.activation) if layer is not None
        ]
        assert_close(gradients(above), right, 1e-5)
    own = getattr(made.norm, "act", None)
    names = [
        "act" if layer is own else n
        for layer in layers
        for n, child in [*made.named_modules(), ("act", own)]
        if child is layer
    ]
    assert " ".join(dict.fromkeys(names)) == expected


def test_a_layer_with_a_hook_is_left_alone() -> None:
    made = Made()
    made.conv.register_forward_hook(lambda layer, given, gave: 2 * gave)
    above = above_toy(made)
    with toy.folded(above) as chains:
        assert chains == []
