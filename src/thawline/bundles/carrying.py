"""Make the bundle of a fit: with the graphs that computed its predictions, or with graphs that stand in for torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from thawline.backbones.names import layers_in
from thawline.bundles.answers import CLASSES, Answers
from thawline.bundles.bundle import Bundle
from thawline.errors import ThawlineError
from thawline.records import Precision

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.engines.graphs import StoredGraphs
    from thawline.heads import Head

logger = logging.getLogger(__name__)


def make_bundle(
    backbone: Backbone,
    head: Head,
    classes: Sequence[str],
    *,
    layer: str,
    ran: str,
    precision: Precision,
    engine: str,
    device: str,
    trained: bool,
    answers: Answers = CLASSES,
    seconds_left: float = float("inf"),
) -> Bundle:
    """Put the bundle of a fit together.

    If OpenVINO computed the predictions, the bundle carries its graphs, which are in the cache. If torch did, on a
    processor, and the fit trained, the backbone is converted: that takes a second or two after training, and the bundle
    then also predicts on a machine without torch. After a fit that only solved for a head it is not converted, because
    that might take as long as the fit did.

    Args:
        layer: ``pooled``, a layer, or several with commas.
        ran: The engine that computed the run's predictions.
        precision: What it computed in.
        engine, device: As they were asked for.
        trained: Whether the fit trained by gradient descent, whatever ships.
        answers: What the head puts out.
        seconds_left: Of the fit's budget.
    """
    from thawline.engines.choices import hardware
    from thawline.scale import cache_root

    by_torch_here = ran == "torch" and hardware(precision, device, memory=cache_root())[0] == "cpu"
    graphs = None
    if ran == "openvino" or (by_torch_here and trained):
        graphs = _graphs(backbone, layer, precision, seconds_left)
    if graphs is None:
        logger.info("The bundle carries no graphs: it needs torch to predict.")
    return Bundle(
        backbone=backbone,
        head=head,
        classes=classes,
        layer=layer,
        precision=precision,
        engine="torch" if by_torch_here else engine,
        device=device,
        graphs=graphs,
        answers=answers,
    )


def _graphs(backbone: Backbone, layer: str, precision: Precision, seconds_left: float) -> StoredGraphs | None:
    """Find the graphs in the cache, or convert the backbone if there is time."""
    from thawline.engines.building import ConvertedBackbone
    from thawline.engines.forecast import CONVERSION_S
    from thawline.scale import cache_root

    converted = ConvertedBackbone(cache_root(), backbone, layers_in(layer))
    if (found := converted.found(precision)) is not None:
        return found
    if seconds_left < 2 * CONVERSION_S:
        return None
    try:
        return converted.opened(precision)
    except (ThawlineError, ImportError) as error:  # the fit is done, and torch can run what it made
        logger.info("The backbone was not converted: %s", error)
        return None
