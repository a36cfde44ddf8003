"""Where models come from, one file for each library.

Takes a model's name in its library. Gives its architecture, its weights and its preparation, and builds it. Refuses
names that the library does not know. A new provider is a module with the functions of ``provider.Provider`` and a line
in ``FAMILIES``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from thawline.backbones.providers.provider import Provider

FAMILIES = {
    "embedded": "thawline.backbones.providers.embedded",
    "keras": "thawline.backbones.providers.keras",
    "timm": "thawline.backbones.providers.timm",
    "torchvision": "thawline.backbones.providers.torchvision",
    "hf": "thawline.backbones.providers.hf",
    "onnx": "thawline.backbones.providers.onnx",
}
"""What stands before the first slash of a model's name -> the module that provides it."""


def provider_of(family: str) -> Provider:
    """Return the provider of a family of names; the library itself is imported when it is first needed."""
    return cast("Provider", import_module(FAMILIES[family]))
