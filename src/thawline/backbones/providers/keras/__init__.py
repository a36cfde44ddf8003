"""Keras: every model of ``keras.applications``, and users' own saved models, as plain torch modules.

Takes ``keras/NAME``, ``keras/NAME@FILE`` or ``keras/custom@FILE``. Gives a module whose layers have Keras's names, made
from the model's graph: Keras itself is asked for the graphs and the weights of its applications only, and a model that
a user saved brings its graph itself. Refuses layers whose code is in no file, and files that are not Keras's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers import timm
from thawline.backbones.providers.keras import preparation as preparing
from thawline.backbones.providers.keras.graph import Graph
from thawline.backbones.providers.keras.preparation import APPLICATIONS, MODES
from thawline.backbones.providers.provider import Description, LibraryLayer, ModelAsk
from thawline.backbones.providers.random_weights import random_weights
from thawline.backbones.providers.unfetched import NoTensors
from thawline.backbones.weights import TensorFile
from thawline.errors import ModelError, UnknownModelError, UsageError, nearest
from thawline.records import of_pictures

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.tracing import Tracing
    from thawline.records import Preparation

CUSTOM = "custom"
"""Stands for a model whose graph is in its own file."""
_GRAPH = "graph"


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; weights are Keras's own, those of a file, or random (``weights=none``)."""
    args = dict(asked.model_args or {})
    weights = str(args.pop("weights")).lower() if "weights" in args else None
    mode = args.pop("preprocessing", None)
    if weights not in (None, "imagenet", "none"):
        raise ModelError(f"weights must be imagenet or none; got {weights!r}. A file is given as keras/{model}@FILE.")
    if mode not in (None, *MODES):
        raise ModelError(f"preprocessing must be one of {', '.join(MODES)}; got {mode!r} ({name}).")
    if _GRAPH in args:
        raise ModelError(f"model arguments must be those of Keras's {model}; got graph, which comes from the model.")
    if model == CUSTOM:
        return _own(name, location, asked, args, weights, mode)
    if model not in APPLICATIONS:
        raise UnknownModelError(
            f"model must be one of keras.applications, or keras/custom@FILE; got {name!r}."
            f"{nearest(model, APPLICATIONS)} See `thawline models keras/`."
        )
    return _application(name, model, location, asked, args, weights, mode, architecture_only=architecture_only)


def _application(
    name: str,
    model: str,
    location: str,
    asked: ModelAsk,
    args: Mapping[str, Any],
    weights: str | None,
    mode: str | None,
    *,
    architecture_only: bool,
) -> Description:
    """Describe a model of ``keras.applications``."""
    from thawline.backbones.providers.keras import applications, own
    from thawline.backbones.providers.keras import weights as weighing

    known = APPLICATIONS[model]
    applications.check_args(model, args)
    path = Path(location).expanduser() if location else None
    if path is not None and weights == "none":
        raise UsageError(f"weights=none asks for random weights, but {name} names some. Leave one out.")
    side = own.checked_side(asked.input_px or (None if path is None else _side_in(path)) or known.px, name)
    mode = mode or (known.mode if args.get("include_preprocessing", True) else _mode_without_layers(model))
    imagenet = weights == "imagenet" or (path is None and weights is None)
    whole = applications.application_graph(model, side, args, imagenet=imagenet)
    graph = own.without_classifier(whole)[0] if args.get("include_top") else whole
    preparation = preparing.preparation_of(mode, side, asked, name)
    tensors: TensorFile = NoTensors(Path(name))
    if path is None and imagenet and not architecture_only:
        path = applications.imagenet_weights(model, side, args, name)
    if path is not None:
        tensors = weighing.converted(path, graph, side, sha256=asked.sha256, by_name=asked.weights_by_name)
        if weights is None and model.startswith("EfficientNetB") and _has_deviations(tensors):
            graph = applications.with_imagenet_rescaling(graph)
    model_args = {**args, _GRAPH: own.prepared(graph, mode).to_json()}
    if weights == "none" and not architecture_only:
        tensors = random_weights("keras", model, build, model_args, preparation)
    return Description(architecture=model, model_args=model_args, preparation=preparation, tensors=tensors)


def _own(
    name: str, location: str, asked: ModelAsk, args: Mapping[str, Any], weights: str | None, mode: str | None
) -> Description:
    """Describe a model that a user saved."""
    from thawline.backbones.providers.keras import own
    from thawline.backbones.providers.keras import weights as weighing

    if not location:
        raise UsageError("keras/custom must name the file of a saved model: keras/custom@my_model.keras.")
    if args or weights == "imagenet":
        unknown = ", ".join([*args, *(["weights"] if weights else [])])
        raise ModelError(f"keras/custom takes the arguments preprocessing and weights=none; got {unknown}.")
    path = Path(location).expanduser()
    graph, classifier = own.without_classifier(own.graph_in(path))
    side = own.side_of(graph, asked.input_px, name)
    found, source = own.own_mode(graph)
    model_args = {_GRAPH: own.prepared(graph, mode or found).to_json()}
    preparation = preparing.preparation_of(mode or found, side, asked, name)
    if weights == "none":
        tensors = random_weights("keras", CUSTOM, build, model_args, preparation)
    else:
        tensors = weighing.converted(path, graph, side, sha256=asked.sha256, by_name=asked.weights_by_name)
    return Description(
        architecture=CUSTOM,
        model_args=model_args,
        preparation=preparation,
        tensors=tensors,
        notes=own.notes_on(path, "" if mode else source, classifier, asked.given()),
        preparation_said=mode is not None or not source,
    )


def _side_in(path: Path) -> int | None:
    """Return the size of the input that a file says, if it holds a whole model that takes pictures of one size."""
    from thawline.backbones.providers.keras import own

    try:
        return own.graph_in(path).side
    except ModelError:  # weights alone; or what is wrong with the file is said when its weights are read
        return None


def _mode_without_layers(model: str) -> str:
    """Return how pictures are prepared for a model whose own layers for it were left out."""
    return "torch" if model.startswith(("ConvNeXt", "EfficientNetV2B")) else "tf"


def _has_deviations(tensors: TensorFile) -> bool:
    """Whether an EfficientNet's first layer holds the deviations of ImageNet in the place of variances."""
    import numpy as np

    name = "normalization.running_var"
    if name not in tensors.shapes():
        return False
    held = tensors.arrays()(name)
    return bool(np.allclose(held, MODES["torch"].std, atol=1e-3))


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``; the graph among the arguments says all, so Keras is not needed."""
    import torch

    from thawline.backbones.providers.keras.module import KerasModule

    graph = Graph.from_json(model_args.get(_GRAPH))
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        try:
            return KerasModule(graph, of_pictures(preparation).input_px[0]).eval().requires_grad_(False)
        except (MemoryError, RuntimeError) as error:
            raise ModelError(f"keras/{architecture} must fit into memory; it does not: {error}.") from error


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``: each layer of Keras is one node."""
    from thawline.backbones.providers.keras.stages import stage_of
    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset(("",)), container_types=(), stage_of=stage_of)


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``: (3, H, W)."""
    shape: tuple[int, ...] | None = getattr(module, "input_shape", None)
    return shape


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``: those of ``model.layers``, with the counts of ``count_params``."""
    from thawline.backbones.providers.keras.module import KerasModule

    return module.layers() if isinstance(module, KerasModule) else None


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``; Keras is not imported."""
    from thawline.backbones.providers.keras.applications import cache_folder
    from thawline.backbones.providers.known import entries

    folder = cache_folder()
    return entries("keras", query, lambda known: (folder / known.file).is_file())


def count(architecture: str) -> int:
    """See ``Provider.count``; Keras draws the graph if the cache does not have it."""
    import torch

    from thawline.backbones.providers.keras.applications import application_graph
    from thawline.backbones.providers.keras.module import KerasModule

    side = APPLICATIONS[architecture].px
    with torch.device("meta"):
        module = KerasModule(application_graph(architecture, side, {}, imagenet=True), side)
    return sum(layer.parameters for layer in module.layers())


examples, channels_last, pooled = timm.examples, timm.channels_last, timm.pooled
