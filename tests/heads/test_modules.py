"""Heads become modules and come back; making one leaves the global generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thawline.heads import LinearHead, MLPHead, fit_head
from thawline.heads.modules import from_module, new_mlp, to_module


def an_mlp(*hidden: int, dropout: float = 0.0, temperature: float = 1.0) -> MLPHead:
    rng = np.random.default_rng(0)
    pairs = list(zip((*hidden, 3), (7, *hidden), strict=True))
    weights = tuple(rng.standard_normal(pair) / pair[1] ** 0.5 for pair in pairs)
    return MLPHead(weights, tuple(rng.standard_normal(out) for out, _ in pairs), dropout, temperature)


def module_of(head: LinearHead | MLPHead) -> nn.Module:
    if isinstance(head, LinearHead):
        return to_module(head)
    module = new_mlp(head.weights[0].shape[1], [len(bias) for bias in head.biases[:-1]], 3, head.dropout, 0)
    linear = [layer for layer in module if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(linear, head.weights, head.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return module


@pytest.fixture(params=["logistic", "ridge", "linear", "mlp", "deep mlp"])
def head(request, blobs):
    values, labels = blobs(50, 7, 3)
    if request.param in ("logistic", "ridge"):
        return fit_head(request.param, values, labels, 3).head
    if request.param == "linear":
        return LinearHead("linear", np.random.default_rng(1).standard_normal((3, 7)), np.arange(3.0), 1.5)
    return an_mlp(8, dropout=0.5, temperature=0.7) if request.param == "mlp" else an_mlp(8, 5, 6, dropout=0.2)


def test_the_module_gives_the_decision(blobs, head):
    values, _ = blobs(50, 7, 3)
    module = module_of(head).eval()
    with torch.no_grad():
        decision = module(torch.from_numpy(values)).numpy()
    assert np.abs(decision - head.decision(values)).max() < 1e-5
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_there_and_back_predicts_the_same(blobs, head):
    values, _ = blobs(50, 7, 3)
    again = from_module(module_of(head), kind=head.kind, temperature=head.temperature)
    assert (type(again), again.kind, again.settings()) == (type(head), head.kind, head.settings())
    assert np.abs(again.predict_proba(values) - head.predict_proba(values)).max() < 1e-6
    assert {array.dtype for array in again.tensors().values()} == {np.dtype(np.float64)}
    once_more = from_module(module_of(again), kind=head.kind, temperature=head.temperature)
    assert np.array_equal(once_more.logits(values), again.logits(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_head_does_not_move_with_its_module(blobs, head, dtype):
    values, _ = blobs(5, 7, 3)
    before = head.logits(values)
    module = module_of(head).to(dtype)
    made = from_module(module, kind=head.kind, temperature=head.temperature)
    as_made = made.logits(values)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert np.array_equal(head.logits(values), before)
    assert np.array_equal(made.logits(values), as_made)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_names_of_the_tensors_are_stable(dropout):
    assert list(module_of(LinearHead("ridge", np.ones((3, 7)), np.ones(3))).state_dict()) == ["weight", "bias"]
    names = ["0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias"]
    for module in (new_mlp(7, (8, 5), 3, dropout, 0), module_of(an_mlp(8, 5, dropout=dropout))):
        assert list(module.state_dict()) == names
        assert [type(part) for part in module] == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
        assert [part.p for part in module if isinstance(part, nn.Dropout)] == [dropout] * 2


def test_a_new_mlp_is_made_by_its_seed_alone():
    state = torch.random.get_rng_state()
    one, same, other = (new_mlp(7, (8,), 3, 0.1, seed).state_dict() for seed in (1, 1, 2))
    module_of(an_mlp(8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_new_mlp_starts_at_the_scale_that_keeps_activations():
    module = new_mlp(512, (512,), 400, 0.0, 0)
    state = module.state_dict()
    assert state["0.weight"].std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert state["3.weight"].std().item() == pytest.approx((1 / 512) ** 0.5, rel=0.02)
    assert not state["0.bias"].any() and not state["3.bias"].any()


def test_without_hidden_layers_it_is_one_linear_layer(blobs):
    values, _ = blobs(5, 7, 3)
    module = new_mlp(7, (), 3, 0.5, 0)
    assert list(module.state_dict()) == ["0.weight", "0.bias"]
    with torch.no_grad():
        expected = module(torch.from_numpy(values)).numpy()
    assert np.abs(from_module(module, kind="mlp").decision(values) - expected).max() < 1e-5


def test_a_trained_module_gives_its_head(blobs):
    """In training mode, with gradients and in bfloat16, as a training may leave it."""
    values, _ = blobs(40, 7, 3)
    module = new_mlp(7, (16,), 3, 0.5, 0)
    module(torch.from_numpy(values)).sum().backward()
    module = module.bfloat16().train()
    found = from_module(module, kind="mlp", temperature=2.0)
    with torch.no_grad():
        expected = module.float().eval()(torch.from_numpy(values)).numpy()
    assert np.abs(found.logits(values) - expected / 2).max() < 1e-5
    assert found.settings() == {"temperature": 2.0, "dropout": 0.5}


@pytest.mark.parametrize(("kind", "module"), [("mlp", nn.Linear(2, 2)), ("linear", nn.Sequential(nn.Linear(2, 2)))])
def test_a_module_of_another_make_is_refused(kind, module):
    with pytest.raises(
        TypeError, match=f"a {kind} head must come from the module that to_module or new_mlp gives; got"
    ):
        from_module(module, kind=kind)
