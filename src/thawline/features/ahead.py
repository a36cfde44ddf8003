"""Build the engine, or load torch and the backbone, in another thread while the data are being read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from thawline.backbones.names import layers_in
from thawline.engines.building import ConvertedBackbone
from thawline.engines.choices import engine_choices, is_remembered
from thawline.errors import ThawlineError
from thawline.features.extract import feature_key
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.threads import begin
from thawline.store.store import FeatureStore

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.engines.choices import EngineChoice


def build_ahead(
    backbone: Backbone, rung: str = "pooled", *, engine: str = "auto", precision: str = "auto", device: str = "auto"
) -> None:
    """Begin in another thread the work that computing the features of a backbone is likely to need.

    That is OpenVINO's engine if it needs no torch, else torch, timm and the backbone; nothing if some features are
    stored. An error here is dropped: it comes again when the result is needed.

    Args:
        rung, engine, precision, device: As in ``extract_features``.
    """
    store = FeatureStore()
    work: Callable[[], object] = backbone.module
    if is_remembered(precision, device, store.root):
        choices = engine_choices(engine, precision, device, memory=store.root)
        rungs = layers_in(rung)
        if any(store.holds(feature_key(backbone, rungs[0], choice, rungs)) for choice in choices):
            return
        graphs = ConvertedBackbone(store.root, backbone, rungs)
        work = _engine_without_torch(graphs, choices[0]) or work
    keep_freed_memory()  # before threads begin that would get memory of their own
    begin(lambda: _try(work), name="thawline-build")


def _engine_without_torch(graphs: ConvertedBackbone, choice: EngineChoice) -> Callable[[], object] | None:
    """Return what makes OpenVINO's engine, if that is the one to be chosen and needs no torch; else None."""
    ready = choice.engine == "openvino" and (graphs.topology is not None or graphs.are_there(choice.precision))
    return (lambda: graphs.make_engine(choice.precision)) if ready else None


def _try(work: Callable[[], object]) -> None:
    with contextlib.suppress(ThawlineError, ImportError, OSError):
        work()
