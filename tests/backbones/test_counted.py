"""Layers as Keras counts them: with those that have no weights, and in Keras's own order."""

from __future__ import annotations

import pytest

from thawline.backbones import counted, open_backbone
from thawline.backbones.providers.provider import LibraryLayer
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.errors import UsageError

RESNET = "timm/test_resnet"


@pytest.fixture
def model(monkeypatch):
    """A small network, listed as Keras would list it."""
    backbone = open_backbone(RESNET, architecture_only=True)
    module = backbone.blueprint()
    layers = [LibraryLayer("input_layer", "InputLayer", (), 0)]
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, layer in module.named_modules():
        if name and not any(layer.children()):
            own = tuple(f"{name}.{key}" for key in layer.state_dict())
            layers.append(LibraryLayer(name, type(layer).__name__, own, sum(held[key].numel() for key in own)))
    monkeypatch.setattr(counted, "counted_layers", lambda ladder, module: tuple(layers))
    return backbone.ladder, module, layers


def thawed(model, setting: str) -> Thaw:
    ladder, module, _ = model
    return resolve_thaw(ladder, setting, module)


def test_every_layer_counts(model) -> None:
    _, module, layers = model
    parameters = [name for name, _ in module.named_parameters()]
    for n in (2, 5, len(layers)):
        above = {name for layer in layers[len(layers) - n :] for name in layer.tensors}
        if not above & set(parameters):
            continue
        resolved = thawed(model, f"last-keras:{n}")
        assert resolved.thawed == tuple(name for name in parameters if name in above)
        assert resolved == thawed(model, f"last-keras:{n}")
    k = 8
    frozen = {name for layer in layers[:k] for name in layer.tensors}
    assert thawed(model, f"first-frozen-keras:{k}").frozen == tuple(name for name in parameters if name in frozen)


def test_layers_without_weights_are_named(model) -> None:
    _, module, layers = model
    own = {name for name, _ in module.named_parameters()}
    n = next(n for n in range(2, len(layers)) if own & {name for layer in layers[-n:] for name in layer.tensors}) + 2
    said = thawed(model, f"last-keras:{n}").said
    bare = [layer.name for layer in layers[-n:] if not own.intersection(layer.tensors)]
    assert bare and all(name in said for name in bare) and f"Of the {n} layers" in said


@pytest.mark.parametrize("setting", ["last-keras:0", "last-keras:1"])
def test_what_thaws_nothing_is_refused_with_the_nearest_that_does(model, setting: str) -> None:
    with pytest.raises(UsageError, match="thaws") as refused:
        thawed(model, setting)
    nearest = str(refused.value).partition("nearest that does is ")[2].partition(",")[0]
    n = int(nearest.removeprefix("last-keras:"))
    assert thawed(model, nearest).n_trainable
    with pytest.raises(UsageError):
        thawed(model, f"last-keras:{n - 1}")


@pytest.mark.parametrize("setting", ["last-keras:9999", "last-keras:-1", "last-keras:", "first-frozen-keras:x"])
def test_numbers_that_cannot_be_are_refused_with_the_most(model, setting: str) -> None:
    kind = setting.partition(":")[0]
    with pytest.raises(UsageError, match=f"at most {kind}:{len(model[2])}"):
        thawed(model, setting)


def test_other_models_do_not_count_so() -> None:
    backbone = open_backbone(RESNET, architecture_only=True)
    with pytest.raises(UsageError, match=r"must be keras/NAME; got timm/test_resnet\. Write last:N"):
        resolve_thaw(backbone.ladder, "last-keras:3", backbone.blueprint())
