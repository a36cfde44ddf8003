"""Why weights do not fit one of timm's architectures, and what to do about it."""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.matching import COUNTER, misfits
from thawline.backbones.providers.torchvision_advice import fitting_architecture

if TYPE_CHECKING:
    from thawline.backbones.matching import Shapes
    from thawline.backbones.providers.provider import Description

_SEARCH_S = 6.0
"""Time to look for an architecture that fits; building one without memory takes 30 to 150 ms."""
_STYLES = {
    "torchvision": re.compile(
        r"features\.\d+\.|encoder\.layers\.encoder_layer_\d+\.|trunk_output\.|inception\d[a-e]\."
    ),
    "Hugging Face transformers": re.compile(
        r"(\w+\.)?(embeddings|encoder)\.(layer|patch_embeddings|stages|cls_token)\b"
    ),
    "Ultralytics": re.compile(r"(model\.)?\d+\.(cv\d|conv|m\.\d+)\."),
}
"""Library -> names that its tensors have."""


def advice(found: Description, path: Path, given: Shapes, wanted: Shapes) -> str:
    """Return the next step that what differs suggests.

    Args:
        found: What was asked for.
        path: The file of weights.
        given, wanted: Name -> shape, in the file and in the architecture.
    """
    prefix = found.tensors.prefix
    taken_off = f"Names in the file begin with {prefix!r}, which is left out here. " if prefix else ""
    return taken_off + (
        _channels(given, wanted)
        or _positions(given, wanted, found.model_args)
        or _tied(given, wanted, found)
        or _unfinished(given, wanted)
        or _other_library(given, wanted, found, path)
        or _fitting(given, found.architecture, path)
    )


def _channels(given: Shapes, wanted: Shapes) -> str:
    """Weights whose first layer takes another number of channels than one, which is spread, or three."""
    differ = [name for name in wanted if name in given and given[name] != wanted[name]]
    if len(misfits(given, wanted)) != 1 or len(differ) != 1:
        return ""
    name = differ[0]
    own, shape = given[name], wanted[name]
    if len(shape) != 4 or shape[1] != 3 or (own[:1], own[2:]) != (shape[:1], shape[2:]):
        return ""
    said = f"The weights were made for pictures of {own[1]} channels, and Thawline gives them three."
    return f"{said} Choose weights that were made for one or three."


def _positions(given: Shapes, wanted: Shapes, model_args: Mapping[str, Any]) -> str:
    """Position embeddings of another input size."""
    name = "pos_embed"
    if name not in given or given[name] == wanted.get(name) or len(misfits(given, wanted)) != 1:
        return ""
    patch = wanted.get("patch_embed.proj.weight", (0, 0, 0, 0))[-1]
    for n_prefix in (0, 1, 2, 5):  # class, distillation and register tokens
        side = math.isqrt(max(wanted[name][1] - n_prefix, 0))
        if len(given[name]) == 3 and patch and side and side**2 == wanted[name][1] - n_prefix:
            own = math.isqrt(max(given[name][1] - n_prefix, 0))
            if own and own**2 == given[name][1] - n_prefix:
                px = own * patch
                return f"The weights were made for an input of {px} px: add --input-px {px}."
    return ""


def _tied(given: Shapes, wanted: Shapes, found: Description) -> str:
    """Weights that belong to one input size, and cannot be interpolated."""
    from thawline.backbones.providers.timm_import import import_timm

    size = import_timm().get_pretrained_cfg(found.architecture).input_size[1]
    if found.preparation.tensor_shape[-1] == size or any(name not in given for name in wanted):
        return ""
    return f"Some of its weights belong to an input of {size} px and cannot be interpolated: leave --input-px out."


def _unfinished(given: Shapes, wanted: Shapes) -> str:
    """A file without the model's last layers."""
    names = [name for name in wanted if not name.endswith(COUNTER)]
    missing = [name for name in names if name not in given]
    fits = all(given[name] == wanted[name] for name in names if name in given) and not given.keys() - wanted.keys()
    if not fits or len(missing) > len(names) / 2 or names[-len(missing) :] != missing:
        return ""
    layer = missing[0].rpartition(".")[0]
    return (
        f"Everything from {layer} on is missing: it was saved without its last layers (with features_only=True, "
        "perhaps). Save the whole model."
    )


def _other_library(given: Shapes, wanted: Shapes, found: Description, path: Path) -> str:
    if len(given.keys() & wanted.keys()) > len(wanted) / 2:
        return ""
    for library, names in _STYLES.items():
        if sum(bool(names.match(name)) for name in given) > len(given) / 4:
            whole = replace(found.tensors, excluded=(), foreign=()).shapes()  # timm's classifier is part of others here
            if library == "torchvision" and (fitting := fitting_architecture(whole)):
                return f"Its names are those of {library}: give --model torchvision/{fitting}@{path}."
            if library == "Hugging Face transformers":
                return f"Its names are those of {library}: give --model hf/NAME@{path}, with config.json beside it."
            return (
                f"Its names are those of {library}, and timm's differ. Take the same model from timm: "
                f"`thawline models {found.architecture}` lists its weights."
            )
    return ""


def _fitting(given: Shapes, architecture: str, path: Path) -> str:
    """Name an architecture that the tensors fit, if one is found soon."""
    import torch

    from thawline.backbones.outline import without_draws
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    begun = time.monotonic()
    for name in _candidates(timm, given, architecture, path):
        if time.monotonic() - begun > _SEARCH_S:
            break
        try:
            with torch.device("meta"), without_draws():
                module = timm.create_model(name, pretrained=False)
        except Exception:
            continue
        if _holds(given, {key: tuple(value.shape) for key, value in module.state_dict().items()}, module):
            return f"The weights fit timm's {name}: give --model timm/{name}@{path}."
    return ""


def _holds(given: Shapes, wanted: Shapes, module: Any) -> bool:
    """Whether tensors are those of a model, whatever its number of classes."""
    heads = module.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads)) or ("\0",)
    needed = {name: shape for name, shape in wanted.items() if not name.startswith(heads)}
    return not misfits({name: shape for name, shape in given.items() if not name.startswith(heads)}, needed)


def _candidates(timm: Any, given: Shapes, architecture: str, path: Path) -> list[str]:
    """Architectures in the order in which they are tried: named by the file, of the same module, of its kind."""
    names: list[str] = timm.list_models()
    in_name = sorted((name for name in names if name in path.stem), key=len, reverse=True)
    module = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    firsts = {name.partition(".")[0] for name in given}
    kinds = [module, *(kind for kind, first in _KINDS.items() if firsts >= first)]
    near = [name for kind in reversed(kinds) for name in timm.list_models(module=kind)]
    ordered = sorted(set(near), key=lambda name: (-_alike(name, architecture, path), len(name)))
    common = [name for name in _COMMON if name in names]
    return list(dict.fromkeys([*in_name, *common, *ordered]))


def _alike(name: str, architecture: str, path: Path) -> float:
    return max(difflib.SequenceMatcher(None, name, other).ratio() for other in (architecture, path.stem))


_KINDS = {
    "resnet": {"conv1", "layer1", "layer4"},
    "efficientnet": {"conv_stem", "blocks", "conv_head"},
    "vision_transformer": {"cls_token", "pos_embed", "blocks"},
    "swin_transformer": {"patch_embed", "layers"},
    "convnext": {"stem", "stages"},
    "densenet": {"features"},
    "vgg": {"features", "pre_logits"},
}
"""Module of timm -> first parts of the names that its models have."""
_COMMON = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 mobilenetv2_100 mobilenetv3_large_100 mobilenetv3_small_100 "
    "efficientnet_b0 tf_efficientnet_lite0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
    "vit_tiny_patch16_224 vit_small_patch16_224 vit_base_patch16_224 deit_small_patch16_224 convnext_tiny "
    "convnext_small convnext_base swin_tiny_patch4_window7_224 densenet121 vgg16 vgg16_bn regnety_016 resnext50_32x4d"
).split()
"""Architectures that people use most."""
