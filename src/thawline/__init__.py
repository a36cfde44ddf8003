"""Thawline: how much of a pre-trained model should your data retrain? Measure it, do it fast, prove it, ship it.

Takes labelled data and the name of a pre-trained model; gives a run folder with the trained model and every number
with its interval; refuses to guess. Importing this package loads neither numpy nor torch: each name below is fetched
from its room when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "Backbone": "thawline.backbones",
    "Bundle": "thawline.bundles",
    "Dataset": "thawline.records",
    "FitPlan": "thawline.planning",
    "ThawlineClassifier": "thawline.runs",
    "ThawlineError": "thawline.errors",
    "ThawlineFeatures": "thawline.features",
    "extract_features": "thawline.features",
    "fit": "thawline.runs",
    "load_bundle": "thawline.bundles",
    "open_backbone": "thawline.backbones",
    "open_data": "thawline.data",
    "plan": "thawline.planning",
    "split_data": "thawline.data",
}
"""Public name -> the room it lives in."""

__all__ = [*sorted(_HOME), "__version__"]

if TYPE_CHECKING:
    from thawline.backbones import open_backbone as open_backbone


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'thawline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
