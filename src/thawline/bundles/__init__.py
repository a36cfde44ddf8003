"""What ships: a model with its head, its labels, its exact preparation and its graphs, in one folder.

Takes a backbone, a fitted head and class names; gives a folder of safetensors, graphs and JSON that loads without
running any code of its own, and predictions that equal the run's bit for bit on the same machine, without torch, cache
or a place to write. Refuses folders that are incomplete, altered, or written by a newer version.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.bundles.bundle import Bundle as Bundle
    from thawline.bundles.carrying import make_bundle as make_bundle
    from thawline.bundles.folder import load_bundle as load_bundle
    from thawline.bundles.folder import save_bundle as save_bundle
    from thawline.bundles.predictions import Predictions as Predictions

_HOME = {
    "Bundle": "thawline.bundles.bundle",
    "Predictions": "thawline.bundles.predictions",
    "load_bundle": "thawline.bundles.folder",
    "make_bundle": "thawline.bundles.carrying",
    "save_bundle": "thawline.bundles.folder",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
