"""Rates by layer, no decay of vectors, steps as torch takes them, and a memory that can be put away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from thawline.training.optimiser import build_optimiser, load_state_tensors, set_rate, state_tensors
from thawline.training.settings import TrainPlan

DISTANCE = {"conv.weight": 3, "conv.bias": 3, "norm.weight": 2, "norm.bias": 2, "head.weight": 0, "head.bias": 0}
KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimiser": "sgd"},
    "heavy ball": {"optimiser": "sgd", "nesterov": False},
    "no momentum": {"optimiser": "sgd", "momentum": 0.0},
}


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.norm, self.head = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def give_gradients(self, step: int) -> None:
        draws = torch.Generator().manual_seed(step)
        for parameter in self.parameters():
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=draws))


def made(settings: TrainPlan) -> tuple[Layers, torch.optim.Optimizer]:
    layers = Layers()
    return layers, build_optimiser(dict(layers.named_parameters()), DISTANCE, settings)


def group_of(optimiser: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    (group,) = [group for group in optimiser.param_groups if any(held is parameter for held in group["params"])]
    return group


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_has_its_rate_and_vectors_do_not_decay(kind: str) -> None:
    settings = TrainPlan(lr=0.2, lr_decay=0.5, weight_decay=0.01, **KINDS[kind])
    layers, optimiser = made(settings)
    set_rate(optimiser, 0.25)
    for name, parameter in layers.named_parameters():
        group = group_of(optimiser, parameter)
        assert group["lr"] == pytest.approx(0.25 * 0.2 * 0.5 ** DISTANCE[name]), name
        assert group["weight_decay"] == (0.01 if name in ("conv.weight", "head.weight") else 0.0), name
    set_rate(optimiser, 1.0)
    assert group_of(optimiser, layers.head.bias)["lr"] == 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_one_that_torch_takes(kind: str) -> None:
    settings = TrainPlan(lr=0.1, lr_decay=1.0, weight_decay=0.3, **KINDS[kind])
    layers, optimiser = made(settings)
    plain = Layers()
    ours, theirs = dict(layers.named_parameters()), dict(plain.named_parameters())
    matrices = [theirs["conv.weight"], theirs["head.weight"]]
    vectors = [p for name, p in theirs.items() if p.ndim == 1]
    oracles: list[torch.optim.Optimizer] = []
    for parameters, decay in ((matrices, 0.3), (vectors, 0.0)):
        if settings.optimiser == "adamw":
            oracles.append(torch.optim.AdamW(parameters, lr=0.1, weight_decay=decay, foreach=False, fused=False))
        else:
            nesterov = settings.nesterov and settings.momentum > 0
            momentum = settings.momentum
            oracles.append(torch.optim.SGD(parameters, 0.1, momentum, weight_decay=decay, nesterov=nesterov))
    for step in range(3):
        layers.give_gradients(step)
        plain.give_gradients(step)
        for one in (optimiser, *oracles):
            one.step()
    for name, parameter in ours.items():
        assert torch.allclose(parameter, theirs[name], atol=1e-6), name
        assert not torch.allclose(parameter, dict(Layers().named_parameters())[name], atol=1e-3), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_memory_survives(kind: str, steps: int) -> None:
    settings = TrainPlan(lr=0.1, **KINDS[kind])
    layers, optimiser = made(settings)
    for step in range(steps):
        layers.give_gradients(step)
        optimiser.step()
    kept = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state_tensors(optimiser).items()
    }
    n_kinds = {"adamw": 3, "sgd": 1, "heavy ball": 1, "no momentum": 0}[kind]
    assert len(kept) == (6 * n_kinds if steps else 0)
    other, resumed = made(settings)
    other.load_state_dict(layers.state_dict())
    load_state_tensors(resumed, kept)
    for step in range(steps, steps + 3):
        for one, its in ((layers, optimiser), (other, resumed)):
            one.give_gradients(step)
            its.step()
    for name, tensor in layers.named_parameters():
        assert torch.equal(tensor, dict(other.named_parameters())[name]), name
    ours, theirs = state_tensors(optimiser), state_tensors(resumed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_memory_lies_as_its_parameter_does() -> None:
    layers, optimiser = made(TrainPlan())
    layers.give_gradients(0)
    optimiser.step()
    kept = {name: tensor.contiguous() for name, tensor in state_tensors(optimiser).items()}
    other, resumed = made(TrainPlan())
    load_state_tensors(resumed, kept)
    assert layers.conv.weight.stride() != layers.conv.weight.contiguous().stride()
    assert resumed.state[other.conv.weight]["exp_avg"].stride() == other.conv.weight.stride()
    assert torch.equal(resumed.state[other.conv.weight]["exp_avg"], optimiser.state[layers.conv.weight]["exp_avg"])
