"""The graphs and weights of ``keras.applications``: asked of Keras once, then kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from thawline.backbones.names import DEFAULT_MODEL
from thawline.backbones.providers.keras.config import graph_of
from thawline.backbones.providers.keras.graph import Graph, Node
from thawline.backbones.providers.keras.preparation import MODES
from thawline.errors import HubError, ModelError, StorageError
from thawline.scale.disk import written_whole
from thawline.scale.paths import cache_root
from thawline.scale.releases import release

BGR = "rgb_to_bgr"
"""Name of the layer that turns RGB into the BGR of the models that Caffe trained."""
_REVISION = 1
"""Raise it when graphs are recorded otherwise."""
_NOT_ARCHITECTURE = frozenset("classes classifier_activation input_shape input_tensor name weights".split())
"""Arguments of the constructors that do not change the backbone, or that Thawline gives."""
_asking = threading.RLock()
"""One thread at a time asks Keras, whose state is global."""
NASNET_MOBILE = {
    "penultimate_filters": 1056, "num_blocks": 4, "stem_block_filters": 32, "skip_reduction": False,
    "filter_multiplier": 2, "default_size": 224, "name": "nasnet_mobile",
}  # fmt: skip
"""What ``NASNetMobile`` gives to ``NASNet``; it refuses the torch backend, which only has to draw the graph here."""


def application_graph(model: str, side: int, args: Mapping[str, Any], *, imagenet: bool) -> Graph:
    """Return the whole graph of a model of ``keras.applications``, for pictures of a size.

    Args:
        model: Such as ``ResNet50``.
        side: Height and width of the input.
        args: Keyword arguments of its constructor.
        imagenet: As the model is with the weights of ImageNet: EfficientNets then have a layer more.
    Raises:
        ModelError: Keras is not installed, or does not take these arguments or this size.
    """
    args = {"include_top": False, **args}
    if not args["include_top"]:
        args.setdefault("pooling", "avg")
    graph = _kept(model, side, args)
    return with_imagenet_rescaling(graph) if imagenet and model.startswith("EfficientNetB") else graph


def with_bgr(graph: Graph) -> Graph:
    """Return a graph that takes RGB, though its model takes BGR: weights stay as they are."""
    graph = graph.after(graph.nodes[0].name, Node(BGR, "ReverseChannels", {}, ()))
    return replace(graph, unlisted=graph.unlisted | {BGR})


def with_imagenet_rescaling(graph: Graph) -> Graph:
    """Return a graph with the layer that Keras adds to an EfficientNet if its weights are those of ImageNet.

    They hold standard deviations where Keras 3 expects variances: dividing once more by their root makes that good.

    Source:
        ``keras.src.applications.efficientnet.EfficientNet``.
    """
    if any(node.name == "rescaling_1" for node in graph.nodes):
        return graph
    scale = [1.0 / deviation**0.5 for deviation in MODES["torch"].std]
    return graph.after("normalization", Node("rescaling_1", "Rescaling", {"scale": scale}, ()))


def check_args(model: str, args: Mapping[str, Any]) -> None:
    """Refuse arguments that do not describe the architecture.

    Raises:
        ModelError: Names the argument.
    """
    if forbidden := sorted(_NOT_ARCHITECTURE & args.keys()):
        raise ModelError(
            f"model arguments must describe the architecture of {model}; got {forbidden[0]!r}, which does not. "
            "The size of the input is --input-px."
        )


def _kept(model: str, side: int, args: Mapping[str, Any]) -> Graph:
    """Return the graph that the cache folder keeps, or ask Keras for it and keep it."""
    asked = json.dumps([_REVISION, release("keras"), model, side, dict(args)], sort_keys=True)
    path = cache_root() / "keras" / f"{model}-{side}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):  # damaged: asked again
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["asked"] == asked:
            return Graph.from_json(said["graph"])
    graph = _drawn(model, side, args)
    with contextlib.suppress(OSError, StorageError):  # nothing can be written: Keras is asked again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            json.dump({"asked": asked, "graph": graph.to_json(places=True)}, file)
    return graph


def _drawn(model: str, side: int, args: Mapping[str, Any]) -> Graph:
    """Let Keras build the model without memory, and read its configuration."""
    with _asking:
        keras = import_keras(f"keras/{model}")
        with _without_memory(keras):
            built = _constructed(keras, model, side, {**args, "weights": None})
            config = json.loads(json.dumps({"class_name": "Functional", "config": built.get_config()}))
        graph = _renumbered(graph_of(config))
    if args["include_top"]:
        return graph
    pooling = next((n for n in reversed(graph.nodes) if n.kind.startswith("Global")), None)
    added = frozenset() if pooling is None else frozenset((pooling.name,))
    return replace(graph, unlisted=added)


def _constructed(keras: ModuleType, model: str, side: int, args: Mapping[str, Any]) -> Any:
    constructor: Any = getattr(keras.applications, model, None)
    if constructor is None:
        raise ModelError(f"keras/{model} needs a newer Keras; {keras.__version__} has no such model.")
    if model == "NASNetMobile" and keras.backend.backend() == "torch":
        nasnet: Any = importlib.import_module("keras.src.applications.nasnet")
        constructor, args = nasnet.NASNet, {**NASNET_MOBILE, **args}
    try:
        return constructor(input_shape=(side, side, 3), **args)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        said = {key: value for key, value in args.items() if key != "weights"}
        raise ModelError(f"keras/{model} must take {said} and {side} px; Keras says: {reason}.") from error


@contextlib.contextmanager
def _without_memory(keras: ModuleType) -> Iterator[None]:
    """Build Keras models with shapes and no numbers, channels last, in float32, whatever the user's settings."""
    layout, policy = keras.config.image_data_format(), keras.config.dtype_policy()
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    try:
        with keras.device("meta") if keras.backend.backend() == "torch" else contextlib.nullcontext():
            yield
    finally:
        keras.config.set_image_data_format(layout)
        keras.config.set_dtype_policy(policy)


def import_keras(name: str) -> ModuleType:
    """Import Keras on the torch backend, unless the user has imported it on another already.

    Args:
        name: The model, for the error.
    Raises:
        ModelError: It is not installed.
    """
    chosen = os.environ.get("KERAS_BACKEND")
    try:
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = "torch"
        return importlib.import_module("keras")
    except ImportError as error:
        raise ModelError(
            f"{name} needs Keras for the architecture, which is not installed here ({error}). "
            "Install it: pip install 'thawline[keras]'."
        ) from error
    finally:
        if chosen is None:
            os.environ.pop("KERAS_BACKEND", None)
        else:
            os.environ["KERAS_BACKEND"] = chosen


def _renumbered(graph: Graph) -> Graph:
    """Number the names that Keras makes up from the first again, as in a process that has built no other model.

    ``conv2d_94`` of the second model that a process builds is ``conv2d``: names must not depend on what came before.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for node in graph.nodes:
        if (made_up := _made_up(node)) is not None:
            numbers[made_up[0]].append(made_up[1])
    names = {}
    for node in graph.nodes:
        if (made_up := _made_up(node)) is not None:
            word, n = made_up
            n -= min(numbers[word])
            names[node.name] = f"{word}_{n}" if n else word
    nodes = tuple(
        replace(
            node,
            name=names.get(node.name, node.name),
            path=names.get(node.path, node.path),
            inputs=tuple(names.get(name, name) for name in node.inputs),
        )
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, output=names.get(graph.output, graph.output))


def _made_up(node: Node) -> tuple[str, int] | None:
    """Return the word and the number of a name that Keras made up from the class; None for another name."""
    from thawline.backbones.providers.keras.config import snake_case

    word = snake_case(node.kind)
    match = re.fullmatch(rf"{re.escape(word)}(?:_(\d+))?", node.name)
    return None if match is None else (word, int(match[1] or 0))


class _Asked(Exception):
    """Ends a constructor when it asks for its weights."""

    def __init__(self, file: str, origin: str, settings: Mapping[str, Any]) -> None:
        super().__init__(file)
        self.file, self.origin, self.settings = file, origin, dict(settings)


def imagenet_weights(model: str, side: int, args: Mapping[str, Any], name: str) -> Path:
    """Return the file of the ImageNet weights in Keras's own cache; Keras fetches it if it is not there.

    Raises:
        HubError: It is not there and cannot be fetched.
        ModelError: Keras has no such weights.
    """
    with _asking:
        keras = import_keras(name)
        wanted = _wanted(keras, model, side, {"include_top": False, **args})
        try:
            return Path(keras.utils.get_file(wanted.file, wanted.origin, **wanted.settings))
        except Exception as error:  # whatever the transport raises: the user's next step is the same
            reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
            folder = cache_folder()
            raise HubError(
                f"{name} must be fetched from Keras's store, which did not give it: {reason}. Offline: --model "
                f"{DEFAULT_MODEL}, --model {name}@FILE with weights on this disk, or put {wanted.file} into {folder}."
            ) from error


def cache_folder() -> Path:
    """Return the folder in which Keras keeps the weights that it fetched."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def imagenet_file(model: str, side: int) -> str:
    """Return the name that Keras's own cache gives to the file of a model's ImageNet weights."""
    with _asking:
        return _wanted(import_keras(f"keras/{model}"), model, side, {"include_top": False}).file


def _wanted(keras: ModuleType, model: str, side: int, args: Mapping[str, Any]) -> _Asked:
    """Let a constructor say which file it would fetch, and stop it there."""
    file_utils: Any = importlib.import_module("keras.src.utils.file_utils")
    real = file_utils.get_file

    def ask(fname: str | None = None, origin: str | None = None, **settings: Any) -> str:
        raise _Asked(str(fname), str(origin), settings)

    file_utils.get_file = ask
    try:
        with _without_memory(keras):
            _constructed(keras, model, side, {**args, "weights": "imagenet"})
    except _Asked as asked:
        return asked
    finally:
        file_utils.get_file = real
    raise ModelError(f"keras/{model} has no weights of ImageNet. Give a file as keras/{model}@FILE.")
