"""Every backbone, cut at every rung: the halves are the whole, in what they compute, learn, own and leave alone."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tests.contracts.zoo import LARGE, TINY, above, create, images, rungs, tensors, tiers
from torch import nn

from thawline.backbones import cut as cut_room
from thawline.backbones.cut import Cut, cut, segment
from thawline.backbones.signature import Signature
from thawline.errors import ModelError

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= 1e-5 * max(float(b.abs().max()), 1e-12)


def check_rung(model: nn.Module, names: list[str], rung: str, px: int) -> None:
    x = images(3, px)  # another batch size than the cut was checked with
    with torch.no_grad():
        whole = model(x)
    halves = cut(model, rung, signature=Signature("timm", (3, px, px)))
    crossing = halves.prefix(x)
    copies = [tensor.clone() for tensor in crossing]
    with torch.no_grad():
        close(halves.suffix(*crossing), whole)
    assert all(map(torch.equal, crossing, copies)), rung
    assert set(halves.suffix_parameter_names) == above(model, names, rung), rung
    check_learning(model, halves, names, rung, x)


def check_learning(model: nn.Module, halves: Cut, names: list[str], rung: str, x: torch.Tensor) -> None:
    """In train mode, gradients and statistics are those of a copy of the whole model that is frozen by hand."""
    by_hand = copy.deepcopy(model).train()
    thawed = above(model, names, rung)
    for name, parameter in by_hand.named_parameters():
        parameter.requires_grad_(name in thawed)
    for name in names[1 : names.index(rung) + 1]:
        if name != "pooled" and not isinstance(layer := attribute(by_hand, name), nn.Parameter):
            layer.eval()
    before = tensors(model)
    model.train()
    halves.suffix.train()
    with torch.random.fork_rng(devices=[]):  # stochastic depth drops the same paths in both
        torch.manual_seed(0)
        pooled = halves.suffix(*halves.prefix(x))
        torch.manual_seed(0)
        expected = by_hand(x)
    close(pooled, expected)
    if thawed:
        direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
        (pooled * direction).sum().backward()
        (expected * direction).sum().backward()
    gradients = dict(by_hand.named_parameters())
    for name, parameter in model.named_parameters():
        if name in thawed:
            close(parameter.grad, gradients[name].grad)
        else:
            assert parameter.grad is None, (rung, name)
        parameter.grad = None
    for name, tensor in model.state_dict().items():
        close(tensor.float(), by_hand.state_dict()[name].float())
        moved = not torch.equal(tensor, before[name])
        assert not moved or name in halves.suffix_buffer_names, (rung, name)
    model.load_state_dict(before)
    model.eval()


def attribute(model: nn.Module, name: str) -> nn.Module | nn.Parameter:
    owner, _, last = name.rpartition(".")
    return getattr(model.get_submodule(owner), last)


@pytest.mark.parametrize("architecture", tiers(TINY))
def test_rungs_of_a_small_model(architecture):
    model, px = create(architecture), TINY[architecture]
    names = rungs(model, px)
    for rung in names[:: len(names) // 4]:
        check_rung(model, names, rung, px)


@pytest.mark.parametrize(
    "architecture", tiers(["mobilenetv3_small_100", "densenet121", "inception_v3", "convnext_atto"])
)
def test_a_rung_in_the_middle_of_a_large_model(architecture):
    model, px = create(architecture), LARGE[architecture]
    names = rungs(model, px)
    check_rung(model, names, names[len(names) // 2], px)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*LARGE, *TINY])
def test_every_rung(architecture):
    model, px = create(architecture), (LARGE | TINY)[architecture]
    names = rungs(model, px)
    assert names[0] == "input"
    assert names[-1] == "pooled"
    for rung in names:
        check_rung(model, names, rung, px)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_one_training_step_changes_exactly_what_is_above_the_line(architecture):
    model, px = create(architecture), TINY[architecture]
    names = rungs(model, px)
    for rung in names[::4]:
        halves, before = cut(model, rung, signature=Signature("timm", (3, px, px))), tensors(model)
        learning = [model.get_parameter(name) for name in halves.suffix_parameter_names]
        optimiser = torch.optim.SGD([*learning, torch.zeros(1, requires_grad=True)], lr=0.1)
        features = halves.suffix.train()(*halves.prefix(images(4, px)))
        if learning:
            (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        optimiser.step()
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert moved - set(halves.suffix_buffer_names) == above(model, names, rung)


@pytest.fixture
def resnet() -> nn.Module:
    return create("test_resnet")


def test_the_halves_own_no_copies(resnet):
    halves = cut(resnet, "layer2.0", signature=Signature("timm", (3, 64, 64)))
    for name in halves.suffix_parameter_names:
        assert halves.suffix.get_parameter(name) is resnet.get_parameter(name)
    assert {id(tensor) for tensor in halves.prefix.parameters()} <= {id(tensor) for tensor in resnet.parameters()}
    assert halves.suffix.state_dict().keys() < resnet.state_dict().keys()
    assert halves.suffix.get_submodule("layer3.0") is resnet.get_submodule("layer3.0")


def test_the_line_moves_on_the_same_model(resnet):
    names = rungs(resnet, 64)
    for rung in ("layer3.0", "layer1.0", "pooled"):
        cut(resnet, rung, signature=Signature("timm", (3, 64, 64)))
        learning = {name for name, parameter in resnet.named_parameters() if parameter.requires_grad}
        assert learning == above(resnet, names, rung)


def test_the_prefix_stays_in_eval_mode_and_records_no_gradient(resnet):
    halves = cut(resnet, "layer2.0", signature=Signature("timm", (3, 64, 64)))
    expected, before = halves.prefix(images(4, 64)), tensors(resnet)
    assert not halves.prefix.train().training
    resnet.train()
    found = halves.prefix(images(4, 64).requires_grad_())
    assert torch.equal(found[0], expected[0])
    assert not found[0].requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet.state_dict().items())
    assert not resnet.get_submodule("layer1.0").training
    assert resnet.get_submodule("layer3.0").training


def test_modes_of_the_model_are_left_as_they_were(resnet):
    resnet.train()
    resnet.layer4.eval()
    cut(resnet, "pooled", signature=Signature("timm", (3, 64, 64)))
    assert resnet.training
    assert not resnet.layer4.training


def test_stochastic_depth_above_the_line_acts_in_train_mode_only():
    model = create("test_convnext", drop_path_rate=0.5)
    halves = cut(model, "stages.0.blocks.0", signature=Signature("timm", (3, 64, 64)))
    crossing = halves.prefix(images(8, 64))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(halves.suffix(*crossing), halves.suffix(*crossing))
        halves.suffix.train()
        assert not torch.equal(halves.suffix(*crossing), halves.suffix(*crossing))


def test_dropout_on_the_line_stays_above_it():
    model = create("test_vit", pos_drop_rate=0.5)
    halves = cut(model, "pos_embed")
    crossing = halves.prefix(images(8, 160))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        halves.suffix.train()
        assert not torch.equal(halves.suffix(*crossing), halves.suffix(*crossing))


class Toy(nn.Module):
    """(B, 3, H, W) -> (B, 4), with whatever the test puts between."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.stem, self.top = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.top(self.middle(self.stem(x))).mean((2, 3))


def test_what_learns_nothing_is_done_below_the_line_where_it_costs_no_space():
    toy = Toy(middle=nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Upsample(scale_factor=2)))
    (crossing,) = cut(toy, "middle.0", signature=Signature("timm", (3, 8, 8))).prefix(images(2, 8))
    assert crossing.shape == (2, 4, 8, 8)
    assert (crossing >= 0).all()


class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(nn.functional.relu(x, inplace=True)) + x


def test_a_layer_that_works_in_place_does_not_write_into_what_it_is_given():
    toy = Toy(middle=PreActivation())
    halves = cut(toy, "stem", signature=Signature("timm", (3, 8, 8)))
    crossing = halves.prefix(x := images(3, 8))
    copied = crossing[0].clone()
    for _ in range(2):
        assert torch.equal(halves.suffix(*crossing), toy(x))
    assert torch.equal(crossing[0], copied)
    assert (copied < 0).any()


class Sizes(Toy):
    """Takes sizes at the bottom and uses them at the top."""

    def forward(self, x):
        n, _, height, width = x.shape
        x = self.middle(self.stem(x)).flatten(2)
        return self.top(x.reshape(n, 4, height, width)).mean((2, 3))


def test_sizes_taken_below_the_line_hold_above_it_for_any_number_of_images():
    toy = Sizes(middle=nn.Conv2d(4, 4, 1))
    halves = cut(toy, "stem", signature=Signature("timm", (3, 8, 6)))
    assert len(halves.prefix(torch.zeros(1, 3, 8, 6))) == 1
    for n in (1, 2, 5):
        x = torch.randn(n, 3, 8, 6, generator=torch.Generator().manual_seed(n))
        assert torch.equal(halves.suffix(*halves.prefix(x)), toy(x))


class Shared(Toy):
    def __init__(self) -> None:
        super().__init__(middle=nn.Conv2d(4, 4, 1))
        self.bias = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        x = self.stem(x) + 2 * self.bias
        x = self.middle(x) + 2 * self.bias
        return self.top(x).mean((2, 3))


def test_a_parameter_used_on_both_sides_is_frozen():
    toy = Shared()
    assert rungs(toy, 8) == ["input", "stem", "bias", "middle", "top", "pooled"]
    halves = cut(toy, "bias", signature=Signature("timm", (3, 8, 8)))
    assert "bias" in dict(halves.suffix.named_parameters())
    assert halves.suffix_parameter_names == ("top.weight", "top.bias", "middle.weight", "middle.bias")
    assert not toy.bias.requires_grad
    x = images(2, 8)
    assert torch.equal(halves.suffix(*halves.prefix(x)), toy(x))
    assert "bias" in cut(toy, "stem", signature=Signature("timm", (3, 8, 8))).suffix_parameter_names


class Twice(Toy):
    def forward(self, x):
        return self.top(self.middle(self.side(self.middle(self.stem(x))))).mean((2, 3))


def test_there_is_no_rung_while_a_layer_runs_again_above():
    toy = Twice(middle=nn.Conv2d(4, 4, 1), side=nn.Conv2d(4, 4, 1))
    assert rungs(toy, 8) == ["input", "stem", "side", "top", "pooled"]
    halves = cut(toy, "side", signature=Signature("timm", (3, 8, 8)))
    assert halves.suffix_parameter_names == ("top.weight", "top.bias")
    x = images(2, 8)
    assert torch.equal(halves.suffix(*halves.prefix(x)), toy(x))


class Restless(nn.Conv2d):
    """Never the same twice: no cut of it can be exact."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + self.calls


class NotANumber(nn.Identity):
    def forward(self, x):
        return x * float("nan")


@pytest.mark.parametrize("middle", [Restless(4, 4, 1), NotANumber()])
def test_halves_that_are_not_the_whole_are_refused(middle):
    with pytest.raises(ModelError, match=r"Toy cut at 'stem' must give what the whole model gives; outputs up to"):
        cut(Toy(middle=middle), "stem", signature=Signature("timm", (3, 8, 8)))


def test_a_cut_that_loses_a_layer_is_caught(monkeypatch):
    right = cut_room._part

    def wrong(module, graph, given, nodes, wanted, copied=()):
        nodes = list(nodes)
        for lost in [node for node in nodes if node.target == "middle"]:
            lost.replace_all_uses_with(lost.args[0])
            nodes.remove(lost)
        return right(module, graph, given, nodes, wanted, copied)

    toy = Toy(middle=nn.Conv2d(4, 4, 1))
    cut(toy, "stem", signature=Signature("timm", (3, 8, 8)))
    monkeypatch.setattr(cut_room, "_part", wrong)
    with pytest.raises(ModelError, match=r"Toy cut at 'stem' must give what the whole model gives"):
        cut(toy, "stem", signature=Signature("timm", (3, 8, 8)))


def test_an_unknown_rung_is_refused_with_the_nearest(resnet):
    with pytest.raises(ModelError, match=r"got 'layer2'\. Did you mean 'layer2.0'"):
        cut(resnet, "layer2", signature=Signature("timm", (3, 64, 64)))


def test_a_model_without_pooled_features_is_refused():
    with pytest.raises(ModelError, match=r"must give pooled features \(B, D\); Conv2d does not"):
        cut(nn.Conv2d(3, 4, 1), "input", signature=Signature("timm", (3, 8, 8)))


def test_the_input_size_must_be_known():
    with pytest.raises(ModelError, match=r"input of a Toy must be known .* Give signature"):
        cut(Toy(middle=nn.Identity()), "stem")


def test_a_backbone_is_cut_at_its_own_input_size():
    from thawline.backbones.opening import open_backbone

    backbone = open_backbone("embedded/resnet18_half")
    halves = cut(backbone, "layer4.0")
    x = images(2, backbone.preparation.input_px[0])
    with torch.no_grad():
        close(halves.suffix(*halves.prefix(x)), backbone.module()(x))
    assert halves.suffix_parameter_names[0].startswith("layer4.1.")


def check_segments(architecture: str, rungs_of_interest: int) -> None:
    """Between any two rungs: what crosses the lower one leads, bit for bit, to what crosses the upper one."""
    px = (TINY | LARGE)[architecture]
    model = create(architecture).requires_grad_(True)
    names = rungs(model, px)
    chosen = names[:: max(1, len(names) // rungs_of_interest)]
    x = images(3, px)
    crossing = {}
    for name in chosen:
        halves = cut(model, name, signature=Signature("timm", (3, px, px)))
        assert halves.rungs_below == tuple(names[: names.index(name)])
        crossing[name] = halves.prefix(x)
    model.requires_grad_(True).train()
    for low, high in itertools.pairwise(chosen):
        stretch = segment(model, low, high, signature=Signature("timm", (3, px, px)))
        copies = [tensor.clone() for tensor in crossing[low]]
        found = stretch(*crossing[low])
        assert len(found) == len(crossing[high])
        assert all(map(torch.equal, found, crossing[high])), (low, high)
        assert all(map(torch.equal, crossing[low], copies)), (low, high)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("architecture", tiers(TINY))
def test_a_stretch_between_two_rungs_of_a_small_model(architecture):
    check_segments(architecture, 4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LARGE)
def test_a_stretch_between_two_rungs_of_a_large_model(architecture):
    check_segments(architecture, 8)


def test_a_stretch_does_not_write_into_what_it_is_given():
    toy = Toy(middle=PreActivation())
    (low,) = cut(toy, "stem", signature=Signature("timm", (3, 8, 8))).prefix(images(3, 8))
    copied = low.clone()
    (high,) = cut(toy, "middle", signature=Signature("timm", (3, 8, 8))).prefix(images(3, 8))
    toy.train()
    stretch = segment(toy, "stem", "middle", signature=Signature("timm", (3, 8, 8)))
    assert toy.training and toy.middle.training
    assert torch.equal(stretch(low)[0], high)
    assert torch.equal(low, copied) and (copied < 0).any()


def test_a_stretch_that_is_not_exact_is_refused():
    with pytest.raises(ModelError, match=r"Toy between 'stem' and 'top' must give what the whole model gives; outputs"):
        segment(Toy(middle=Restless(4, 4, 1)), "stem", "top", signature=Signature("timm", (3, 8, 8)))


@pytest.mark.parametrize("low", ["layer3.0", "layer2.0"])
def test_a_stretch_goes_upwards(resnet, low):
    with pytest.raises(ModelError, match=rf"low must be a rung below 'layer2.0'; got '{low}'"):
        segment(resnet, low, "layer2.0", signature=Signature("timm", (3, 64, 64)))
