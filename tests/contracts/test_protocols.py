"""Every provider of models and every kind of input has all that its protocol promises, with the same arguments."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from thawline.backbones.providers import FAMILIES, provider_of
from thawline.backbones.providers.provider import Provider
from thawline.inputs import KINDS, kind_of
from thawline.inputs.kind import InputKind

SHIPPED = {name: place for name, place in FAMILIES.items() if place.startswith("thawline.")}
"""Without the providers that tests register."""


def promised(protocol: type) -> dict[str, inspect.Signature | None]:
    """Name -> signature without ``self``, or None for a value."""
    members = {name: value for name, value in vars(protocol).items() if not name.startswith("_")}
    return {
        name: None if isinstance(value, property) else _without_self(inspect.signature(value))
        for name, value in members.items()
    }


def _without_self(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _names(signature: inspect.Signature) -> list[tuple[str, object]]:
    return [(parameter.name, parameter.kind) for parameter in signature.parameters.values()]


@pytest.mark.parametrize("family", SHIPPED)
@pytest.mark.parametrize(("name", "signature"), promised(Provider).items())
def test_a_provider_keeps_its_promise(family: str, name: str, signature: inspect.Signature) -> None:
    assert _names(inspect.signature(getattr(provider_of(family), name))) == _names(signature)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "signature"), promised(InputKind).items())
def test_a_kind_of_input_keeps_its_promise(kind: str, name: str, signature: inspect.Signature | None) -> None:
    found = getattr(kind_of(kind), name)
    assert signature is None or _names(inspect.signature(found)) == _names(signature)


def test_only_modules_of_these_folders_are_found() -> None:
    for place in (*SHIPPED.values(), *KINDS.values()):
        assert import_module(place).__name__.startswith(("thawline.backbones.providers.", "thawline.inputs."))
