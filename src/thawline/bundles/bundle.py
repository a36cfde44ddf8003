"""Save, load and predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thawline.backbones import Backbone
from thawline.backbones.weights import TensorFile
from thawline.bundles.predictions import Predictions
from thawline.bundles.tensors import BACKBONE, read_head, write_model
from thawline.errors import RunError
from thawline.records import Precision, Preparation
from thawline.scale.disk import file_sha256, written_whole
from thawline.version import __version__

if TYPE_CHECKING:
    from thawline.heads import Head
    from thawline.records import Dataset

FORMAT: Literal[1] = 1
"""Raised when an older Thawline could no longer read what is written."""
MODEL_FILE, SPEC_FILE = "model.safetensors", "bundle.json"


class BundleSpec(BaseModel):
    """``bundle.json``: everything about a bundle but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: Literal[1] = FORMAT
    thawline: str
    model: str
    architecture: str
    model_args: dict[str, Any]
    weights_sha256: str
    """Digest of the backbone, as the feature store knows it."""
    preparation: Preparation = Field(alias="preprocessing")
    layer: str
    engine: str
    precision: Precision
    head: Literal["linear", "mlp", "logistic", "ridge", "svm", "knn"]
    head_settings: dict[str, Any]
    classes: tuple[str, ...]
    tensors_sha256: str
    """Digest of ``model.safetensors``."""


class Bundle:
    """A model that predicts: backbone, head, classes, and how its input must be prepared."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Head,
        classes: Sequence[str],
        layer: str,
        precision: Precision,
        engine: str = "auto",
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.classes = tuple(classes)
        self.layer = layer
        self.precision = precision
        self.engine = engine
        self.device = device

    def predict(
        self,
        files: str | Path | Sequence[str | Path] | Dataset,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Predictions:
        """Predict the class of each picture.

        Args:
            files: A path, paths, a table of paths, or a data set; files that cannot be read land in ``failed``.
            progress: Called with (done, total).
        Returns:
            Labels and probabilities (N, C), in the order given.
        """
        import numpy as np

        from thawline.data import open_files
        from thawline.features import extract_features
        from thawline.records import Dataset

        dataset = files if isinstance(files, Dataset) else open_files(files)
        if not len(dataset):
            nothing = np.empty((0, len(self.classes)))
            return Predictions(files=(), classes=self.classes, probabilities=nothing, failed=dataset.skipped)
        features = extract_features(
            dataset,
            self.backbone,
            rung=self.layer,
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            store=None,
            progress=progress,
        )
        return Predictions(
            files=dataset.files,
            classes=self.classes,
            probabilities=self.head.predict_proba(features.values),
            failed=dataset.skipped,
        )


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write ``model.safetensors`` and ``bundle.json`` into an existing folder."""
    write_model(folder / MODEL_FILE, bundle.backbone.tensors, bundle.head.tensors())
    spec = BundleSpec(
        thawline=__version__,
        model=bundle.backbone.name,
        architecture=bundle.backbone.architecture,
        model_args=bundle.backbone.model_args,
        weights_sha256=bundle.backbone.weights_sha256,
        preprocessing=bundle.backbone.preparation,
        layer=bundle.layer,
        engine=bundle.engine,
        precision=bundle.precision,
        head=cast("Any", bundle.head.kind),
        head_settings=bundle.head.settings(),
        classes=bundle.classes,
        tensors_sha256=file_sha256(folder / MODEL_FILE),
    )
    with written_whole(folder / SPEC_FILE) as file:
        file.write(spec.model_dump_json(indent=2, by_alias=True) + "\n")


def load_bundle(folder: str | Path, *, device: str = "auto") -> Bundle:
    """Load what ``save_bundle`` wrote; the backbone is built when first needed.

    Raises:
        RunError: Incomplete, altered, unreadable, or from a newer version.
    """
    from thawline.heads import head_from_tensors

    folder = Path(folder)
    spec = _read_spec(folder)
    digest = file_sha256(folder / MODEL_FILE)
    if digest != spec.tensors_sha256:
        raise RunError(
            f"{folder / MODEL_FILE} must have the SHA-256 that {SPEC_FILE} promises, {spec.tensors_sha256}; "
            f"got {digest}. The file was damaged or replaced: copy the run folder again."
        )
    backbone = Backbone(
        name=spec.model,
        architecture=spec.architecture,
        model_args=spec.model_args,
        preparation=spec.preparation,
        tensors=TensorFile(folder / MODEL_FILE, prefix=BACKBONE),
    )
    return Bundle(
        backbone=backbone,
        head=head_from_tensors(spec.head, read_head(folder / MODEL_FILE), spec.head_settings),
        classes=spec.classes,
        layer=spec.layer,
        precision=spec.precision,
        engine=spec.engine,
        device=device,
    )


def _read_spec(folder: Path) -> BundleSpec:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} is {what}.")
    if missing := [name for name in (SPEC_FILE, MODEL_FILE) if not (folder / name).is_file()]:
        raise RunError(
            f"a run folder must hold {SPEC_FILE} and {MODEL_FILE}; {folder} lacks {' and '.join(missing)}. "
            "It is incomplete, or no run folder: make one with `thawline fit`."
        )
    text = (folder / SPEC_FILE).read_text(encoding="utf-8", errors="replace")
    try:
        return BundleSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][:1] == ("format",) or any(e["loc"][:1] == ("format",) for e in error.errors()):
            raise RunError(
                f"{folder / SPEC_FILE} must have format {FORMAT}, which this version of Thawline reads; "
                "it was written by a newer version or altered. Upgrade with `pip install -U thawline`."
            ) from error
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RunError(
            f"{folder / SPEC_FILE} must be readable; {where}: {first['msg']}. Copy the run folder again."
        ) from error
