"""Open data, and build meanwhile what computing their features will need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from thawline.data import open_data

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.records import Dataset


def opened(
    what: Any,
    listener: Watcher,
    *,
    backbone: Backbone | None = None,
    layer: str = "pooled",
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    **how: Any,
) -> Dataset:
    """Open labelled data as ``open_data`` does, and tell of progress.

    Args:
        what: Anything that ``open_data`` opens.
        listener: Hears of progress.
        backbone: What will compute features of the data; its engine is built while they are read.
        layer, engine, precision, device: As in ``extract_features``, for that engine.
        how: Arguments of ``open_data``.
    Raises:
        ThawlineError: Whatever ``open_data`` refuses.
    """
    if backbone is not None:
        from thawline.features.ahead import build_ahead

        build_ahead(backbone, layer, engine=engine, precision=precision, device=device)
    return open_data(what, **how, progress=partial(listener.progress, "reading"))
