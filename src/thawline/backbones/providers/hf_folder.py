"""A folder of Hugging Face's layout: its configuration, and the tensors of the encoder among those of its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones import adapting
from thawline.backbones.derived import derived, is_derived
from thawline.backbones.header import read_header
from thawline.backbones.load_receipt import ADAPTED, CLASSIFIER, SOURCE, SOURCES, UNUSED, why_left_out, why_unused
from thawline.backbones.weights import TensorFile
from thawline.errors import WeightsError
from thawline.scale.disk import file_sha256, is_folder

if TYPE_CHECKING:
    import torch

    from thawline.backbones.providers.hf_families import Family
    from thawline.backbones.providers.hf_text_families import TextFamily
    from thawline.backbones.weights import WeightsFile

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
TOKENIZER, MODULES = "tokenizer.json", "modules.json"
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spm.model", "sentencepiece.bpe.model")
"""Files that a tokenizer can be made of: lists of tokens, which hold no code."""
_LARGEST = 2**22
"""Bytes of a configuration; real ones, with names of 21,000 classes, take 2 MB."""
_COMPUTED = (".relative_position_index", ".relative_coords_table", ".position_ids", ".inv_freq")
"""Ends of names of buffers that older releases of the library wrote into files."""
_TABLE = ".relative_position_bias_table"
_CLASS_DISTANCES = 3
"""Rows of BEiT's tables for the class token: to it, from it, and to itself."""
CLASSIFIERS = ("classifier.", "cls_classifier.", "distillation_classifier.", "lm_head.", "decoder.")
"""Beginnings of names of what the library's heads have."""
_REVISION = 1
"""Of what is written by ``adapted``."""
_SHOWN = 3
_MOST_PATCHES = 256
"""Along a side: strangers' configurations may ask for any number, and each takes memory."""


def read_json(path: Path, *, most: int = _LARGEST) -> dict[str, Any] | None:
    """Read a configuration; None if it is not there.

    Args:
        most: Bytes that it may have.
    Raises:
        WeightsError: It is no JSON object, or too large.
    """
    found: dict[str, Any] | None = _read(path, most, dict, "object")
    return found


def read_list(path: Path) -> list[Any]:
    """Read a list; empty if it is not there.

    Raises:
        WeightsError: It is no JSON list, or too large.
    """
    return _read(path, _LARGEST, list, "list") or []


def _read(path: Path, most: int, kind: type, called: str) -> Any:
    try:
        if path.stat().st_size > most:
            raise ValueError(f"it holds more than {most:,} bytes")
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path.name} must be a JSON {called}; {path} is not: {error}.") from error
    if not isinstance(said, kind):
        raise WeightsError(f"{path.name} must be a JSON {called}; {path} holds a {type(said).__name__}.")
    return said


def folder_of(location: Path) -> Path:
    """Return the folder of the configurations: the location itself, or that of a file of weights."""
    return location if is_folder(location) else location.parent


@dataclass(frozen=True, slots=True)
class Found:
    """The tensors of an encoder, and what is to be said of them."""

    tensors: TensorFile
    notes: tuple[str, ...]


def encoder_in(weights: WeightsFile, family: Family, settings: Mapping[str, Any], input_px: int) -> Found:
    """Find an encoder's tensors in a file of weights, under the names and for the input size that it has here.

    Args:
        weights: May have been converted from a file of another format, whose name is said then.
        settings: Of the encoder.
        input_px: Position embeddings of another size are interpolated, once, into a file in the cache.
    Raises:
        WeightsError: The file holds no such encoder, or several.
        StorageError: The file in the cache cannot be written.
    """
    tensors, names = _located(weights, family)
    changes = _changes(tensors, family, settings, input_px)
    usual = ("", f"{family.model_type}.", "vision_model.")
    notes = (*_notes(tensors.prefix, names, usual, weights.shown.name), *_told(changes))
    return Found(_adapted(tensors, family, changes) if changes else tensors, notes)


def text_encoder_in(weights: WeightsFile, family: TextFamily, dense: Sequence[WeightsFile]) -> Found:
    """Find a text encoder's tensors in a file of weights, and join those of the layers behind it, which have their own.

    Args:
        weights: As for ``encoder_in``.
        dense: Files of the dense layers, from the first on.
    Raises:
        WeightsError: The file holds no such encoder, or several.
        StorageError: The file in the cache cannot be written.
    """
    tensors, names = _located(weights, family)
    notes = _notes(tensors.prefix, names, ("", *family.prefixes), weights.shown.name)
    return Found(_joined(tensors, family, dense) if dense else tensors, notes)


def _located(weights: WeightsFile, family: Family | TextFamily) -> tuple[TensorFile, list[str]]:
    """(the tensors of the encoder, the names of all in the file)"""
    names, said = list(TensorFile(weights.path).sources()), weights.shown
    anchor = family.anchor
    found = [name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")]
    if not found:
        raise WeightsError(
            f"weights must hold a {family.model_type}, as config.json beside them says; no tensor of {said} is called "
            f"{anchor}. Give the file that belongs to this config.json."
        )
    if len(found) > 1:
        raise WeightsError(
            f"weights must be there once; names begin with {found[0]!r} and with {found[1]!r} ({said}). "
            "Keep one of them in a file of its own."
        )
    tensors = TensorFile(
        weights.path,
        found[0],
        excluded=CLASSIFIERS,
        foreign=family.unused,
        computed=_COMPUTED,
        renamed=family.renamed,
        origin=weights.origin,
    )
    return tensors, names


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one tensor of the file."""

    targets: tuple[str, ...]
    """Names in the encoder."""
    how: str
    make: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    """One tensor for each target."""


def _changes(tensors: TensorFile, family: Family, settings: Mapping[str, Any], input_px: int) -> dict[str, _Change]:
    """Name under which a tensor is found -> what must become of it."""
    changes: dict[str, _Change] = {}
    side = -(-input_px // settings.get("patch_size", _usual_patch(tensors, family)))
    antialias = family.position is not None and family.position.antialias
    for name, shape in tensors.shapes().items():
        wanted = _wanted(name, shape, family, side)
        if how := adapting.how(name, shape, wanted, takes_picture=False):
            make = partial(_interpolated, name=name, wanted=wanted, antialias=antialias)
            changes[name] = _Change((name,), how, make)
        elif ".mlp.weights_in." in name:
            targets = tuple(name.replace("weights_in", part) for part in ("gate_proj", "up_proj"))
            changes[name] = _Change(targets, "one half of a joined tensor", _halves)
        elif ".mlp.weights_out." in name:
            changes[name] = _Change((name.replace("weights_out", "down_proj"),), "", _as_it_is)
    return changes


def _wanted(name: str, shape: tuple[int, ...], family: Family, side: int) -> tuple[int, ...]:
    """Return the shape that a tensor must have for side x side patches; its own if that would be absurd."""
    if side > _MOST_PATCHES:
        return shape
    if family.position is not None and name == family.position.name and len(shape) > 1:
        return (*shape[:-2], family.position.n_prefix + side**2, shape[-1])
    if family.model_type == "beit" and name.endswith(_TABLE) and len(shape) == 2:
        return ((2 * side - 1) ** 2 + _CLASS_DISTANCES, shape[1])
    return shape


def _usual_patch(tensors: TensorFile, family: Family) -> int:
    """Side of the kernel that makes the patches; configurations leave out what is the library's default."""
    shape = tensors.shapes().get(family.anchor, ())
    return shape[-1] if len(shape) == 4 and shape[-1] > 0 else 1


def _as_it_is(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (rows,)


def _halves(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return rows.chunk(2)


def _interpolated(rows: torch.Tensor, name: str, wanted: tuple[int, ...], antialias: bool) -> tuple[torch.Tensor, ...]:
    return (adapting.adapt(name, rows, wanted, antialias=antialias, resize_table=_resized_table),)


def _resized_table(rows: torch.Tensor, window: int, wanted: tuple[int, ...]) -> torch.Tensor:
    """(old * old + 3, heads) -> (new * new + 3, heads), as the library does in each forward pass."""
    import torch

    old, new = math.isqrt(len(rows) - _CLASS_DISTANCES), 2 * window - 1
    grid = rows[:-_CLASS_DISTANCES].reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1, heads, old, old)
    grid = torch.nn.functional.interpolate(grid, (new, new), mode="bilinear")
    flat = grid.permute(0, 2, 3, 1).reshape(new * new, -1)  # (1, heads, new, new) -> (new * new, heads)
    return torch.cat([flat, rows[-_CLASS_DISTANCES:]]).reshape(wanted)


def _adapted(tensors: TensorFile, family: Family, changes: Mapping[str, _Change]) -> TensorFile:
    """Write the tensors under their names in the encoder, changed where they must be, into the cache."""
    how = {target: change.how for change in changes.values() for target in change.targets}
    purpose = json.dumps(["hf", _REVISION, family.model_type, tensors.prefix, sorted(how.items())])

    def write(path: Path) -> None:
        from safetensors.torch import save_file

        made: dict[str, torch.Tensor] = {}
        origin: dict[str, str] = {}
        sources = tensors.sources()
        for name, tensor in tensors.load().items():
            change = changes.get(name)
            parts = (tensor,) if change is None else change.make(tensor)
            for target, part in zip((name,) if change is None else change.targets, parts, strict=True):
                made[target], origin[target] = part.contiguous(), sources[name]
        metadata = {
            SOURCE: tensors.shown.name,
            SOURCES: json.dumps(origin),
            ADAPTED: json.dumps({name: why for name, why in how.items() if why}),
            UNUSED: json.dumps(_unused(tensors)),
        }
        save_file(made, path, metadata)

    return TensorFile(derived(file_sha256(tensors.path), purpose, write), origin=tensors.shown)


def _joined(tensors: TensorFile, family: TextFamily, dense: Sequence[WeightsFile]) -> TensorFile:
    """Write the tensors of an encoder and of the dense layers behind it into one file of the cache."""
    files = {f"dense.{i}.": TensorFile(weights.path, origin=weights.origin) for i, weights in enumerate(dense)}
    digests = [file_sha256(file.path) for file in files.values()]
    purpose = json.dumps(["hf", _REVISION, family.model_type, tensors.prefix, digests])

    def write(path: Path) -> None:
        from safetensors.torch import save_file

        made, origin = dict(tensors.load()), dict(tensors.sources())
        for place, file in files.items():
            for name, tensor in file.load().items():
                made[place + name], origin[place + name] = tensor, f"{file.shown.parent.name}/{name}"
        metadata = {
            SOURCE: tensors.shown.name,
            SOURCES: json.dumps(origin),
            UNUSED: json.dumps(_unused(tensors)),
        }
        save_file({name: tensor.contiguous() for name, tensor in made.items()}, path, metadata)

    return TensorFile(derived(file_sha256(tensors.path), purpose, write), origin=tensors.shown)


def _unused(tensors: TensorFile) -> dict[str, Any]:
    """Say of each tensor of a file, and of the one that it was made from, why it is left out if it is."""
    header, _ = read_header(tensors.path)
    converted = header.pop("__metadata__", None) or {} if is_derived(tensors.path) else {}
    unused = json.loads(converted.get(UNUSED, "{}"))
    unused = unused if isinstance(unused, dict) else {name: why_left_out(name) or CLASSIFIER for name in unused}
    left = header.keys() - set(tensors.sources().values()) - {"__metadata__"}
    return unused | {name: why_unused(name, tensors) for name in sorted(left)}


def _notes(prefix: str, names: list[str], usual: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Say what is unusual about the names in the file."""
    notes = []
    if prefix not in usual:
        notes.append(f"The model's names in {file} begin with {prefix!r}, which was taken off.")
    outside = [name for name in names if not name.startswith(prefix) and not name.startswith(CLASSIFIERS)]
    if outside:
        shown = ", ".join(outside[:_SHOWN]) + (", ..." if len(outside) > _SHOWN else "")
        notes.append(f"{len(outside):,} tensors of {file} that are not the encoder's were left out ({shown}).")
    return tuple(notes)


def _told(changes: Mapping[str, _Change]) -> tuple[str, ...]:
    """Say once what was interpolated, however many tensors it were."""
    said = dict.fromkeys(change.how for change in changes.values() if "interpolated" in change.how)
    return tuple(f"{how[0].upper()}{how[1:]}: the weights are of another input size." for how in said)
