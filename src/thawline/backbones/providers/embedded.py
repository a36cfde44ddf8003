"""The backbones that ship inside the package: offline, small, checked by digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.backbones.providers import timm
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.weights import open_weights
from thawline.errors import UnknownModelError, UsageError, WeightsError, nearest

if TYPE_CHECKING:
    from thawline.backbones.providers.entry import CatalogueEntry

WEIGHTS_FOLDER = Path(__file__).parent.parent / "embedded_weights"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One shipped file and the digest it must have."""

    name: str
    file: str
    sha256: str
    parameters: int
    flops: int
    """Of one picture: 2 for each multiply-add."""
    input_px: int
    licence: str

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
    )
}


def describe(name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``; the weights are always there."""
    if location:
        raise UsageError(
            f"embedded models bring their own weights; got embedded/{model}@{location}. Write timm/{model}@{location}."
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


# They are timm's architectures.
build, tracing, examples, input_shape = timm.build, timm.tracing, timm.examples, timm.input_shape
channels_last, pooled, library_layers = timm.channels_last, timm.pooled, timm.library_layers
