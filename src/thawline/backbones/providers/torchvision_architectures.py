"""torchvision's classification models: which there are, what of each is the classifier, and how one is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers.timm_import import import_torchvision_models
from thawline.backbones.weights import TensorFile, WeightsFile
from thawline.errors import ModelError, UnknownModelError, nearest

if TYPE_CHECKING:
    from torch import nn

RENORMALISING = ("googlenet", "inception_v3")
"""Their ``transform_input`` undoes ImageNet's mean and standard deviation and scales to -1..1, as their pre-trained
weights need; torchvision switches it on whenever it loads them."""
TRANSFORM_INPUT = "transform_input"
USUAL_SIDE = 224
"""Input of architectures of one fixed size, unless they are told another."""
_NOT_ARCHITECTURE = frozenset(("aux_logits", "init_weights", "num_classes", "pretrained", "progress", "weights"))
"""Arguments of torchvision's constructors that load files, or change what is not a backbone's."""
_CONTAINERS = frozenset(("AnyStage", "Encoder", "MaxVitBlock", "Sequential", "_DenseBlock"))
"""Classes that hold several layers; ``Sequential`` alone, for many blocks inherit from it."""


_OLDER_NAMES = {
    "densenet": ((r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2"),),
    "vision_transformer": ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
}
"""Module of torchvision -> (pattern, replacement): names in its own files, which it changes when it loads them.

Source: ``torchvision.models.densenet._load_state_dict``, ``torchvision.models.vision_transformer.MLPBlock``.
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an architecture, which a new head replaces."""

    removed: tuple[str, ...]
    """Layers that give way to nothing: the classifier, and the dropout that belongs to it."""
    in_files: tuple[str, ...]
    """Beginnings of the names of a classifier's tensors, of whatever shape: its own, and auxiliary ones."""


_LINEAR = Head(("fc",), ("fc.",))
_DROPOUT_LINEAR = Head(("classifier.0", "classifier.1"), ("classifier.",))
_HEADS = {
    "alexnet": Head(("classifier.6",), ("classifier.6.",)),
    "convnext": Head(("classifier.2",), ("classifier.2.",)),
    "densenet": Head(("classifier",), ("classifier.",)),
    "efficientnet": _DROPOUT_LINEAR,
    "googlenet": Head(("dropout", "fc"), ("fc.", "aux1.", "aux2.")),
    "inception": Head(("dropout", "fc"), ("fc.", "AuxLogits.")),
    "maxvit": Head(("classifier.5",), ("classifier.5.",)),
    "mnasnet": _DROPOUT_LINEAR,
    "mobilenetv2": _DROPOUT_LINEAR,
    "mobilenetv3": Head(("classifier.2", "classifier.3"), ("classifier.3.",)),
    "regnet": _LINEAR,
    "resnet": _LINEAR,
    "shufflenetv2": _LINEAR,
    "squeezenet": _DROPOUT_LINEAR,
    "swin_transformer": Head(("head",), ("head.",)),
    "vgg": Head(("classifier.5", "classifier.6"), ("classifier.6.",)),
    "vision_transformer": Head(("heads.head",), ("heads.",)),
}
"""Module of torchvision -> the head of its architectures."""


def names() -> list[str]:
    """List torchvision's classification architectures, without those for quantised weights."""
    models = import_torchvision_models()
    return list(models.list_models(module=models))


def known(architecture: str, name: str) -> ModuleType:
    """Return ``torchvision.models``, which has an architecture.

    Args:
        name: What the user typed, for the message.
    Raises:
        UnknownModelError: torchvision has no such classification model; names the nearest.
    """
    models = import_torchvision_models()
    if architecture not in models.list_models(module=models):
        near = nearest(architecture, models.list_models(module=models))
        raise UnknownModelError(
            f"model must be a classification model of torchvision; got {name!r}.{near} "
            "See `thawline models 'torchvision/*'`."
        )
    return models


def size_argument(architecture: str, side: int) -> dict[str, Any]:
    """Return the argument that builds an architecture of one fixed size for another one; nothing for the others."""
    if side == USUAL_SIDE:
        return {}
    if architecture.startswith("vit_"):
        return {"image_size": side}
    return {"input_size": [side, side]} if architecture.startswith("maxvit") else {}


def build(architecture: str, model_args: Mapping[str, Any], side: int) -> nn.Module:
    """Create the module without its classifier, frozen and in inference mode; its weights are random.

    Args:
        side: Of the square input, which an architecture of one fixed size must have been made for.
    Raises:
        ModelError: torchvision does not take these arguments, or the model does not take this input.
    """
    import torch

    models = known(architecture, architecture)
    if forbidden := sorted(_NOT_ARCHITECTURE & model_args.keys()):
        raise ModelError(
            f"model arguments must describe the architecture; got {forbidden[0]!r}, which says where to load from."
            if forbidden[0] != "num_classes"
            else "model arguments must describe the backbone; got 'num_classes': Thawline's own head knows the classes."
        )
    said: dict[str, Any] = {"aux_logits": False, "init_weights": True} if architecture in RENORMALISING else {}
    with torch.random.fork_rng(devices=[]), _counting_on_the_processor(architecture):
        try:
            module: nn.Module = models.get_model(architecture, weights=None, **said, **model_args)
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
            raise ModelError(
                f"model arguments must be ones that torchvision's {architecture} takes; got {dict(model_args)!r}: "
                f"{error}."
            ) from error
    _check_side(module, architecture, model_args, side)
    for layer in head_of(architecture).removed:
        owner, _, last = layer.rpartition(".")
        setattr(module.get_submodule(owner), last, torch.nn.Identity())
    if architecture.startswith("mnasnet"):  # its own loader asks a file for a version that only pickles have
        vars(module)["_load_from_state_dict"] = MethodType(torch.nn.Module._load_from_state_dict, module)
    return module.eval().requires_grad_(False)


def head_of(architecture: str) -> Head:
    """Return what of an architecture is its head."""
    return _HEADS[_module_of(architecture)]


def tensors_in(weights: WeightsFile, architecture: str) -> TensorFile:
    """Return the tensors of an architecture in a file of weights, without its classifiers, by today's names."""
    renamed = _OLDER_NAMES.get(_module_of(architecture), ())
    return replace(weights.tensors, excluded=head_of(architecture).in_files, renamed=renamed)


def _module_of(architecture: str) -> str:
    return str(import_torchvision_models().get_model_builder(architecture).__module__).rpartition(".")[2]


def container_types(module: nn.Module) -> tuple[type[nn.Module], ...]:
    """Return the classes of a model's modules that hold several layers."""
    return tuple({type(held) for held in module.modules() if type(held).__name__ in _CONTAINERS})


def _check_side(module: nn.Module, architecture: str, model_args: Mapping[str, Any], side: int) -> None:
    argument = size_argument(architecture, USUAL_SIDE + 1)
    if not argument:
        return
    (name,) = argument
    made_for = model_args.get(name, USUAL_SIDE)
    made_for = made_for[0] if isinstance(made_for, list | tuple) else made_for
    if made_for != side:
        raise ModelError(
            f"{architecture} takes {made_for} px input only; got {side} px. Leave the input size out, or give "
            f"weights trained with --input-px {side}."
        )


@contextlib.contextmanager
def _counting_on_the_processor(architecture: str) -> Iterator[None]:
    """Let a RegNet work out the widths of its blocks, which takes numbers, while its tensors are made without any."""
    import torch
    from torch.overrides import TorchFunctionMode

    class OnTheProcessor(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            placed = {"device": "cpu"} if function in (torch.arange, torch.tensor) else {}
            return function(*args, **(placed | (kwargs or {})))

    with OnTheProcessor() if architecture.startswith("regnet") else contextlib.nullcontext():
        yield
