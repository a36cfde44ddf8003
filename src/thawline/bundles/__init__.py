"""What ships: a model with its head, its labels and its exact preparation, in one folder.

Takes a backbone, a fitted head and class names; gives a folder of safetensors and JSON that loads without running any
code of its own, and predictions that equal the run's bit for bit on the same machine. Refuses folders that are
incomplete, altered, or written by a newer version.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.bundles.bundle import Bundle as Bundle
    from thawline.bundles.bundle import load_bundle as load_bundle
    from thawline.bundles.bundle import save_bundle as save_bundle
    from thawline.bundles.predictions import Predictions as Predictions

_HOME = {
    "Bundle": "thawline.bundles.bundle",
    "Predictions": "thawline.bundles.predictions",
    "load_bundle": "thawline.bundles.bundle",
    "save_bundle": "thawline.bundles.bundle",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
