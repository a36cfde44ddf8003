"""Choose and build what runs the backbone of a bundle: its own graphs, or whatever this machine offers."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

from thawline.errors import ModelError, NotConvertibleError, RunError
from thawline.records import Precision

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.engines.choices import Engine
    from thawline.engines.graphs import StoredGraphs

logger = logging.getLogger(__name__)


def open_engine(
    backbone: Backbone,
    layers: tuple[str, ...],
    graphs: StoredGraphs | None,
    n: int,
    *,
    engine: str,
    precision: Precision,
    device: str,
) -> Engine:
    """Build the engine that gives the bits of the bundle's own run, if this machine can.

    Graphs run on the processor. They are used unless an accelerator is asked for by name, or torch computed the run's
    predictions and is installed here.

    Args:
        graphs: Those that the bundle carries.
        n: Samples that will be run; without graphs, the forecast depends on it.
        engine, precision, device: As in ``features.extract_features``.
    Raises:
        ModelError: The bundle carries no graphs and torch is not installed; or the backbone cannot be built.
        RunError: OpenVINO cannot run the bundle's graphs.
        UsageError: This machine has no such device.
    """
    on_processor = device in ("auto", "cpu")
    if graphs is None or not on_processor or importlib.util.find_spec("openvino") is None:
        # An accelerator runs torch whatever ran the frozen part of the fit.
        return _without_graphs(backbone, layers, n, "auto" if not on_processor else engine, precision, device)
    if engine == "torch":
        try:
            return _without_graphs(backbone, layers, n, engine, precision, device)
        except _NoTorchError:
            logger.info("torch computed the run's predictions and is not installed here: the bundle's graphs are run.")
    from thawline.engines.openvino_engine import OpenVINOEngine

    try:
        return OpenVINOEngine(graphs, precision)
    except ModelError as error:
        raise RunError(
            f"{error} Copy the run folder again; if it is whole, install the OpenVINO that wrote it, "
            f"{graphs.key.converter}."
        ) from error


class _NoTorchError(ModelError):
    """torch or timm is needed and cannot be imported."""


def _without_graphs(
    backbone: Backbone, layers: tuple[str, ...], n: int, engine: str, precision: Precision, device: str
) -> Engine:
    """Choose as a fit does, by forecast. What is converted stays in memory if the cache cannot be written."""
    from thawline.engines.building import ConvertedBackbone, build_engine, choose_engine, next_engine
    from thawline.engines.choices import engine_choices
    from thawline.scale import cache_root

    root = cache_root()
    converted = ConvertedBackbone(root, backbone, layers, must_keep=False)
    try:
        choices = engine_choices(engine, precision, device, memory=root)
        choice, _ = choose_engine(converted, dict.fromkeys(choices, n))
        try:
            return build_engine(choice, converted)
        except NotConvertibleError as error:
            return build_engine(next_engine(choice, choices, error), converted)
    except ImportError as error:
        raise _NoTorchError(
            f"This bundle needs torch and timm, because it carries no graphs for this machine; importing them failed: "
            f"{error}. Install them (pip install torch timm), or fit again with --engine openvino."
        ) from error
