"""The backbones that ship inside the package: offline, small, checked by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.backbones.providers import embedded_words as words
from thawline.backbones.providers import timm
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.weights import open_weights
from thawline.errors import UnknownModelError, UsageError, WeightsError, nearest

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    import torch
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.provider import LibraryLayer
    from thawline.backbones.providers.tracing import Tracing
    from thawline.records import Preparation

WEIGHTS_FOLDER = Path(__file__).parent.parent / "embedded_weights"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One shipped file and the digest it must have."""

    name: str
    file: str
    sha256: str
    parameters: int
    licence: str
    flops: int = 0
    """Of one picture: 2 for each multiply-add."""
    input_px: int = 0
    """0 if it reads texts."""
    tokenizer: str | None = None
    """File of the tokenizer, if it reads texts."""
    tokenizer_sha256: str = ""

    @property
    def path(self) -> Path:
        return WEIGHTS_FOLDER / self.file

    @property
    def card(self) -> Path:
        """The model card: data, recipe, what was reached, limits."""
        return self.path.with_suffix(".md")


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="resnet18_half",
            file="resnet18_half.tiny_imagenet.safetensors",
            sha256="2f202b5d01334db54aec0317d03bd866acac647248217fa5f4647d384bac931e",
            parameters=2_814_976,
            flops=376_963_072,
            input_px=128,
            licence="weights Apache-2.0; trained on ImageNet pictures, which are for research",
        ),
        EmbeddedModel(
            name="words",
            file="words.all_minilm.safetensors",
            sha256="f6df43e152082b164a4a47855cf2fb88d272696598539939ac27885882c84d7d",
            parameters=7_461_888,
            licence="weights Apache-2.0; distilled from all-MiniLM-L6-v2 (Apache-2.0) on WordNet",
            tokenizer="words.tokenizer.json",
            tokenizer_sha256="1aee0dccab353bd2c53fa35da5fac6a4952d4e8cc707135145dbb83db66704e8",
        ),
    )
}


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; the weights are always there."""
    if location:
        raise UsageError(
            f"embedded models bring their own weights; got embedded/{model}@{location}. Write "
            f"{'hf/NAME' if model == words.ARCHITECTURE else f'timm/{model}'}@{location}."
        )
    if model not in EMBEDDED:
        raise UnknownModelError(
            f"embedded model must be one of {', '.join(EMBEDDED)}; got {model!r}.{nearest(model, EMBEDDED)}"
        )
    weights = open_weights(EMBEDDED[model].path, sha256=EMBEDDED[model].sha256)
    if asked.sha256 is not None and asked.sha256.lower() != EMBEDDED[model].sha256:
        raise WeightsError(
            f"weights must have SHA-256 {asked.sha256.lower()}; those of {name} have {EMBEDDED[model].sha256}. "
            "Leave sha256 out: Thawline checks the weights that it ships."
        )
    if (tokenizer := EMBEDDED[model].tokenizer) is not None:
        return words.described(name, weights, WEIGHTS_FOLDER / tokenizer, EMBEDDED[model].tokenizer_sha256, asked)
    return timm.described(name, weights.architecture or model, weights, asked)


def catalogue(query: str | None) -> list[CatalogueEntry]:
    """See ``Provider.catalogue``."""
    from thawline.backbones.providers.entry import CatalogueEntry, matches

    return [
        CatalogueEntry(
            name=f"embedded/{model.name}",
            parameters=model.parameters,
            flops=model.flops,
            input_px=model.input_px,
            licence=model.licence,
            offline=True,
        )
        for model in EMBEDDED.values()
        if query is None or matches(f"embedded/{model.name}", query)
    ]


def count(architecture: str) -> int:
    """See ``Provider.count``."""
    return EMBEDDED[architecture].parameters


def _home(architecture: str) -> ModuleType:
    """Return what knows an architecture: those of pictures are timm's."""
    return words if architecture == words.ARCHITECTURE else timm


def _home_of(module: nn.Module) -> ModuleType:
    return words if words.is_own(module) else timm


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``."""
    built: nn.Module = _home(architecture).build(architecture, model_args, preparation)
    return built


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``."""
    found: Tracing = _home_of(module).tracing(module)
    return found


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``."""
    made: torch.Tensor = _home_of(module).examples(module, shape, n)
    return made


def input_shape(module: nn.Module) -> tuple[int, ...] | None:
    """See ``Provider.input_shape``."""
    shape: tuple[int, ...] | None = _home_of(module).input_shape(module)
    return shape


def channels_last(module: nn.Module) -> bool:
    """See ``Provider.channels_last``."""
    return timm.channels_last(module)


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``."""
    found: torch.Tensor | None = _home_of(module).pooled(activation, module)
    return found


def library_layers(module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """See ``Provider.library_layers``: none of these libraries counts layers."""
    return None
