"""Open data and the backbone that suits their kind, and build meanwhile what computing their features will need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from thawline.data import open_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.records import Dataset

    BackboneFor = Callable[[str], Backbone]
    """From the kind of input that the samples are (a name in ``inputs.KINDS``) to the backbone."""


def opened(what: Any, listener: Watcher, **how: Any) -> Dataset:
    """Open labelled data as ``open_data`` does, and tell of progress.

    Args:
        what: Anything that ``open_data`` opens.
        listener: Hears of progress.
        how: Arguments of ``open_data``.
    Raises:
        ThawlineError: Whatever ``open_data`` refuses.
    """
    return open_data(what, **how, progress=partial(listener.progress, "reading"))


def opened_together(
    what: Any,
    listener: Watcher,
    choose: BackboneFor,
    *,
    ahead: bool = True,
    layer: str = "pooled",
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    **how: Any,
) -> tuple[Dataset, Backbone]:
    """Open labelled data, and the backbone that will compute their features.

    The backbone is chosen as soon as the samples are listed, and its engine is built while they are read.

    Args:
        choose: Opens the backbone for a kind of input.
        ahead: Build the engine.
        layer, engine, precision, device: As in ``extract_features``, for that engine.
        what, listener, how: As in ``opened``.
    Raises:
        ThawlineError: Whatever ``open_data`` or ``choose`` refuses.
    """
    chosen: list[Backbone] = []

    def listed(kind: str) -> None:
        chosen.append(choose(kind))
        if ahead:
            from thawline.features.ahead import build_ahead

            build_ahead(chosen[0], layer, engine=engine, precision=precision, device=device)

    data = opened(what, listener, **how, listed=listed)
    return data, chosen[0]


def default_backbone(kind: str) -> Backbone:
    """Open the backbone that is used if nobody names one."""
    from thawline.backbones import default_model, open_backbone

    return open_backbone(default_model(kind))
