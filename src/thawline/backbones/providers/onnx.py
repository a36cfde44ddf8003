"""ONNX files as frozen backbones: ``onnx/NAME@FILE.onnx``. OpenVINO runs them; nothing in them can learn."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.foreign.graphs import FEATURES, TENSOR, onnx_as_safetensors, read_onnx
from thawline.backbones.names import COUNTED
from thawline.backbones.providers import timm
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.providers.timm_preparation import assumed, preparation_from
from thawline.backbones.weights import TensorFile, check_digest
from thawline.errors import StorageError, UnknownModelError, UsageError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.foreign.onnx_graph import FeatureGraph
    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.provider import LibraryLayer
    from thawline.backbones.providers.tracing import Tracing
    from thawline.records import Preparation

_USUAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear", "crop_pct": 0.875}
"""How most models of ImageNet are prepared."""


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; ``model`` is a name of the user's choice."""
    if not location:
        raise UnknownModelError(f"an ONNX model is a file; got {name!r}. Write onnx/{model}@FILE.onnx.")
    given = dict(asked.model_args or {})
    features = given.pop(FEATURES, None)
    if given or not isinstance(features, str | None):
        raise UsageError(
            f"an ONNX model takes one argument, {FEATURES}=TENSOR; got {', '.join(given) or repr(features)}. "
            "Leave the others out."
        )
    path = Path(location).expanduser()
    if not os.path.isfile(path):  # noqa: PTH113  (a name may be too long)
        raise WeightsError(f"an ONNX model must be a file; {path} is not there.")
    try:
        if asked.sha256 is not None:
            check_digest(path, asked.sha256)
        kept, found = onnx_as_safetensors(path, features=features, px=asked.input_px)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise WeightsError(f"weights must be readable; {path}: {error.strerror or error}.") from error
    settings = asked.given()
    config = _USUAL | {key: settings[key] for key in _USUAL if key in settings}
    size = [3, found["px"], found["px"]]
    described = Description(
        architecture="onnx",
        model_args={key: found[key] for key in (FEATURES, "batch", "px", "width")}
        | {COUNTED: found["parameters"], "bytes": path.stat().st_size},
        preparation=preparation_from(config | {"input_size": size}, name),
        tensors=TensorFile(kept, origin=path),
    )
    said = {"input_size": size} if found["says_px"] else {}
    notes = assumed(described, said, config, asked, path.name, None, source="the usual values for ImageNet")
    read = f"its output {found[FEATURES]!r}" if found["is_output"] else f"{found[FEATURES]!r}, before its classifier"
    reads = () if features else (f"{path.name} is used frozen; features are {read}.",)
    return Description(
        architecture=described.architecture,
        model_args=described.model_args,
        preparation=described.preparation,
        tensors=described.tensors,
        notes=(*reads, *notes),
        preparation_said=False,
    )


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``. The module holds the bytes of the file, and asks OpenVINO for what they compute."""
    from thawline.backbones.providers.onnx_module import OnnxModel

    return OnnxModel(dict(model_args)).eval()


def graph(tensors: TensorFile, model_args: Mapping[str, Any]) -> FeatureGraph:
    """Return the graph up to the features.

    Raises:
        ModelError: OpenVINO cannot read it.
    """
    return read_onnx(
        tensors.contents()(TENSOR),
        features=str(model_args[FEATURES]),
        px=int(model_args["px"]),
        batch=int(model_args["batch"]),
    )


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``: the whole graph is one node."""
    from torch import nn

    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset(("",)), container_types=(nn.Sequential,))


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``: pictures of noise (n, 3, H, W)."""
    import torch

    pictures = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return pictures.to(device=next(module.buffers()).device)


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``."""
    px = getattr(module, "px", None)
    return None if px is None else (3, int(px), int(px))


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``: there are only the user's own."""
    return []


def count(architecture: str) -> int:
    """See ``Provider.count``; that depends on the file."""
    raise UnknownModelError("an ONNX model is a file of your own: its parameters are counted when it is opened.")


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``: the graph has no layers by name."""
    return None


channels_last, pooled = timm.channels_last, timm.pooled
