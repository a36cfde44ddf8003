"""The quick way through a step is taken inside the context only, and gives what the layers give one by one."""

from __future__ import annotations

import pytest
import torch
from tests.training import toy
from torch.nn import functional

from thawline.backbones.signature import Signature
from thawline.training.fused import microbatches
from thawline.training.fused.steps import FastSteps
from thawline.training.net import Above

N = 24


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatches, "usable_processors", lambda: 4)


def above_of(name: str = "toy", setting: str = "all") -> Above:
    px = toy.SIDE[name]
    return Above(toy.make_net(name), toy.thaw(setting, name), Signature("timm", (3, px, px)), moving_statistics=False)


def gradients(above: Above, fast: FastSteps) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients by name, and the number of parts that the batch was run in."""
    draw, called = torch.Generator().manual_seed(2), []
    crossing = above.cut.prefix(torch.randn(N, *above.signature.shape, generator=draw))
    labels = torch.randint(0, toy.CLASSES, (N,), generator=draw)

    def loss_of(part: slice) -> torch.Tensor:
        called.append(part)
        logits = above.logits(tuple(x[part] for x in crossing))
        return functional.cross_entropy(logits, labels[part], reduction="sum") / N

    for parameter in above.learning.values():
        parameter.grad = None
    loss = fast.backward(loss_of, list(above.learning.values()), N)
    return loss, {name: p.grad for name, p in above.learning.items() if p.grad is not None}, len(called)


def test_steps_are_quick_inside_the_context_and_plain_outside() -> None:
    above = above_of()
    forwards = {name: layer.forward for name, layer in above.net.named_modules()}
    fast = FastSteps(above, torch.device("cpu"), "f32")
    loss, expected, parts = gradients(above, fast)
    assert parts == 1
    assert len(fast.each(lambda part: part, N)) == 1
    with fast:
        quick_loss, found, parts = gradients(above, fast)
        assert parts == len(fast.each(lambda part: part, N)) == 4
        assert any(layer.forward != forwards[name] for name, layer in above.net.named_modules())
    assert quick_loss == pytest.approx(loss, rel=1e-5)
    for name, right in expected.items():
        torch.testing.assert_close(found[name], right, rtol=1e-4, atol=1e-6)
    assert all(layer.forward == forwards[name] for name, layer in above.net.named_modules())


def test_a_model_that_gains_nothing_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatches, "LEAST_WORK", 1e9)
    above = above_of("test_vit")
    forwards = {name: layer.forward for name, layer in above.net.named_modules()}
    with FastSteps(above, torch.device("cpu"), "f32") as fast:
        assert all(layer.forward == forwards[name] for name, layer in above.net.named_modules())
        assert fast.each(lambda part: part, N) == [slice(0, N)]
