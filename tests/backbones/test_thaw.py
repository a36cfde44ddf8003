"""Where the line stands, on toy models whose layers can be counted by hand, and on real architectures."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from thawline.backbones import open_backbone
from thawline.backbones.ladder import Ladder, Rung
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.errors import UsageError

SIGNATURE = Signature("timm", (3, 4, 4))


class Stage(nn.Module):
    """A convolution without bias (3 numbers), its batch norm (2 numbers) and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, bias=False)
        self.bn = nn.BatchNorm1d(1)
        self.act = nn.ReLU()


class Toy(nn.Module):
    """Stages called layer1, layer2 and layer10, a scale that no layer holds, and a normalisation after the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(5))
        self.layer1, self.layer2, self.layer10 = Stage(), Stage(), Stage()
        self.norm = nn.LayerNorm(2)  # 4 numbers
        self.drop = nn.Dropout(0.5)


PARTS = {"conv": 3, "bn": 2, "act": 0}
STAGES = ("layer1", "layer2", "layer10")


def ladder_of(layers: dict[str, int]) -> Ladder:
    """A ladder whose rungs are these layers; what is before the dot is the stage."""
    rungs, below = [Rung("input", "input", "Input", (1, 8), 0, 0, 0.0, 16)], 0
    for name, size in (layers if "pooled" in layers else layers | {"pooled": 0}).items():
        below += size
        rungs.append(Rung(name, name.partition(".")[0], "Layer", (1, 8), size, below, 1.0, 16))
    return Ladder("toy", sum(size > 0 for size in layers.values()), below, tuple(rungs), SIGNATURE)


@pytest.fixture
def module() -> nn.Module:
    return Toy()


@pytest.fixture
def ladder() -> Ladder:
    parts = {f"{stage}.{part}": size for stage in STAGES for part, size in PARTS.items()}
    return ladder_of({"token": 5, **parts, "norm": 4, "drop": 0})


def of(*layers: str) -> list[str]:
    """Names of the parameters of some of the toy's layers."""
    kinds = {"conv": ["weight"], "bn": ["weight", "bias"], "norm": ["weight", "bias"]}
    return [f"{layer}.{name}" for layer in layers for name in kinds[layer.rpartition(".")[2]]]


@pytest.mark.parametrize(
    ("setting", "rung", "thawed"),
    [
        ("none", "pooled", []),
        ("last:1", "layer10.act", of("norm")),
        ("last:2", "layer10.conv", of("layer10.bn", "norm")),
        ("last:3", "layer2.act", of("layer10.conv", "layer10.bn", "norm")),
        ("first-frozen:7", "layer10.act", of("norm")),
        ("first-frozen:1", "token", of(*(f"{s}.{p}" for s in STAGES for p in ("conv", "bn")), "norm")),
        ("stage:layer10", "layer2.act", of("layer10.conv", "layer10.bn", "norm")),
        ("from:layer10", "layer2.act", of("layer10.conv", "layer10.bn", "norm")),
        ("from:layer10.bn", "layer10.conv", of("layer10.bn", "norm")),
        ("from:layer2.act", "layer2.act", of("layer10.conv", "layer10.bn", "norm")),
        ("regex:layer1", "token", of("layer1.conv", "layer1.bn")),
        ("regex:layer2|norm", "layer1.act", of("layer2.conv", "layer2.bn", "norm")),
        (r"regex:layer\d+\.bn", "layer1.conv", of("layer1.bn", "layer2.bn", "layer10.bn")),
        (r"regex:layer2.*\.bias", "layer2.conv", ["layer2.bn.bias"]),
        ("regex:token", "input", ["token"]),
        ("16.6%", "layer10.act", of("norm")),
        ("16.7 %", "layer10.conv", of("layer10.bn", "norm")),
        ("25%", "layer10.conv", of("layer10.bn", "norm")),
        ("25.1%", "layer2.act", of("layer10.conv", "layer10.bn", "norm")),
        (" last:1 ", "layer10.act", of("norm")),
    ],
)
def test_a_setting_thaws_exactly(ladder: Ladder, module: nn.Module, setting: str, rung: str, thawed: list[str]) -> None:
    thaw = resolve_thaw(ladder, setting, module)
    assert (thaw.rung, list(thaw.thawed)) == (rung, thawed)
    assert sorted(thaw.thawed + thaw.frozen) == sorted(name for name, _ in module.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    assert thaw.n_trainable == sum(sizes[name] for name in thawed)
    assert thaw.n_frozen == 24 - thaw.n_trainable
    assert thaw.setting == setting.strip()


@pytest.mark.parametrize(
    "setting", ["all", "last:8", "first-frozen:0", "100%", "from:input", "stage:token", "regex:.*"]
)
def test_everything_can_thaw(ladder: Ladder, module: nn.Module, setting: str) -> None:
    thaw = resolve_thaw(ladder, setting, module)
    assert (thaw.rung, thaw.frozen, thaw.n_trainable) == ("input", (), 24)
    assert thaw.trainable_at == tuple(rung.parameters for rung in ladder.rungs)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            "last:0",
            "unlocks nothing: no layer that has parameters comes after that line. The nearest that does is last:1, ",
        ),
        ("last:0", "last:1, which thaws 4 parameters; none keeps everything frozen"),
        ("0%", "thaw 0% unlocks nothing.*nearest that does is last:1, which thaws 4"),
        ("0.0 %", "unlocks nothing"),
        ("first-frozen:8", "unlocks nothing.*nearest that does is first-frozen:7, which thaws 4"),
        ("from:drop", "unlocks nothing.*nearest that does is from:norm, which thaws 4"),
        ("from:pooled", "unlocks nothing.*nearest that does is from:norm"),
        ("stage:pooled", "unlocks nothing.*nearest that does is stage:norm"),
        (
            "regex:layer3",
            r"unlocks nothing: the pattern must match the whole name.*nearest that does is regex:layer2, which thaws 5",
        ),
        ("regex:bn", r"nearest that does is regex:\.\*\(\?:bn\)\.\*, which thaws 6"),
        ("regex:(?i)BN", r"nearest that does is regex:\(\?i\)\.\*\(\?:BN\)\.\*, which thaws 6"),
        ("regex:(?x)bn # batch norm", "nearest that does is regex:"),
        (r"regex:layer\d+\.act", "unlocks nothing"),
        (r"regex:act|drop", "unlocks nothing"),
        ("last:9", "last:9 counts more layers than there are: toy has 8 that have parameters. The most is last:8"),
        ("first-frozen:9", "toy has 8 that have parameters. The most is first-frozen:7"),
        ("last:two", "last:two must count layers with a whole number, at most last:8"),
        ("last:-1", "last:-1 must count"),
        ("last:1.5", "must count"),
        ("last:" + "9" * 5000, "must count"),
        ("101%", "101% must be a share of the parameters, above 0 % and up to 100 %"),
        ("stage:layer3", "must name a stage of toy; got 'layer3'. Did you mean 'layer2', 'layer1', 'layer10'"),
        ("stage:zzz", "Stages: input, token, layer1, layer2, layer10, norm, drop, pooled"),
        ("stage:layer1.bn", "names a layer, not a stage. Write from:layer1.bn"),
        ("from:layer1.bm", "must name a layer of toy; got 'layer1.bm'. Did you mean 'layer1.bn'"),
        ("from:layer", "must name a layer of toy; got 'layer'"),
        ("from:", "must be one of none, all, last:N"),
        ("regex:(", "must be a regular expression; got '\\(': missing \\)"),
        ("lst:3", "must be one of none, all, .*; got 'lst:3'. Did you mean 'last:N'"),
        ("layer10", "got 'layer10'. Did you mean 'stage:layer10'"),
        ("layer10.bn", "got 'layer10.bn'. Did you mean 'from:layer10.bn'"),
        ("progressive", "got 'progressive'. It moves the line while it measures"),
        ("auto", "give the one line that you want to see"),
        ("none:3", "must be one of none"),
        ("-5%", "must be one of none"),
        ("", "must be one of none"),
    ],
)
def test_a_setting_that_cannot_be_names_the_next_step(
    ladder: Ladder, module: nn.Module, setting: str, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        resolve_thaw(ladder, setting, module)


@pytest.mark.parametrize(
    "setting", ["last:0", "0%", "first-frozen:8", "from:drop", "stage:drop", "regex:bn", "regex:aktt"]
)
def test_what_is_named_instead_does_thaw(ladder: Ladder, module: nn.Module, setting: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve_thaw(ladder, setting, module)
    said = re.search(r"nearest that does is (\S+), which thaws (\d+) parameters", str(refused.value))
    assert said
    assert resolve_thaw(ladder, said[1], module).n_trainable == int(said[2]) > 0


def test_statistics_move_only_where_their_layer_thaws(ladder: Ladder, module: nn.Module) -> None:
    def moving(setting: str) -> set[str]:
        names = resolve_thaw(ladder, setting, module).buffers
        assert {name.rpartition(".")[2] for name in names} <= {"running_mean", "running_var", "num_batches_tracked"}
        return {name.rpartition(".")[0] for name in names}

    assert moving("none") == moving("last:1") == set()
    assert moving("last:2") == {"layer10.bn"}
    assert moving("all") == {f"{stage}.bn" for stage in STAGES}
    assert moving("regex:layer2") == {"layer2.bn"}, "a frozen batch norm after a thawed block keeps its statistics"
    assert moving(r"regex:.*\.bias") == set(), "a bias alone does not unlock the statistics beside it"


def test_other_buffers_never_move(module: nn.Module, ladder: Ladder) -> None:
    module.norm.register_buffer("relative_position_index", torch.arange(3))
    module.layer10.bn = nn.BatchNorm1d(1, affine=False)
    layers = {rung.name: rung.parameters for rung in ladder.rungs[1:-1]} | {"layer10.bn": 0}
    ladder = ladder_of(layers)
    assert ladder.layers == 7
    assert {name.rpartition(".")[0] for name in resolve_thaw(ladder, "last:2", module).buffers} == {"layer10.bn"}
    frozen_below_the_line = resolve_thaw(ladder, "from:layer10.bn", module)
    assert (frozen_below_the_line.rung, frozen_below_the_line.buffers) == ("layer10.act", ())


def test_blocks_as_rungs_are_counted_as_one(module: nn.Module) -> None:
    ladder = ladder_of({"token": 5, "layer1": 5, "layer2": 5, "layer10": 5, "norm": 4})
    assert resolve_thaw(ladder, "last:2", module).thawed == tuple(of("layer10.conv", "layer10.bn", "norm"))
    part = resolve_thaw(ladder, r"regex:layer2\.bn", module)
    assert (part.rung, part.thawed) == ("layer1", ("layer2.bn.weight", "layer2.bn.bias"))
    assert part.trainable_at == (0, 0, 0, 2, 0, 0, 0)
    with pytest.raises(
        UsageError, match=r"'layer2.bn' lies inside 'layer2'. Write from:layer2, or regex:layer2\\.bn to"
    ):
        resolve_thaw(ladder, "from:layer2.bn", module)


def test_a_parameter_without_a_rung_freezes_with_the_layer_that_follows(module: nn.Module) -> None:
    ladder = ladder_of({"layer1": 10, "layer2": 5, "layer10": 5, "pooled": 4})  # token with layer1, norm with the end
    assert "token" in resolve_thaw(ladder, "first-frozen:1", module).frozen
    assert resolve_thaw(ladder, "last:1", module).thawed == ("norm.weight", "norm.bias")
    assert resolve_thaw(ladder, "last:1", module).rung == "layer10"


def test_a_shared_parameter_learns_only_where_nothing_below_the_line_has_it() -> None:
    module = nn.Module()
    module.low, module.high, module.top = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(1, 1)
    module.high.weight = module.low.weight
    ladder = ladder_of({"low": 6, "high": 2, "top": 2})
    assert resolve_thaw(ladder, "last:2", module).thawed == ("high.bias", "top.weight", "top.bias")
    assert resolve_thaw(ladder, "last:3", module).frozen == ()
    assert resolve_thaw(ladder, "regex:high", module).thawed == ("high.bias",)
    assert resolve_thaw(ladder, "regex:low", module).thawed == ("low.bias",)
    assert "low.weight" in resolve_thaw(ladder, "regex:low|high", module).thawed


def test_a_layer_that_only_shares_unlocks_nothing() -> None:
    module = nn.Module()
    module.low, module.high = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    module.high.weight = module.low.weight
    ladder = ladder_of({"low": 4, "high": 0})
    with pytest.raises(UsageError, match=r"from:high unlocks nothing.*nearest that does is from:low"):
        resolve_thaw(ladder, "from:high", module)
    with pytest.raises(UsageError, match=r"regex:high unlocks nothing.*nearest that does is last:1"):
        resolve_thaw(ladder, "regex:high", module)


def test_a_model_without_parameters_can_only_stay_frozen() -> None:
    ladder = ladder_of({"pool": 0})
    assert resolve_thaw(ladder, "none", nn.ReLU()).rung == "pooled"
    with pytest.raises(UsageError, match=r"all unlocks nothing: toy can only be used frozen"):
        resolve_thaw(ladder, "all", nn.ReLU())


class Crossed(nn.Module):
    """The layer registered last runs first, and has no rung: it makes one batch of all rows of all images."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(4, 4)
        self.end = nn.Linear(4, 2)
        self.middle = nn.Linear(3, 4)
        self.early = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.mean(1).flatten(0, 1)  # (B, 3, H, 4) -> (B * H, 4)
        rows = self.middle(self.early(rows)).unflatten(0, (-1, images.shape[2]))  # (B, H, 4)
        return self.end(self.late(rows.mean(1)))


def test_layers_in_another_order_than_registered_are_placed_by_the_forward_pass() -> None:
    sizes = {"middle": 15 + 6 + 16, "late": 20, "end": 10}
    rungs = [Rung("input", "input", "Input", (3, 4, 4), 0, 0, 0.0, 96)]
    rungs += [Rung(name, name, "Linear", (4,), n, 0, 1.0, 8) for name, n in sizes.items()]
    ladder = Ladder("crossed", 3, 67, (*rungs, Rung("pooled", "pooled", "Pooled", (2,), 0, 67, 1.0, 4)), SIGNATURE)
    thaw = resolve_thaw(ladder, "last:2", Crossed())
    assert {name.partition(".")[0] for name in thaw.frozen} == {"early", "middle"}
    assert thaw.n_frozen == sizes["middle"]
    assert (thaw.rung, thaw.buffers) == ("middle", ())
    assert len(resolve_thaw(ladder, "all", Crossed()).buffers) == 3


def test_a_ladder_of_another_model_is_a_mistake(ladder: Ladder) -> None:
    rungs = (Rung("input", "input", "Input", (3, 4, 4), 0, 0, 0.0, 96), *ladder.rungs[1:])
    with pytest.raises(ValueError, match="the ladder of toy is not one of this Crossed"):
        resolve_thaw(Ladder("toy", 8, 24, rungs, SIGNATURE), "last:2", Crossed())


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_byobnet", "test_convnext"])
def test_real_ladders_count_the_same_layers(architecture: str) -> None:
    """The parameters of each rung, which the ladder counts by running the model, are the ones listed here."""
    backbone = open_backbone(f"timm/{architecture}", architecture_only=True)
    ladder, module = backbone.ladder, backbone.blueprint()
    everything = resolve_thaw(ladder, "all", module)
    assert everything.trainable_at == tuple(rung.parameters for rung in ladder.rungs)
    layers = [rung for rung in ladder.rungs if rung.parameters]
    assert len(layers) == ladder.layers
    for n in range(1, ladder.layers + 1):
        assert resolve_thaw(ladder, f"last:{n}", module).n_trainable == sum(rung.parameters for rung in layers[-n:])
    for rung in ladder.rungs[:-1]:
        frozen: Thaw = resolve_thaw(ladder, f"from:{rung.name}", module) if rung.parameters else everything
        assert frozen.n_frozen == rung.below - rung.parameters
