"""Thawline: how much of a pre-trained model should your data retrain? Measure it, do it fast, prove it, ship it.

Takes labelled data and the name of a pre-trained model; gives a run folder with the trained model and every number
with its interval; refuses to guess. Importing this package loads neither numpy nor torch: each name below is fetched
from its room when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.backbones import Backbone as Backbone
    from thawline.backbones import open_backbone as open_backbone
    from thawline.bundles import Bundle as Bundle
    from thawline.bundles import load_bundle as load_bundle
    from thawline.data import open_data as open_data
    from thawline.data import split_data as split_data
    from thawline.errors import ThawlineError as ThawlineError
    from thawline.features import ThawlineFeatures as ThawlineFeatures
    from thawline.features import extract_features as extract_features
    from thawline.features import extract_rungs as extract_rungs
    from thawline.planning import FitPlan as FitPlan
    from thawline.planning import plan as plan
    from thawline.planning import rank as rank
    from thawline.records import Dataset as Dataset
    from thawline.runs import ThawlineClassifier as ThawlineClassifier
    from thawline.runs import compare as compare
    from thawline.runs import fit as fit
    from thawline.runs import resume as resume
    from thawline.version import __version__ as __version__

_HOME = {
    "Backbone": "thawline.backbones",
    "Bundle": "thawline.bundles",
    "Dataset": "thawline.records",
    "FitPlan": "thawline.planning",
    "ThawlineClassifier": "thawline.runs",
    "ThawlineError": "thawline.errors",
    "ThawlineFeatures": "thawline.features",
    "__version__": "thawline.version",
    "compare": "thawline.runs",
    "extract_features": "thawline.features",
    "extract_rungs": "thawline.features",
    "fit": "thawline.runs",
    "load_bundle": "thawline.bundles",
    "open_backbone": "thawline.backbones",
    "open_data": "thawline.data",
    "plan": "thawline.planning",
    "rank": "thawline.planning",
    "resume": "thawline.runs",
    "split_data": "thawline.data",
}
"""Public name -> the room it lives in."""

__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
