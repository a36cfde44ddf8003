"""The load receipt: every tensor of a file of weights and of the model that it was loaded into, accounted for.

A model that was loaded by halves computes features all the same, and nothing says that they are noise. The receipt is
made from the header of the file and the shapes of the architecture; the weights themselves need not be read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thawline.backbones.derived import is_derived
from thawline.backbones.inventory import Inventory, Spec, name_of_kind
from thawline.backbones.matching import COUNTER, HEADS, STATE
from thawline.backbones.weights import read_header
from thawline.showing import printable

if TYPE_CHECKING:
    from pathlib import Path

    from thawline.backbones.weights import TensorFile

Fate = Literal["loaded", "adapted", "random", "initial", "unused"]
FATES: tuple[Fate, ...] = ("loaded", "adapted", "random", "initial", "unused")
SOURCES, ADAPTED, RANDOM, UNUSED, SOURCE = "sources", "adapted", "random", "unused", "source"
"""Keys of the metadata of a file that was made from another: name -> name or names in the other file; name -> how its
numbers were changed; name -> why it is random; name in the other file -> why it was left out, or that and its shape;
name of the other file."""

CLASSIFIER, NOT_IN_MODEL, OTHER_SHAPE = "classifier", "not in the model", "another shape"
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLoad:
    """What became of one tensor."""

    fate: Fate
    """``loaded`` as it is stored; ``adapted``; ``random``: in the model and not filled from the file; ``initial``: a
    counter that begins at 0 and decides no feature; ``unused``: in the file and not in the model."""
    name: str = ""
    """In the model; empty if unused."""
    shape: tuple[int, ...] | None = None
    """In the model; if unused, in the file. None if nobody says."""
    sources: tuple[str, ...] = ()
    """In the file; empty if random or initial."""
    how: str = ""
    """How it was adapted, or why it is random or unused; details stand behind a colon."""

    @property
    def n(self) -> int:
        """Numbers in it; 0 if its shape is unknown."""
        return 0 if self.shape is None else math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return what the receipt's file says of the tensor; a name that is the same in the file is not repeated."""
        said: dict[str, Any] = {"fate": self.fate}
        if self.name:
            said["name"] = self.name
        if self.shape is not None:
            said["shape"] = list(self.shape)
        if self.sources and self.sources != (self.name,):
            said["in_file"] = list(self.sources)
        return said | ({"how": self.how} if self.how else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReceipt:
    """Every tensor of the model by name, then every unused tensor of the file."""

    model: str
    """The model as it was asked for, without the folders of its weights."""
    architecture: str
    file: str
    """Name of the file of weights; empty if none was read."""
    tensors: tuple[TensorLoad, ...]

    def of(self, fate: Fate) -> tuple[TensorLoad, ...]:
        """Return the tensors that met one fate."""
        return tuple(tensor for tensor in self.tensors if tensor.fate == fate)

    def counts(self) -> dict[str, int]:
        """Return fate -> number of tensors."""
        found = Counter(tensor.fate for tensor in self.tensors)
        return {fate: found[fate] for fate in FATES}

    def numbers(self) -> dict[str, int]:
        """Return fate -> how many numbers the tensors hold together."""
        return {fate: sum(tensor.n for tensor in self.of(fate)) for fate in FATES}

    @property
    def summary(self) -> str:
        """One line for people; counters of batches are not counted there."""
        counts = self.counts()
        n_model = counts["loaded"] + counts["adapted"] + counts["random"]
        if not self.file:
            return f"none loaded; all {n_model:,} tensors begin random."
        adapted, random = (_grouped(self.of(fate), fate) for fate in ("adapted", "random"))
        unused = _grouped(self.of("unused"), "of the file unused")
        return f"{counts['loaded']:,} of {n_model:,} tensors loaded as stored, {adapted}, {random}; {unused}."

    def groups(self) -> list[tuple[Fate, str, tuple[TensorLoad, ...]]]:
        """Return (fate, how without its details, tensors) of all that have the two in common, fate by fate."""
        found: dict[tuple[Fate, str], list[TensorLoad]] = {}
        for fate in FATES:
            for tensor in self.of(fate):
                found.setdefault((fate, tensor.how.partition(":")[0]), []).append(tensor)
        return [(fate, how, tuple(tensors)) for (fate, how), tensors in found.items()]

    def described(self) -> dict[str, Any]:
        """Return what ``fit --json`` says of it."""
        return {**self.counts(), "summary": self.summary}

    def to_json(self) -> dict[str, Any]:
        """Return what ``load_receipt.json`` holds."""
        return {
            "model": self.model,
            "architecture": self.architecture,
            "file": self.file,
            "summary": self.summary,
            "tensors": self.counts(),
            "numbers": self.numbers(),
            "each": [tensor.to_json() for tensor in self.tensors],
        }


def receipt_from_json(content: Mapping[str, Any]) -> LoadReceipt:
    """Read what ``LoadReceipt.to_json`` wrote."""
    tensors = []
    for row in content["each"]:
        name, fate = row.get("name", ""), row["fate"]
        sources = row.get("in_file", [name] if fate in ("loaded", "adapted") else [])
        how, shape = row.get("how", ""), _shape(row.get("shape"))
        tensors.append(TensorLoad(fate=fate, name=name, shape=shape, sources=tuple(sources), how=how))
    said = {key: content[key] for key in ("model", "architecture", "file")}
    return LoadReceipt(**said, tensors=tuple(tensors))


def _grouped(tensors: Sequence[TensorLoad], fate: str) -> str:
    """``3 adapted (2 cast float16 -> float32, 1 interpolated)``; one tensor alone is named."""
    reasons = Counter(tensor.how.partition(":")[0] for tensor in tensors if tensor.how)
    if not reasons:
        return f"{len(tensors):,} {fate}"
    if len(tensors) == 1:
        name = tensors[0].name or tensors[0].sources[0]
        return f"1 {fate} ({printable(name)}: {tensors[0].how})"
    if len(reasons) == 1:
        return f"{len(tensors):,} {fate} ({next(iter(reasons))})"
    parts = [f"{n:,} {how}" for how, n in reasons.most_common(_SHOWN)]
    more = "" if len(reasons) <= _SHOWN else ", and others"
    return f"{len(tensors):,} {fate} ({', '.join(parts)}{more})"


def receipt_of_random(model: str, architecture: str, inventory: Inventory) -> LoadReceipt:
    """Return the receipt of a model that was loaded from no file."""
    rows = tuple(
        TensorLoad(fate="initial" if name.endswith(COUNTER) else "random", name=name, shape=spec.shape)
        for name, spec in sorted(inventory.items())
    )
    return LoadReceipt(model=model, architecture=architecture, file="", tensors=rows)


def receipt_of_file(model: str, architecture: str, file: TensorFile, inventory: Inventory) -> LoadReceipt:
    """Return the receipt of a model that was loaded from a file; of that, only the header is read.

    Args:
        file: Says which of its tensors are the model's, and under which names.
        inventory: The tensors of the architecture.
    Raises:
        WeightsError: The file cannot be read.
    """
    header, _ = read_header(file.path)
    metadata = header.pop("__metadata__", None) or {}
    made = Made.of(file.path, metadata)
    sources = file.sources()
    rows, filled = [], set()
    for name, spec in sorted(inventory.items()):
        entry = header[sources[name]] if name in sources else None
        if entry is not None and tuple(entry["shape"]) == spec.shape:
            rows.append(_filled(name, spec, entry["dtype"], sources[name], made))
            filled.add(sources[name])
        elif name.endswith(COUNTER):
            rows.append(TensorLoad(fate="initial", name=name, shape=spec.shape))
        else:
            rows.append(TensorLoad(fate="random", name=name, shape=spec.shape, how="not in the file"))
    for name, entry in header.items():
        if name not in filled:
            for source in made.sources.get(name, (name,)):
                rows.append(_unused(source, tuple(entry["shape"]), why_unused(name, file)))
    rows += [_unused(name, shape, why) for name, (why, shape) in made.unused.items()]
    drawn = bool(made.random) and not any(row.sources for row in rows)
    said = "" if drawn else made.source or file.shown.name
    return LoadReceipt(model=model, architecture=architecture, file=said, tensors=tuple(rows))


def _filled(name: str, spec: Spec, kind: str, in_file: str, made: Made) -> TensorLoad:
    """Account for a tensor of the model that the file holds."""
    if in_file in made.random:
        if name.endswith(COUNTER):
            return TensorLoad(fate="initial", name=name, shape=spec.shape)
        return TensorLoad(fate="random", name=name, shape=spec.shape, how=made.random[in_file])
    changes = [made.adapted[in_file]] if in_file in made.adapted else []
    if kind != spec.kind:
        changes.insert(0, f"cast {name_of_kind(kind)} -> {name_of_kind(spec.kind)}")
    return TensorLoad(
        fate="adapted" if changes else "loaded",
        name=name,
        shape=spec.shape,
        sources=made.sources.get(in_file, (in_file,)),
        how=", ".join(changes),
    )


def _unused(name: str, shape: tuple[int, ...] | None, why: str) -> TensorLoad:
    return TensorLoad(fate="unused", shape=shape, sources=(name,), how=why)


def why_unused(name: str, file: TensorFile) -> str:
    """Say why a tensor of the file is not the model's.

    Args:
        name: As it stands in the file.
    """
    if not name.startswith(file.prefix):
        return why_left_out(name) or f"not below {file.prefix!r}"
    short = name.removeprefix(file.prefix)
    if short.startswith(file.excluded):
        return CLASSIFIER
    if short.endswith(file.computed):
        return "the architecture computes it"
    return why_left_out(short) or NOT_IN_MODEL


def why_left_out(name: str) -> str:
    """Say what a tensor beside a model is, by the first part of its name; an empty string if that says nothing."""
    first = re.split(r"[./]", name, maxsplit=1)[0]
    if first in STATE or "optimizer" in first:
        return "state of a training"
    return "head of another task" if first in HEADS else ""


@dataclass(frozen=True, slots=True)
class Made:
    """What the metadata of a file say, if it was made from another one: of a stranger's file, nothing is believed."""

    source: str
    sources: Mapping[str, tuple[str, ...]]
    adapted: Mapping[str, str]
    random: Mapping[str, str]
    unused: Mapping[str, tuple[str, tuple[int, ...] | None]]
    """Name -> why, and its shape if that is known."""

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, str]) -> Made:
        """Read the metadata of a file."""
        try:
            return cls._read(metadata if is_derived(path) else {})
        except (ValueError, TypeError, AttributeError, LookupError):  # somebody else's file where one of ours would lie
            return cls._read({})

    @classmethod
    def _read(cls, metadata: Mapping[str, str]) -> Made:
        said = {key: json.loads(metadata.get(key, "{}")) for key in (SOURCES, ADAPTED, RANDOM, UNUSED)}
        adapted, random = ({name: str(how) for name, how in said[key].items()} for key in (ADAPTED, RANDOM))
        sources = {name: (of,) if isinstance(of, str) else tuple(map(str, of)) for name, of in said[SOURCES].items()}
        listed = said[UNUSED]
        if not isinstance(listed, dict):
            listed = {name: why_left_out(name) or NOT_IN_MODEL for name in listed}
        unused = {
            name: (why, None) if isinstance(why, str) else (str(why[0]), _shape(why[1])) for name, why in listed.items()
        }
        return cls(metadata.get(SOURCE, ""), sources, adapted, random, unused)


def _shape(listed: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if listed is None else tuple(map(int, listed))
