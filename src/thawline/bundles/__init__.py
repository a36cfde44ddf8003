"""What ships: a model with its head, its labels and its exact preprocessing, in one folder.

Takes a backbone, a fitted head and class names; gives a folder of safetensors and JSON that loads without running any
code of its own, and predictions that equal the run's bit for bit on the same machine. Refuses folders that are
incomplete, altered, or written by a newer version.
"""

from thawline.bundles.bundle import Bundle, load_bundle, save_bundle
from thawline.bundles.predictions import Predictions

__all__ = ["Bundle", "Predictions", "load_bundle", "save_bundle"]
