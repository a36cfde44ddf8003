"""Importing torch and timm, and building the backbone, while the data are being read."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from thawline.errors import ThawlineError
from thawline.features.building import Graphs
from thawline.features.engines import engine_choices, is_remembered
from thawline.features.extract import feature_key
from thawline.features.store import FeatureStore

if TYPE_CHECKING:
    from thawline.backbones import Backbone


def build_ahead(
    backbone: Backbone, rung: str = "pooled", *, engine: str = "auto", precision: str = "auto", device: str = "auto"
) -> None:
    """Begin to build a backbone in another thread, if computing its features is going to need that.

    Where some are stored, or it is converted for OpenVINO, that is not likely, and nothing is done. Whatever goes wrong
    will go wrong again where it is waited for.

    Args:
        rung, engine, precision, device: As in ``extract_features``.
    """
    store = FeatureStore()
    if is_remembered(precision, device, store.root):
        choices = engine_choices(engine, precision, device, memory=store.root)
        graphs = Graphs(store.root, backbone, (rung,))
        for choice in choices:
            converted = choice.engine == "openvino" and graphs.are_there(choice.precision)
            if converted or store.holds(feature_key(backbone, rung, choice)):
                return
    # Not a daemon: a process that ends while torch is being loaded may crash.
    threading.Thread(target=_build, args=(backbone,), name="thawline-build").start()


def _build(backbone: Backbone) -> None:
    with contextlib.suppress(ThawlineError, ImportError):
        backbone.module()
