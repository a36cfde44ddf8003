"""A batch in parts gives what the whole batch gives, wherever that can be, and the same bits every time."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from tests.training import toy
from torch import nn
from torch.nn import functional

from thawline.backbones.signature import Signature
from thawline.training.fused import microbatches
from thawline.training.fused.microbatches import LEAST_SAMPLES, Microbatches, worth_parts
from thawline.training.net import Above, Net

CPU = torch.device("cpu")
N = 24


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatches, "usable_processors", lambda: 4)


def above(thaw: str = "all", *, moving: bool = False, change: Callable[[nn.Module], None] = lambda _: None) -> Above:
    torch.manual_seed(1)
    backbone = toy.ToyBackbone()
    change(backbone)
    backbone.to(memory_format=torch.channels_last)
    return Above(
        Net(backbone, nn.Linear(8, toy.CLASSES)),
        toy.thaw(thaw),
        Signature("timm", (3, 16, 16)),
        moving_statistics=moving,
    )


def gradients(top: Above, *, in_parts: bool, as_one: bool = False) -> tuple[float, dict[str, torch.Tensor | None]]:
    """Loss, and gradients by name, of a batch of noise."""
    draw = torch.Generator().manual_seed(2)
    crossing = top.cut.prefix(torch.randn(N, 3, 16, 16, generator=draw))
    labels = torch.randint(0, toy.CLASSES, (N,), generator=draw)

    def loss_of(part: slice) -> torch.Tensor:
        logits = top.logits(tuple(x[part] for x in crossing))
        return functional.cross_entropy(logits, labels[part], reduction="sum") / N

    parts, learning = Microbatches(top, CPU, "f32"), list(top.learning.values())
    for parameter in learning:
        parameter.grad = None
    if in_parts:
        with toy.folded(top) if as_one else contextlib.nullcontext([]) as chains, parts:
            assert len(parts.parts(N)) == 4
            assert bool(chains) == as_one
            loss = parts.backward(loss_of, learning, N, chains)
            assert all(chain.shared is None for chain in chains)
    else:
        loss = parts.backward(loss_of, learning, N)
    return loss, {name: copy.copy(parameter.grad) for name, parameter in top.learning.items()}


def in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Values in the order in which they lie there, as the fused optimiser reads them."""
    return tensor.as_strided((tensor.numel(),), (1,))


def test_every_sample_is_in_one_part_and_no_part_is_small() -> None:
    with Microbatches(above(), CPU, "f32") as parts:
        for n in range(1, 70):
            found = parts.parts(n)
            assert [i for part in found for i in range(n)[part]] == list(range(n))
            sizes = [len(range(n)[part]) for part in found]
            assert len(sizes) == max(1, min(4, n // LEAST_SAMPLES))
            assert max(sizes) - min(sizes) <= 1
    assert parts.parts(N) == [slice(0, N)]


@pytest.mark.parametrize("as_one", [False, True], ids=["one by one", "as one"])
@pytest.mark.parametrize("line", ["all", "from:blocks.1", "regex:blocks.0.norm", "regex:blocks.0.conv"])
def test_parts_add_up_to_the_gradient_of_the_batch(line: str, as_one: bool) -> None:
    whole_loss, whole = gradients(above(line), in_parts=False)
    loss, found = gradients(above(line), in_parts=True, as_one=as_one)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    for name, expected in whole.items():
        assert expected is not None
        for values in (lambda tensor: tensor, in_memory):
            torch.testing.assert_close(values(found[name]), values(expected), rtol=1e-4, atol=1e-6)


def test_parts_give_the_same_bits_every_time() -> None:
    _, first = gradients(above(), in_parts=True, as_one=True)
    for _ in range(20):
        _, again = gradients(above(), in_parts=True, as_one=True)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_gradients_are_added_to_those_that_are_there() -> None:
    top = above()
    once = gradients(top, in_parts=True)[1]["head.weight"]
    with Microbatches(top, CPU, "f32") as parts:
        crossing = top.cut.prefix(torch.ones(N, 3, 16, 16))
        before = top.learning["head.weight"].grad.clone()
        parts.backward(lambda part: 0 * top.logits(tuple(x[part] for x in crossing)).sum(), [*top.learning.values()], N)
    torch.testing.assert_close(top.learning["head.weight"].grad, before)
    torch.testing.assert_close(before, once)


def test_what_reaches_no_output_has_no_gradient() -> None:
    top = above()
    unused = nn.Parameter(torch.ones(3))
    with Microbatches(top, CPU, "f32") as parts:
        crossing = top.cut.prefix(torch.ones(N, 3, 16, 16))
        parts.backward(lambda part: top.logits(tuple(x[part] for x in crossing)).sum(), [unused], N)
    assert unused.grad is None


def test_each_part_computes_on_its_share_of_the_processors() -> None:
    with Microbatches(above(), CPU, "f32") as parts:
        before = torch.get_num_threads()
        assert parts.each(lambda _: torch.get_num_threads(), N) == [1] * 4
        assert parts.each(lambda _: torch.get_num_threads(), 2 * LEAST_SAMPLES) == [2] * 2
        assert torch.get_num_threads() == before


def test_an_error_in_a_part_is_raised() -> None:
    def broken(part: slice) -> None:
        if part.start:
            raise ValueError("in the second part")

    with Microbatches(above(), CPU, "f32") as parts, pytest.raises(ValueError, match="in the second part"):
        parts.each(broken, N)


def dropout(backbone: nn.Module) -> None:
    backbone.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Dropout(0.1))


class _MinusMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


def sees_others(backbone: nn.Module) -> None:
    backbone.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), _MinusMean())


def test_only_samples_that_do_not_see_each_other_are_taken_apart() -> None:
    assert worth_parts(above())
    for top in (above(moving=True), above(change=dropout), above(change=sees_others), above("none")):
        top.train()
        statistics = {name: buffer.clone() for name, buffer in top.net.named_buffers()}
        state = torch.get_rng_state()
        with Microbatches(top, CPU, "f32") as parts:
            assert len(parts.parts(N)) == 1
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(buffer, statistics[name]) for name, buffer in top.net.named_buffers())


def test_a_batch_stays_whole_where_parameters_cost_more_than_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatches, "LEAST_WORK", 1e6)
    assert not worth_parts(above())


def test_on_a_graphics_card_a_batch_stays_whole() -> None:
    with Microbatches(above(), torch.device("cuda"), "f32") as parts:
        assert len(parts.parts(N)) == 1
