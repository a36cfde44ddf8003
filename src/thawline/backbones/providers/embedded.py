"""The backbones that ship inside the package: offline, small, checked by digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parent.parent / "embedded_weights"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One shipped file and the digest it must have."""

    name: str
    file: str
    sha256: str
    parameters: int
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
            input_px=128,
            licence="weights Apache-2.0; trained on ImageNet pictures, which are for research",
        ),
    )
}
DEFAULT_MODEL = f"embedded/{next(iter(EMBEDDED))}"
