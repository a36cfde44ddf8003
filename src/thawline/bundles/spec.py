"""``bundle.json``: what it says, and how the formats of earlier versions are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer, field_validator, model_validator

from thawline.backbones.providers import FAMILIES
from thawline.errors import RunError
from thawline.inputs import KINDS
from thawline.records import Precision, Preparation, Target
from thawline.scale.disk import is_folder, is_there
from thawline.version import __version__

SPEC_FILE, MODEL_FILE, GRAPHS_FOLDER = "bundle.json", "model.safetensors", "graphs"
TOKENIZER_FILE = "tokenizer.json"
"""Of a model of texts."""
FORMAT: Literal[2] = 2
"""Raised when an older Thawline can no longer read what is written."""


class BundleSpec(BaseModel):
    """Everything about a bundle but its tensors and graphs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = FORMAT
    thawline: str = __version__
    input_kind: str
    """What a sample is: ``image`` or ``text``."""
    provider: str
    """Family of names that the backbone comes from: ``timm``, ``embedded``."""
    model: str
    architecture: str
    model_args: dict[str, Any]
    weights_sha256: str
    """Digest of the backbone, as the feature store knows it."""
    preparation: Preparation
    layer: str
    """``pooled``, a layer, or several with commas."""
    engine: str
    """What runs the backbone if the bundle carries no graphs; ``torch`` if it computed the run's predictions."""
    precision: Precision
    head: Literal["linear", "mlp", "logistic", "ridge", "svm", "knn"]
    head_settings: dict[str, Any]
    classes: tuple[str, ...]
    """Names of the head's outputs: of labels or numbers, if it has such a target."""
    target: Target = "class"
    """What the model predicts. This and the next two stand in the file only if that is not one class."""
    thresholds: tuple[float, ...] = ()
    half_widths: tuple[float, ...] = ()
    """As ``Answers`` has them."""
    tensors_sha256: str
    """SHA-256 of ``model.safetensors``."""
    graphs_sha256: str | None = None
    """SHA-256 of ``graphs/graphs.json``, which holds that of each graph; null if the bundle carries no graphs."""

    @field_serializer("preparation")
    def _as_described(self, preparation: Preparation) -> dict[str, Any]:
        return preparation.described()

    @model_validator(mode="after")
    def _of_one_kind(self) -> BundleSpec:
        if self.preparation.kind != self.input_kind:
            raise ValueError(f"preparation must be for {self.input_kind}; got one for {self.preparation.kind}")
        return self

    @field_validator("input_kind", "provider")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        known = KINDS if info.field_name == "input_kind" else FAMILIES
        if name not in known:
            raise ValueError(f"must be {' or '.join(known)}; got {name!r}")
        return name


def read_spec(folder: Path) -> BundleSpec:
    """Read ``bundle.json`` of a run folder.

    Raises:
        RunError: Incomplete, unreadable, or from a newer version.
    """
    if not is_folder(folder):
        what = "is a file" if is_there(folder) else "does not exist"
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} {what}.")
    if missing := [name for name in (SPEC_FILE, MODEL_FILE) if not (folder / name).is_file()]:
        raise RunError(
            f"run folder must hold {SPEC_FILE} and {MODEL_FILE}; {folder} lacks {' and '.join(missing)}. "
            "Copy the run folder again, or make one with `thawline fit`."
        )
    path = folder / SPEC_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.get("format")
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path} must be a JSON object; it is not: {error}. Copy the run folder again.") from error
    if written not in (1, FORMAT):
        raise RunError(
            f"{path} must have format 1 or {FORMAT}, which this version of Thawline reads; got {written!r}. "
            "A newer version wrote it: upgrade with `pip install -U thawline`."
        )
    try:
        return BundleSpec.model_validate(_upgraded(content) if written == 1 else content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RunError(f"{path} must be readable; {where}: {first['msg']}. Copy the run folder again.") from error


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Bring format 1 to format 2: pictures only, models of timm only, no graphs."""
    family = str(content.get("model")).partition("/")[0]
    renamed = {("preparation" if name == "preprocessing" else name): value for name, value in content.items()}
    return renamed | {
        "format": FORMAT,
        "input_kind": "image",
        "provider": family if family in FAMILIES else "timm",
    }
