"""Read the tensors and the configuration of a Keras file. Only numbers are read; nothing in the file is run."""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from thawline.errors import ModelError, WeightsError

_MOST_OBJECTS, _DEEPEST = 200_000, 64
_MOST_CONFIG_BYTES = 64 * 2**20
_MOST_EXPANSION = 1000
"""Largest size of what is compressed, in multiples of what is stored: deflate reaches no more on numbers."""
_FILTERS = {1, 2, 3, 32000}
"""Deflate, shuffle, Fletcher's checksum, LZF: those that the HDF5 library brings itself."""
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_STATE = ("optimizer", "optimizer_weights", "seed_generator", "compile_metrics", "_loss_tracker", "metrics")
"""Groups of what is no layer's."""


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """One variable of a layer in a file."""

    layer: str
    """Name of the layer in Keras; empty if the file does not say it."""
    variable: str
    """``kernel``, ``gamma``; a number in a file of Keras 3."""
    path: str
    """Of its data set in the file."""
    shape: tuple[int, ...]
    dataset: Any = field(repr=False)

    def read(self) -> NDArray[Any]:
        """Return the numbers, as they lie in the file."""
        try:
            return np.asarray(self.dataset[()])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"weights must be readable; {self.path} is not: {_first_line(error)}.") from error


@dataclass(frozen=True, slots=True, eq=False)
class KerasFile:
    """What a file of Keras holds."""

    path: Path
    config: dict[str, Any] | None
    """Of the model; None in a file of weights alone."""
    keras_2: bool
    places: dict[str, tuple[Variable, ...]]
    """Group -> its variables, in a file of Keras 3; of one layer each."""
    groups: dict[str, tuple[Variable, ...]]
    """Group -> its variables, in a legacy file, in Keras's order of layers; of one layer or of a model each."""
    others: tuple[str, ...]
    """Data sets that are no layer's: of an optimiser, say."""

    def variables(self) -> Iterator[Variable]:
        for held in (*self.places.values(), *self.groups.values()):
            yield from held


@contextlib.contextmanager
def opened(path: Path) -> Iterator[KerasFile]:
    """Open a ``.keras``, ``.weights.h5`` or ``.h5`` file, by its content and not by its name.

    Raises:
        WeightsError: Not such a file, damaged, or made to exhaust memory or to read another file.
    """
    with contextlib.ExitStack() as stack:
        try:
            found = _opened(path, stack)
        except ModelError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
                NotImplementedError, EOFError, MemoryError, zipfile.BadZipFile, OverflowError) as error:  # fmt: skip
            raise _damaged(path, error) from error
        yield found


def _opened(path: Path, stack: contextlib.ExitStack) -> KerasFile:
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(b"PK"):
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = archive.namelist()
        if _WEIGHTS not in names:
            raise WeightsError(f"a Keras archive must hold {_WEIGHTS}; {path} does not. Save the model with Keras 3.")
        config = _object(_member(archive, _CONFIG, path, _MOST_CONFIG_BYTES), path) if _CONFIG in names else None
        content = io.BytesIO(_member(archive, _WEIGHTS, path, None))
        h5 = stack.enter_context(h5py.File(content, "r"))
        return _read(path, h5, config)
    if begin != b"\x89HDF\r\n\x1a\n":
        raise WeightsError(
            f"weights of Keras must be a .weights.h5, .h5 or .keras file; {path} is neither HDF5 nor a Keras archive. "
            "Fetch the file again, or save the model from Keras."
        )
    return _read(path, stack.enter_context(h5py.File(path, "r")), None)


def _member(archive: zipfile.ZipFile, name: str, path: Path, most: int | None) -> bytes:
    """Return a member of an archive whose size is what its stored bytes allow."""
    info = archive.getinfo(name)
    allowed = max(info.compress_size, 1) * _MOST_EXPANSION
    allowed = allowed if most is None else min(allowed, most)
    if info.file_size > allowed:
        raise WeightsError(
            f"a Keras archive must not expand beyond reason; {name} in {path} claims {info.file_size:,} B."
        )
    with archive.open(name) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise WeightsError(f"a Keras archive must be complete; {name} in {path} is not. Fetch the file again.")
    return content


def _object(content: bytes, path: Path) -> dict[str, Any]:
    said = json.loads(content)
    if not isinstance(said, dict):
        raise WeightsError(f"the configuration of a Keras model must be a JSON object; that of {path} is not.")
    return said


def _read(path: Path, h5: h5py.File, config: dict[str, Any] | None) -> KerasFile:
    datasets = dict(_datasets(h5, path))
    root = h5["model_weights"] if "model_weights" in h5 and _is_plain(h5, "model_weights") else h5
    keras_2 = not _text(root, "keras_version", path).startswith("3") and config is None
    if _names(root, "layer_names", path):
        if config is None and (said := _text(h5, "model_config", path)):
            config = _object(said.encode(), path)
        groups = dict(_legacy(root, datasets, path))
        used = {variable.path for held in groups.values() for variable in held}
        return KerasFile(path, config, keras_2, {}, groups, tuple(name for name in datasets if name not in used))
    places: dict[str, list[Variable]] = {}
    others = []
    for name, dataset in datasets.items():
        parts = name.replace("\\", "/").replace("_layer_checkpoint_dependencies", "layers").split("/")
        if len(parts) < 3 or parts[-2] != "vars" or not set(_STATE).isdisjoint(parts) or "layers" not in parts:
            others.append(name)
            continue
        layer = _text(dataset.parent, "name", path)
        variable = Variable(layer, parts[-1], name, tuple(dataset.shape), dataset)
        places.setdefault("/".join(parts[:-2]), []).append(variable)
    if not places:
        raise WeightsError(f"weights of Keras must hold the variables of layers; {path} holds none.")
    sorted_places = {place: tuple(sorted(held, key=lambda v: int(v.variable))) for place, held in places.items()}
    return KerasFile(path, config, False, sorted_places, {}, tuple(others))


def _legacy(
    root: h5py.Group, datasets: dict[str, h5py.Dataset], path: Path
) -> Iterator[tuple[str, tuple[Variable, ...]]]:
    before = root.name.strip("/")
    for group in _names(root, "layer_names", path):
        if group not in root or not isinstance(root[group], h5py.Group):
            raise WeightsError(f"weights of Keras must be complete; layer {group!r} is missing ({path}).")
        held = []
        for name in _names(root[group], "weight_names", path):
            full = "/".join(part for part in (before, group, name) if part)
            dataset = datasets.get(full)
            if dataset is None:
                raise WeightsError(f"weights of Keras must be complete; {full!r} is missing ({path}).")
            *outer, variable = name.partition(":")[0].split("/")
            layer = outer[-1] if outer else group
            held.append(Variable(layer, variable, full, tuple(dataset.shape), dataset))
        if held:
            yield group, tuple(held)


def _datasets(h5: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield (path, data set) for each that lies in the file itself, checked for its size; no link is followed."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", h5, 0)]
    seen: set[int] = set()
    n = 0
    while waiting:
        before, group, depth = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if depth > _DEEPEST or address in seen:
            raise WeightsError(f"groups of a Keras file must not hold each other; {before!r} does ({path}).")
        seen.add(address)
        for name in group:
            n += 1
            if n > _MOST_OBJECTS:
                raise WeightsError(f"a Keras file must hold at most {_MOST_OBJECTS:,} tensors and groups ({path}).")
            full = f"{before}/{name}" if before else name
            if not _is_plain(group, name):
                raise WeightsError(
                    f"a Keras file must hold its own data; {full!r} is a link to another place ({path})."
                )
            held = group[name]
            if isinstance(held, h5py.Group):
                waiting.append((full, held, depth + 1))
            elif isinstance(held, h5py.Dataset):
                _check(full, held, path)
                yield full, held


def _is_plain(group: h5py.Group, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _check(name: str, dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a data set that lies elsewhere, is no numbers, or claims more than is stored."""
    if dataset.is_virtual or dataset.external:
        raise WeightsError(f"a Keras file must hold its own data; {name!r} lies in another file ({path}).")
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        if dataset.dtype.kind in "SOV" and not name.endswith("/vars"):
            return  # texts of a vocabulary, say: never read
        raise WeightsError(f"weights of Keras must be numbers; {name!r} holds {dataset.dtype} ({path}).")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if filters - _FILTERS:
        raise WeightsError(f"weights of Keras must be stored plainly or by deflate; {name!r} is not ({path}).")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * (_MOST_EXPANSION if filters else 1):
        raise WeightsError(
            f"weights of Keras must be stored whole; {name!r} claims {dataset.nbytes:,} bytes of {stored:,} ({path})."
        )


def _text(group: h5py.Group | h5py.File, name: str, path: Path) -> str:
    """Return a text that a group carries; empty if it has none."""
    if name not in group.attrs:
        return ""
    if _attribute_bytes(group, name) > _MOST_CONFIG_BYTES:
        raise WeightsError(f"{name} of a Keras file must be small; that of {path} is not.")
    value = group.attrs[name]
    text = value.decode("utf-8") if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > _MOST_CONFIG_BYTES:
        raise WeightsError(f"{name} of a Keras file must be a text; that of {path} is not.")
    return text


def _names(group: h5py.Group, name: str, path: Path) -> list[str]:
    """Return a list of names that a group carries; Keras splits long ones over several attributes."""
    keys = (
        [name]
        if name in group.attrs
        else [f"{name}{i}" for i in range(len(group.attrs)) if f"{name}{i}" in group.attrs]
    )
    names: list[str] = []
    for key in keys:
        if _attribute_bytes(group, key) > _MOST_CONFIG_BYTES:
            raise WeightsError(f"{name} of a Keras file must be few; those of {path} are not.")
        value = group.attrs[key]
        names += [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in np.atleast_1d(value)]
    return names


def _attribute_bytes(group: h5py.Group, name: str) -> int:
    held = group.attrs.get_id(name)
    return math.prod(held.shape or ()) * int(held.dtype.itemsize)


def _damaged(path: Path, error: BaseException) -> WeightsError:
    return WeightsError(
        f"weights of Keras must be a sound file; {path} cannot be read: {_first_line(error)}. Fetch the file again."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
