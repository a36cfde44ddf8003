"""torchvision: the classification models of ``torchvision.models``, with torchvision's own weights or a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers import licences, timm
from thawline.backbones.providers import torchvision_architectures as architectures
from thawline.backbones.providers import torchvision_weights as published
from thawline.backbones.providers.provider import Description, LibraryLayer, ModelAsk
from thawline.backbones.providers.random_weights import random_weights
from thawline.backbones.providers.timm_file import in_file
from thawline.backbones.providers.timm_preparation import assumed
from thawline.backbones.providers.unfetched import NoTensors
from thawline.backbones.weights import as_one_of, check_architecture, open_weights
from thawline.errors import UsageError
from thawline.records import ImagePreparation, Preparation

if TYPE_CHECKING:
    from enum import Enum

    import torch
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.tracing import Tracing
    from thawline.backbones.weights import TensorFile

_SAID = ("input_size", "mean", "std", "interpolation", "crop_pct")


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; ``model`` is an architecture, or one with the name of weights behind a dot.

    ``--model-arg weights=...`` names the weights, too, as in torchvision; ``none`` is for random ones.
    """
    architecture, _, tag = model.partition(".")
    architectures.known(architecture, name)
    given = dict(asked.model_args or {})
    tag, random = _tag(given, tag, location, name)
    chosen = published.choose(architecture, tag, name)
    if location:
        return _in_file(name, architecture, Path(location).expanduser(), tag, given, asked)
    config = published.described(chosen)
    preparation = published.preparation(config, asked, name)
    model_args = _model_args(architecture, preparation, given, pretrained=not random)
    if architecture_only:
        tensors: TensorFile = NoTensors(Path(name))
    elif random:
        tensors = random_weights("torchvision", architecture, build, model_args, preparation)
    else:
        weights = open_weights(published.fetch(chosen, name), sha256=asked.sha256)
        tensors = architectures.tensors_in(weights, architecture)
    notes = () if random else (*_renormalising(model_args), *_licence(chosen))
    return Description(
        architecture=architecture, model_args=model_args, preparation=preparation, tensors=tensors, notes=notes
    )


def _tag(given: dict[str, Any], tag: str, location: str, name: str) -> tuple[str, bool]:
    """(which weights are meant, whether they are random); takes ``weights`` out of the arguments."""
    if "weights" not in given:
        return tag, False
    wanted = str(given.pop("weights")).rpartition(".")[2]  # torchvision also writes ResNet50_Weights.IMAGENET1K_V2
    if wanted.lower() != "none":
        if tag and wanted.lower() != tag.lower():
            raise UsageError(f"weights must be named once; {name} was asked for with weights={wanted}. Leave one out.")
        return wanted, False
    if tag or location:
        raise UsageError(f"weights=none asks for random weights, but {name} names some. Leave one out.")
    return "", True


def _in_file(
    name: str, architecture: str, path: Path, tag: str, given: Mapping[str, Any], asked: ModelAsk
) -> Description:
    """Describe a model whose weights lie in a file; ``tag`` names the preparation that they were trained with."""
    weights = open_weights(path, sha256=asked.sha256)
    weights = as_one_of(weights, architecture) if asked.weights_by_name else weights
    check_architecture(architecture, weights)
    same = published.with_file(architecture, path)
    chosen = published.choose(architecture, tag, name) if tag or same is None else same
    said = {key: weights.pretrained_cfg[key] for key in _SAID if weights.pretrained_cfg.get(key)}
    known = bool(tag) or same is not None
    config = published.described(chosen) | said
    side = _side(architecture, weights.tensors.shapes())
    if side is not None and "input_size" not in said:
        config |= {"input_size": [3, side, side]}
    preparation = published.preparation(config, asked, name)
    model_args = weights.model_args | _model_args(architecture, preparation, given, pretrained=True)
    heads = architectures.head_of(architecture).in_files
    found = Description(
        architecture=architecture,
        model_args=model_args,
        preparation=preparation,
        tensors=architectures.tensors_in(weights, architecture),
    )
    described = replace(weights, pretrained_cfg={"classifier": [head.removesuffix(".") for head in heads]})
    found = in_file(found, described, build, dict)
    source = f"torchvision's {architecture}.{chosen.name.lower()}"
    note = () if known else assumed(found, said, config, asked, path.name, None, source=source)

    def advice(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
        from thawline.backbones.providers import torchvision_advice  # only weights that do not fit need it

        return torchvision_advice.advice(found, path, given, wanted)

    return replace(
        found,
        notes=(*found.notes, *note, *_renormalising(model_args), *(_licence(chosen) if same is not None else ())),
        preparation_said=known or bool({"mean", "std"} <= said.keys()),
        advice=advice,
    )


def _model_args(
    architecture: str, preparation: ImagePreparation, given: Mapping[str, Any], *, pretrained: bool
) -> dict[str, Any]:
    """Return the arguments of torchvision's constructor: those that the weights need, then those that were given."""
    needed: dict[str, Any] = architectures.size_argument(architecture, preparation.input_px[0])
    if pretrained and architecture in architectures.RENORMALISING:
        needed[architectures.TRANSFORM_INPUT] = True
    return needed | dict(given)


def _side(architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the side of the input that the position embedding of a vision transformer was made for."""
    if not architecture.startswith("vit_"):
        return None
    ends = {end: shape for name, shape in shapes.items() for end in ("pos_embedding", "conv_proj.weight")
            if name.endswith(end)}  # fmt: skip
    positions, patches = ends.get("pos_embedding", ()), ends.get("conv_proj.weight", ())
    if len(positions) != 3 or len(patches) != 4 or positions[1] < 2:
        return None
    return math.isqrt(positions[1] - 1) * patches[-1]


def _renormalising(model_args: Mapping[str, Any]) -> tuple[str, ...]:
    if not model_args.get(architectures.TRANSFORM_INPUT):
        return ()
    return (
        "The model scales its normalised input once more, to -1..1 (transform_input=True), as torchvision's weights of "
        "it need. If yours were trained without that, add --model-arg transform_input=false.",
    )


def _licence(weights: Enum) -> tuple[str, ...]:
    return licences.note(published.described(weights)["license"])


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``."""
    return architectures.build(architecture, model_args, preparation.tensor_shape[-1])


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``. torchvision's blocks have classes of their own; what holds them is a ``Sequential``."""
    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset({""}), container_types=architectures.container_types(module))


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``: a vision transformer says it; other models take pictures of many sizes."""
    side = getattr(module, "image_size", None)
    return None if side is None else (3, int(side), int(side))


def channels_last(module: nn.Module) -> bool:
    """See ``Provider.channels_last``."""
    return type(module).__name__ == "SwinTransformer"


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``: (B, C, H, W), (B, H, W, C) or (B, 1 + T, C) -> (B, C)."""
    if activation.ndim == 2:
        return activation
    if activation.ndim == 3:
        return activation[:, 1:].mean(1)  # the class token is no position
    if activation.ndim == 4:
        last = channels_last(module) and activation.shape[-1] != 1  # behind its end, Swin has (B, C, 1, 1)
        return activation.mean((1, 2) if last else (2, 3))
    return None


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``; neither torch nor torchvision is imported."""
    from thawline.backbones.providers.known import entries

    folder = published.checkpoints()
    return entries("torchvision", query, lambda known: (folder / known.file).is_file())


def count(architecture: str) -> int:
    """See ``Provider.count``; the model is built without memory."""
    import torch

    from thawline.backbones.outline import without_draws

    with torch.device("meta"), without_draws():
        model = architectures.build(architecture.partition(".")[0], {}, architectures.USUAL_SIDE)
    return sum(parameter.numel() for parameter in model.parameters())


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``; torchvision counts no layers."""
    return None


examples = timm.examples
