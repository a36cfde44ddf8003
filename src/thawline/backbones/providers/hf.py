"""Hugging Face: encoders of transformers for pictures and texts, and models of timm, from the hub or a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.names import DEFAULT_MODEL
from thawline.backbones.providers import hf_text, licences, timm
from thawline.backbones.providers.hf_families import FAMILIES, family_of
from thawline.backbones.providers.hf_folder import CONFIG, PROCESSOR, encoder_in, folder_of, read_json
from thawline.backbones.providers.hf_known import KNOWN
from thawline.backbones.providers.hf_preparation import prepared
from thawline.backbones.providers.hf_sentence import sentence_in
from thawline.backbones.providers.hf_text_families import TEXT_FAMILIES
from thawline.backbones.providers.hf_text_known import TEXT_KNOWN
from thawline.backbones.providers.provider import Description, LibraryLayer, ModelAsk
from thawline.backbones.providers.random_weights import random_weights
from thawline.backbones.providers.unfetched import NoTensors
from thawline.backbones.weights import open_weights
from thawline.errors import HubError, ModelError, UnknownModelError, UsageError, WeightsError, nearest
from thawline.records import Preparation, of_pictures, of_texts

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.tracing import Tracing

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; the files come from the folder behind ``@``, or from the hub.

    ``--model-arg weights=none`` asks for random weights: of the files, only the configurations are read.
    """
    asked, random = _without_weights(asked)
    if location:
        return _of_folder(name, Path(location).expanduser(), asked, random)
    if not _REPOSITORY.fullmatch(model):
        raise UnknownModelError(
            f"model of the hub must be hf/OWNER/NAME; got {name!r}.{nearest(model, (*KNOWN, *TEXT_KNOWN))} "
            "A folder on this disk: hf/NAME@FOLDER."
        )
    if architecture_only or random:
        found = _unfetched(name, model, asked)
        return found if architecture_only else _randomly(found)
    from thawline.backbones.providers.hub import fetch
    from thawline.backbones.providers.hub_text import fetch_beside

    folder = fetch(model, name, DEFAULT_MODEL, local="FOLDER")
    told = fetch_beside(model, folder) if hf_text.is_text(read_json(folder / CONFIG)) else ()
    found = _of_folder(name, folder, asked, random)
    return replace(found, notes=(*told, *found.notes))


def _without_weights(asked: ModelAsk) -> tuple[ModelAsk, bool]:
    """(what is asked of the architecture, whether its weights are to be random)"""
    given = dict(asked.model_args or {})
    weights = given.pop("weights", None)
    if weights not in (None, "none"):
        raise UsageError(f"weights must be none, for random ones, or left out; got {weights!r}.")
    return replace(asked, model_args=given or None), weights is not None


def _randomly(found: Description) -> Description:
    """Give a described encoder the weights that it has before any training."""
    if found.provider is not None:
        raise UsageError("weights=none is for encoders of transformers. Write timm/NAME with --from-scratch.")
    tensors = random_weights("hf", found.architecture, build, found.model_args, found.preparation)
    return replace(found, tensors=tensors)


def _of_folder(name: str, location: Path, asked: ModelAsk, random: bool) -> Description:
    """Describe what a folder, or a file of weights in it, holds."""
    folder = folder_of(location)
    config = read_json(folder / CONFIG)
    if hf_text.is_text(config) or (config is None and hf_text.is_sentence_folder(folder)):
        text = hf_text.of_folder(name, location, folder, asked, weightless=random)
        ours = not TEXT_FAMILIES[text.architecture].of_library
        return _randomly(text) if random else replace(text, advice=_settings_advice if ours else _advice)
    if config is None:
        raise WeightsError(
            f"{CONFIG} must lie beside the weights; {folder} has none. "
            "Fetch it from where the weights came from: it says what they are."
        )
    if _is_of_timm(config):
        tagged = str(config["architecture"])
        found = timm.describe(name, tagged, str(location), asked, architecture_only=False)
        return replace(found, provider="timm")
    described = _described(name, config, read_json(folder / PROCESSOR), asked, str(folder / CONFIG))
    if random:
        return _randomly(described)
    weights = open_weights(location, sha256=asked.sha256)
    family = FAMILIES[described.architecture]
    encoder = encoder_in(weights, family, described.model_args, of_pictures(described.preparation).input_px[0])
    notes = (*encoder.notes, *described.notes)
    return replace(described, tensors=encoder.tensors, notes=notes, advice=_advice)


def _advice(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Return the next step if the tensors of a file and those of the encoder differ."""
    from thawline.backbones.providers.transformers_import import OLDEST, is_older

    if is_older():
        return f"The installed transformers may name its layers otherwise: pip install -U 'transformers>={OLDEST}'."
    return _settings_advice(given, wanted)


def _settings_advice(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Return the next step if the library is not what differs."""
    return (
        f"Give the {CONFIG} that was saved with these weights, or the settings that differ as --model-arg NAME=VALUE."
    )


def _unfetched(name: str, repository: str, asked: ModelAsk) -> Description:
    """Describe a model of the hub by its configuration alone, if that is on this disk."""
    from thawline.backbones.providers.hub import cached

    if asked.sha256 is not None:
        raise UsageError(f"sha256 is for weights that are read; those of {name} stay on the hub here. Leave it out.")
    fetched = cached(repository, CONFIG)
    if fetched is not None:
        config, processor = read_json(fetched), read_json(fetched.with_name(PROCESSOR))
        if config is not None and _is_of_timm(config):
            found = timm.describe(name, str(config["architecture"]), "", asked, architecture_only=True)
            return replace(found, provider="timm")
        if config is not None and hf_text.is_text(config):
            return hf_text.unfetched(name, config, asked, sentence_in(fetched.parent), str(fetched))
        return _described(name, config or {}, processor, asked, str(fetched))
    if repository in TEXT_KNOWN:
        text = TEXT_KNOWN[repository]
        found = hf_text.unfetched(name, text.config, asked, text.sentence, name, length=text.length)
        return replace(found, notes=(*found.notes, *licences.note(text.licence)))
    if repository in KNOWN:
        known = KNOWN[repository]
        found = _described(name, known.config, known.processor, asked, name)
        return replace(found, notes=(*found.notes, *licences.note(known.licence)))
    raise HubError(
        f"the architecture of {name} must be known to describe it; its {CONFIG} is not on this disk. "
        f"Fetch the model first, give a folder as {name}@FOLDER, or choose one of `thawline models hf`."
    )


def _is_of_timm(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("architecture"), str) and "pretrained_cfg" in config


def _described(
    name: str, config: Mapping[str, Any], processor: Mapping[str, Any] | None, asked: ModelAsk, where: str
) -> Description:
    """Join what the configurations say with what was asked; the weights are not looked at."""
    family = family_of(config, where, TEXT_FAMILIES)
    settings = family.settings(config, where)
    if asked.model_args:
        family.check(asked.model_args, name)
        settings |= dict(asked.model_args)
    ready = prepared(processor, family, asked, name, str(Path(where).with_name(PROCESSOR)))
    return Description(
        architecture=family.model_type,
        model_args=settings,
        preparation=ready.preparation,
        tensors=NoTensors(Path(name)),
        notes=ready.notes,
        preparation_said=ready.said,
    )


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``."""
    import torch

    if architecture in TEXT_FAMILIES:
        return hf_text.build(architecture, model_args, of_texts(preparation))
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join((*FAMILIES, *TEXT_FAMILIES))
        raise ModelError(f"architecture must be one of {known}; got {architecture!r}.")
    family.check(model_args, architecture)
    from thawline.backbones.providers.hf_modules import encoder

    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        return encoder(family, model_args, of_pictures(preparation).input_px[0]).eval().requires_grad_(False)


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``: an encoder is a chain of the library's blocks, and none of them is stepped into."""
    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset({""}), container_types=())


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``: (3, H, W) of pictures, (L,) of texts."""
    if (length := getattr(module, "length", None)) is not None:
        return (length,)
    px = getattr(module, "input_px", None)
    return None if px is None else (3, px, px)


def channels_last(module: nn.Module) -> bool:
    """See ``Provider.channels_last``: tokens have no picture shape, and maps of convolutions have channels first."""
    return False


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``: the usual models; any other opens by its name, too."""
    from thawline.backbones.providers.hub import fetched_repositories
    from thawline.backbones.providers.known import entries

    fetched = fetched_repositories()
    return entries("hf", query, lambda known: known.name in fetched)


def count(architecture: str) -> int:
    """See ``Provider.count``; takes the name of a usual model. It is built without memory."""
    import torch

    from thawline.backbones.outline import without_draws

    found = _unfetched(f"hf/{architecture}", architecture, ModelAsk())
    with torch.device("meta"), without_draws():
        module = build(found.architecture, found.model_args, found.preparation)
    return sum(parameter.numel() for parameter in module.parameters())


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``; transformers counts no layers."""
    return None


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``: pictures of noise (n, 3, H, W), or ids of random tokens (n, L)."""
    return hf_text.examples(module, shape, n) if _takes_text(module) else timm.examples(module, shape, n)


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``: the mean over patches, or over the tokens of a text; (B, T, C) -> (B, C)."""
    return hf_text.pooled(activation) if _takes_text(module) else timm.pooled(activation, module)


def _takes_text(module: nn.Module) -> bool:
    return hasattr(module, "vocabulary")
