"""Save a bundle into a run folder, and load it again."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from thawline.backbones.names import layers_in
from thawline.bundles.answers import Answers
from thawline.bundles.bundle import Bundle
from thawline.bundles.spec import GRAPHS_FOLDER, MODEL_FILE, SPEC_FILE, TOKENIZER_FILE, BundleSpec, read_spec
from thawline.bundles.tensors import BACKBONE, read_head, write_model
from thawline.engines.graphs import DESCRIPTION, UNREADABLE, copy_graphs, read_graphs
from thawline.errors import RunError
from thawline.inputs.text.tokens import content_of
from thawline.naming import written
from thawline.records import TextPreparation
from thawline.scale.disk import file_sha256, storage_errors, written_whole
from thawline.store.keys import preparation_sha256

if TYPE_CHECKING:
    from thawline.engines.graphs import StoredGraphs


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write ``model.safetensors``, ``graphs/`` if the bundle carries graphs, and ``bundle.json`` into a folder.

    The folder may be the one that the bundle was loaded from.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    write_model(folder / MODEL_FILE, bundle.backbone.tensors, bundle.head.tensors())
    with storage_errors(folder / GRAPHS_FOLDER):
        _write_graphs(bundle.graphs, folder / GRAPHS_FOLDER)
    if isinstance(bundle.backbone.preparation, TextPreparation):
        _write_tokenizer(bundle.backbone.preparation, folder / TOKENIZER_FILE)
    spec = BundleSpec(
        input_kind=bundle.backbone.preparation.kind,
        provider=bundle.backbone.provider,
        model=written(bundle.backbone.name),
        architecture=bundle.backbone.architecture,
        model_args=bundle.backbone.model_args,
        weights_sha256=bundle.backbone.weights_sha256,
        preparation=bundle.backbone.preparation,
        layer=bundle.layer,
        engine=bundle.engine,
        precision=bundle.precision,
        head=cast("Any", bundle.head.kind),
        head_settings=bundle.head.settings(),
        classes=bundle.classes,
        target=bundle.answers.target,
        thresholds=bundle.answers.thresholds,
        half_widths=bundle.answers.half_widths,
        tensors_sha256=file_sha256(folder / MODEL_FILE),
        graphs_sha256=None if bundle.graphs is None else file_sha256(folder / GRAPHS_FOLDER / DESCRIPTION),
    )
    only_others = {"target", "thresholds", "half_widths"} if spec.target == "class" else None
    with written_whole(folder / SPEC_FILE) as file:
        file.write(spec.model_dump_json(indent=2, exclude=only_others) + "\n")


def _write_tokenizer(preparation: TextPreparation, place: Path) -> None:
    """Put the tokenizer beside the model: a bundle needs nothing else to make tokens of a text.

    Raises:
        WeightsError: It is no longer where it lay, or has changed.
        StorageError: The disk is full, or the folder cannot be written.
    """
    tokenizer = content_of(preparation)
    if place.exists() and place.read_bytes() == tokenizer:
        return
    with written_whole(place, "wb") as file:
        file.write(tokenizer)


def _write_graphs(graphs: StoredGraphs | None, place: Path) -> None:
    """Put graphs into their place, whole; what stands there goes."""
    if graphs is not None and graphs.folder.resolve() == place.resolve():
        return
    draft = Path(tempfile.mkdtemp(prefix=".graphs-", dir=place.parent))
    try:
        if graphs is not None:
            copy_graphs(graphs, draft)
        if place.exists():
            shutil.rmtree(place)
        if graphs is not None:
            draft.chmod(0o755)  # a temporary folder is its owner's alone
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_bundle(folder: str | Path, *, device: str = "auto") -> Bundle:
    """Load what ``save_bundle`` wrote, and check the SHA-256 of every file. Builds nothing and loads no torch.

    Args:
        device: What runs it: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
    Raises:
        RunError: Incomplete, altered, unreadable, or from a newer version.
    """
    from thawline.backbones import Backbone
    from thawline.backbones.weights import TensorFile
    from thawline.heads import head_from_tensors

    folder = Path(folder)
    spec = read_spec(folder)
    _check(folder / MODEL_FILE, spec.tensors_sha256)
    preparation = spec.preparation
    if isinstance(preparation, TextPreparation):
        _check(folder / TOKENIZER_FILE, preparation.tokenizer_sha256)
        preparation = replace(preparation, tokenizer_file=folder / TOKENIZER_FILE)
    backbone = Backbone(
        name=spec.model,
        architecture=spec.architecture,
        model_args=spec.model_args,
        preparation=preparation,
        tensors=TensorFile(folder / MODEL_FILE, prefix=BACKBONE),
        provider=spec.provider,
    )
    head = head_from_tensors(spec.head, read_head(folder / MODEL_FILE), spec.head_settings)
    if head.classes_n != len(spec.classes):
        raise RunError(
            f"{folder / SPEC_FILE} must name the {head.classes_n} classes that {MODEL_FILE} tells apart; it names "
            f"{len(spec.classes)}. Copy the run folder again."
        )
    answers = Answers(spec.target, spec.thresholds, spec.half_widths)
    numbers = answers.thresholds or answers.half_widths
    if head.target != spec.target or (numbers and len(numbers) != len(spec.classes)):
        raise RunError(
            f"{folder / SPEC_FILE} must say of each output what {MODEL_FILE} was fitted to; it does not. "
            "Copy the run folder again."
        )
    return Bundle(
        backbone=backbone,
        head=head,
        classes=spec.classes,
        layer=spec.layer,
        precision=spec.precision,
        engine=spec.engine,
        device=device,
        graphs=None if spec.graphs_sha256 is None else _graphs(folder, spec, spec.graphs_sha256),
        answers=answers,
    )


def _graphs(folder: Path, spec: BundleSpec, sha256: str) -> StoredGraphs:
    """Read the graphs of a bundle, and see that they are of this model, prepared this way."""
    place = folder / GRAPHS_FOLDER
    if not (place / DESCRIPTION).is_file():
        raise RunError(
            f"{folder / SPEC_FILE} promises graphs in {place}; {DESCRIPTION} is missing there. "
            "Copy the run folder again, with its subfolders."
        )
    _check(place / DESCRIPTION, sha256)
    try:
        graphs = read_graphs(place)
    except UNREADABLE as error:
        raise RunError(
            f"graphs of a bundle must be as the fit wrote them; {error}. Copy the run folder again."
        ) from error
    key = graphs.key
    if (key.weights_sha256, key.preparation_sha256, key.rungs, key.precision) != (
        spec.weights_sha256,
        preparation_sha256(spec.preparation.in_graphs),
        layers_in(spec.layer),
        spec.precision,
    ):
        raise RunError(
            f"{place} must hold the graphs of the model that {SPEC_FILE} describes; they are of other weights, "
            "another preparation, layer or precision. Copy the run folder again."
        )
    return graphs


def _check(path: Path, sha256: str) -> None:
    digest = file_sha256(path)
    if digest != sha256:
        raise RunError(
            f"{path} must have the SHA-256 that {SPEC_FILE} promises, {sha256}; got {digest}. "
            "The file was damaged or replaced: copy the run folder again."
        )
