"""timm: several hundred vision models, from the hub or from a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.names import DEFAULT_MODEL
from thawline.backbones.providers import licences
from thawline.backbones.providers.known import entries, licence_of
from thawline.backbones.providers.provider import Description, LibraryLayer, ModelAsk
from thawline.backbones.providers.timm_file import in_file
from thawline.backbones.providers.timm_preparation import assumed, convolutions_pad, in_three_channels, preparation_from
from thawline.backbones.providers.unfetched import UnfetchedFile
from thawline.backbones.weights import WeightsFile, as_one_of, check_architecture, open_weights
from thawline.errors import ModelError, UnknownModelError, UsageError, nearest
from thawline.records import Preparation, of_pictures

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.tracing import Tracing

_NOT_ARCHITECTURE = frozenset(
    (
        "cache_dir checkpoint_path exportable features_only no_jit num_classes pretrained pretrained_cfg "
        "pretrained_cfg_overlay pretrained_strict scriptable"
    ).split()
)
"""Arguments of ``timm.create_model`` that a weights file must not decide: they load files or change the result."""


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; weights come from the file behind ``@``, or from the hub."""
    architecture = _without_tag(model)
    if location:
        weights = open_weights(Path(location).expanduser(), sha256=asked.sha256)
        weights = as_one_of(weights, architecture) if asked.weights_by_name else weights
        check_architecture(architecture, weights)
    elif architecture_only:
        if asked.sha256 is not None:
            raise UsageError(
                f"sha256 is for weights that are read; those of {name} stay on the hub here. Leave it out."
            )
        weights = UnfetchedFile(path=Path(name), architecture=None, model_args={}, pretrained_cfg=_config(model, name))
    else:
        weights = _from_hub(model, name, asked.sha256)
        architecture = weights.architecture or architecture
    said = dict(weights.pretrained_cfg)
    if not all(said.get(key) for key in ("input_size", "mean", "std")):
        weights = replace(weights, pretrained_cfg=_config(architecture, name) | said)
    found = described(name, architecture, weights, asked)
    if not location:
        tagged = model if "." in model else f"{architecture}.{said.get('tag') or ''}"
        return replace(found, notes=licences.note(said.get("license") or licence_of("timm", tagged)))
    if not architecture_only:
        found = in_file(found, weights, build, lambda: _config(architecture, name))
    padding = convolutions_pad(architecture, weights.model_args, said)
    note = assumed(found, said, weights.pretrained_cfg, asked, weights.shown.name, padding)
    stated = all(said.get(key) for key in ("mean", "std"))

    def advice(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
        from thawline.backbones.providers import timm_advice  # only weights that do not fit need it

        return timm_advice.advice(found, weights.shown, given, wanted)

    notes = (*found.notes, *note, *licences.note(said.get("license")))
    return replace(found, notes=notes, preparation_said=stated, advice=advice)


def described(name: str, architecture: str, weights: WeightsFile, asked: ModelAsk) -> Description:
    """Join what the weights say of themselves with what was asked."""
    settings = asked.given()
    config, model_args = in_three_channels(weights, asked)
    config |= {key: settings[key] for key in ("mean", "std", "interpolation", "crop_pct") if key in settings}
    if asked.input_px is not None:
        config["input_size"] = [3, asked.input_px, asked.input_px]
    return Description(
        architecture=architecture,
        model_args=model_args,
        preparation=preparation_from(config, name),
        tensors=weights.tensors,
    )


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``."""
    import torch

    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    # timm would take a name with a scheme ("hf-hub:...") for a place to fetch code or weights from
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise ModelError(f"architecture must be one that timm knows; got {architecture!r}.{near}")
    if forbidden := sorted(_NOT_ARCHITECTURE & model_args.keys()):
        raise ModelError(
            f"model arguments must describe the architecture; got {forbidden[0]!r}, which says where to load from."
        )
    config = timm.get_pretrained_cfg(architecture)
    fixed = config is not None and config.fixed_input_size and "img_size" not in model_args
    size_px = of_pictures(preparation).input_px
    resized = fixed and tuple(config.input_size[1:]) != size_px
    size = {"img_size": size_px[0]} if resized else {}
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        try:
            module: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **size, **model_args)
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
            if resized:
                raise ModelError(
                    f"{architecture} takes {config.input_size[1]} px input only; got {size_px[0]} px "
                    f"({error}). Leave the input size out."
                ) from error
            raise ModelError(
                f"model arguments must be ones that timm's {architecture} takes; got {dict(model_args)!r}: {error}."
            ) from error
    return module.eval().requires_grad_(False)


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``. timm's finest parameter groups are the blocks of an architecture.

    A container is a module that has several groups, or calls a child ``blocks``. A stage of one block is of the same
    kind as its larger sisters, so containers count by type, too.
    """
    from torch import nn

    from thawline.backbones.providers.timm_import import import_timm
    from thawline.backbones.providers.tracing import Tracing

    import_timm()
    from timm.layers import get_notrace_functions
    from timm.models._manipulate import group_parameters

    groups: dict[str, set[int]] = {name: set() for name, _ in module.named_modules()}
    if hasattr(module, "group_matcher"):
        matcher = module.group_matcher(coarse=False)  # type: ignore[operator]
        for parameter, group in group_parameters(module, matcher, reverse=True).items():
            parts = parameter.split(".")
            for depth in range(len(parts)):
                groups[".".join(parts[:depth])].add(group)
    names = {name for name, held in groups.items() if len(held) > 1} | {""}
    names |= {name for name, held in module.named_modules() if isinstance(getattr(held, "blocks", None), nn.Module)}
    return Tracing(
        containers=frozenset(names),
        container_types=(nn.Sequential, *{type(module.get_submodule(name)) for name in names}),
        untraced=tuple(get_notrace_functions()),
        is_stem=_stem_pattern(module),
    )


def _stem_pattern(module: nn.Module) -> Callable[[str], object]:
    """What timm calls the stem: in a resnet with a deep one, ``conv1.0`` to ``conv1.6`` and ``bn1``."""
    matcher = module.group_matcher(coarse=True) if hasattr(module, "group_matcher") else None  # type: ignore[operator]
    pattern = matcher.get("stem") if isinstance(matcher, dict) else None
    return re.compile(pattern).match if isinstance(pattern, str) else lambda _name: False


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``: pictures of noise (n, 3, H, W)."""
    import torch

    weight = next(module.parameters())
    pictures = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return pictures.to(device=weight.device, dtype=weight.dtype)


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``: (3, H, W)."""
    config = getattr(module, "pretrained_cfg", None) or {}
    return tuple(config["input_size"]) if "input_size" in config else None


def channels_last(module: nn.Module) -> bool:
    """See ``Provider.channels_last``; timm's own name for it is NHWC."""
    return getattr(module, "output_fmt", "NCHW") == "NHWC"


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``: (B, C, H, W), (B, H, W, C) or (B, T, C) -> (B, C)."""
    if activation.ndim == 2:
        return activation
    if activation.ndim == 3:
        n_prefix = int(getattr(module, "num_prefix_tokens", 0))  # class and register tokens are not positions
        return activation[:, n_prefix:].mean(1)  # (B, T, C) -> (B, C)
    if activation.ndim == 4:
        return activation.mean((1, 2) if channels_last(module) else (2, 3))
    return None


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``; timm is not imported."""
    from thawline.backbones.providers.hub import fetched_repositories

    fetched = fetched_repositories()
    return entries("timm", query, lambda known: (known.file or f"timm/{known.name}") in fetched)


def count(architecture: str) -> int:
    """See ``Provider.count``; the model is built without memory."""
    import torch

    from thawline.backbones.providers.timm_import import import_timm

    with torch.device("meta"):
        model = import_timm().create_model(_without_tag(architecture), num_classes=0)
    return sum(parameter.numel() for parameter in model.parameters())


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``; timm counts no layers."""
    return None


def hub_repository(tagged: str, name: str) -> str:
    """Return the hub repository of a model, ``arch`` or ``arch.tag``.

    Raises:
        UnknownModelError: timm has no weights for it.
    """
    config = _config(tagged, name)
    repository = config.get("hf_hub_id")
    if not repository:
        raise UnknownModelError(
            f"{name} has no pre-trained weights on the hub. Give weights of your own as {name}@FILE.safetensors, "
            "or choose another model: `thawline models`."
        )
    return str(repository)


def _from_hub(tagged: str, name: str, sha256: str | None) -> WeightsFile:
    from thawline.backbones.providers.hub import fetch

    return open_weights(fetch(hub_repository(tagged, name), name, DEFAULT_MODEL), sha256=sha256)


def _config(tagged: str, name: str) -> dict[str, Any]:
    """Return timm's own description of a model's input, as the keys of its hub ``config.json``."""
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    architecture, _, tag = tagged.partition(".")
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise UnknownModelError(f"model must be one that timm knows; got {name!r}.{near} See `thawline models QUERY`.")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UnknownModelError(
            f"{architecture} comes as {', '.join(tags) or 'no pre-trained weights'}; got tag {tag!r}."
        )
    return dict(timm.get_pretrained_cfg(tagged).to_dict())


def _without_tag(tagged: str) -> str:
    return tagged.partition(".")[0]
