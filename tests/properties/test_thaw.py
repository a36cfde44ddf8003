"""Whatever the model and the setting: complete, disjoint, nothing below the line learns, a higher line trains less."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from thawline.backbones.ladder import Ladder, Rung
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.cli.ladder import contract
from thawline.errors import UsageError

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

KINDS = (
    lambda n: nn.Linear(n, 2),
    lambda n: nn.Conv2d(n, 1, 1, bias=False),
    lambda n: nn.BatchNorm2d(n),
    lambda n: nn.BatchNorm2d(n, affine=False),
    lambda n: nn.ReLU(),
    lambda n: nn.Dropout(),
)

SIGNATURE = Signature("timm", (3, 4, 4))


@st.composite
def models(draw) -> tuple[nn.Module, Ladder]:
    """Stages of layers, one rung each, or one rung per stage; at least one layer has parameters."""
    spec = draw(
        st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9)), min_size=1), min_size=1, max_size=12)
    )
    fine = draw(st.booleans())
    with torch.device("meta"):
        module = nn.Sequential(*(nn.Sequential(*(kind(n) for kind, n in layers)) for layers in spec))
    assume(any(True for _ in module.parameters()))
    names = (
        [f"{s}.{i}" for s, layers in enumerate(spec) for i in range(len(layers))]
        if fine
        else map(str, range(len(spec)))
    )
    rungs, below = [Rung("input", "input", "Input", (3, 4, 4), 0, 0, 0.0, 96)], 0
    for name in names:
        size = sum(parameter.numel() for parameter in module.get_submodule(name).parameters())
        below += size
        rungs.append(Rung(name, name.partition(".")[0], "Layer", (1,), size, below, 0.5, 2))
    rungs.append(Rung("pooled", "pooled", "Pooled", (1,), 0, below, 1.0, 2))
    return module, Ladder("made up", sum(rung.parameters > 0 for rung in rungs), below, tuple(rungs), SIGNATURE)


def all_contiguous(module: nn.Module, ladder: Ladder) -> list[Thaw]:
    """From nothing thawed to everything."""
    some = [resolve_thaw(ladder, f"last:{n}", module) for n in range(1, ladder.layers + 1)]
    return [resolve_thaw(ladder, "none", module), *some]


def rung_of(ladder: Ladder, name: str) -> int:
    return next(i for i, rung in enumerate(ladder.rungs) if f"{name}.".startswith(f"{rung.name}."))


def check(thaw: Thaw, module: nn.Module, ladder: Ladder) -> None:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    assert not set(thaw.thawed) & set(thaw.frozen)
    assert [name for name in sizes if name in {*thaw.thawed, *thaw.frozen}] == list(sizes)
    assert len(thaw.thawed) + len(thaw.frozen) == len(sizes)
    assert thaw.n_trainable == sum(sizes[name] for name in thaw.thawed)
    assert thaw.n_frozen == sum(sizes[name] for name in thaw.frozen)
    line = [rung.name for rung in ladder.rungs].index(thaw.rung)
    moving = [*thaw.thawed, *thaw.buffers]
    assert all(rung_of(ladder, name) > line for name in moving)
    if thaw.thawed:
        assert any(rung_of(ladder, name) == line + 1 for name in thaw.thawed), "the line could stand higher"


@given(models())
def test_a_higher_line_trains_a_subset(model):
    module, ladder = model
    steps = all_contiguous(module, ladder)
    for thaw in steps:
        check(thaw, module, ladder)
    for higher, lower in pairwise(steps):
        assert set(higher.thawed) < set(lower.thawed)
        assert set(higher.buffers) <= set(lower.buffers)
    assert steps[-1].frozen == ()
    assert steps[-1].thawed == resolve_thaw(ladder, "all", module).thawed


@given(models(), st.data())
def test_ways_of_saying_the_same_agree(model, data):
    module, ladder = model
    n = data.draw(st.integers(1, ladder.layers))
    last = resolve_thaw(ladder, f"last:{n}", module)
    first = [rung for rung in ladder.rungs if rung.parameters][-n]
    rest = module.get_submodule(first.name)
    for setting in (f"first-frozen:{ladder.layers - n}", f"from:{first.name}"):
        other = resolve_thaw(ladder, setting, module)
        assert (other.rung, other.thawed, other.frozen, other.buffers) == (
            last.rung,
            last.thawed,
            last.frozen,
            last.buffers,
        )
    only = resolve_thaw(ladder, f"regex:{first.name}", module)
    assert only.thawed == tuple(f"{first.name}.{name}" for name, _ in rest.named_parameters())
    assert only.rung == last.rung


@given(models(), st.decimals("0.01", 100, places=2))
def test_a_share_is_reached_by_the_fewest_layers(model, percent):
    module, ladder = model
    thaw = resolve_thaw(ladder, f"{percent}%", module)
    check(thaw, module, ladder)
    enough = [t for t in all_contiguous(module, ladder) if Decimal(100 * t.n_trainable) >= percent * ladder.parameters]
    assert thaw.thawed == enough[0].thawed


@given(models(), st.data())
def test_the_sums_of_json_match(model, data):
    module, ladder = model
    n = data.draw(st.integers(0, ladder.layers))
    thaw = resolve_thaw(ladder, f"last:{n}" if n else "none", module)
    said = contract(ladder, thaw)
    assert said["trainable"] + said["frozen"] == said["parameters"] == sum(r["parameters"] for r in said["rungs"])
    assert said["trainable"] == sum(r["trainable"] for r in said["rungs"])
    assert said["layers"] == sum(r["parameters"] > 0 for r in said["rungs"])
    assert all(0 <= r["trainable"] <= r["parameters"] for r in said["rungs"])


@given(models(), st.from_regex(r"[0-9.|*()]{1,6}", fullmatch=True))
def test_a_pattern_thaws_exactly_what_it_matches(model, pattern):
    module, ladder = model

    def matches(name: str) -> bool:
        parts = name.split(".")
        return any(re.fullmatch(pattern, ".".join(parts[:n])) for n in range(1, len(parts) + 1))

    try:
        expected = tuple(name for name, _ in module.named_parameters() if matches(name))
    except re.error:
        expected = ()
    if not expected:
        with pytest.raises(UsageError):
            resolve_thaw(ladder, f"regex:{pattern}", module)
        return
    thaw = resolve_thaw(ladder, f"regex:{pattern}", module)
    assert thaw.thawed == expected
    check(thaw, module, ladder)
