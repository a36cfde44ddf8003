"""Read the variables and the configuration of a Keras file. Runs in a confined process, see ``reading``."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

import h5py
import numpy as np

from thawline.backbones.foreign.answering import Refused
from thawline.backbones.foreign.sentences import shortened

_MOST_OBJECTS, _DEEPEST = 200_000, 64
_MOST_CONFIG_BYTES = 32 * 2**20
_MOST_EXPANSION = 20
"""Largest size of what is compressed, in multiples of what is stored: weights hardly shrink."""
_FILTERS = {1, 2, 3, 32000}
"""Deflate, shuffle, Fletcher's checksum, LZF: those that the HDF5 library brings itself."""
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_STATE = {"optimizer", "optimizer_weights", "seed_generator", "compile_metrics", "_loss_tracker"}
"""Groups of what is no layer's."""
_Variable = tuple[str, str, str, str, Any]
"""(group, name of the layer or nothing, name or number of the variable, path, data set)"""


def read(file: IO[bytes], size: int) -> tuple[dict[str, Any], Iterable[memoryview]]:
    """See ``answering.Read``. The bytes are those of the variables, in their order.

    The header has ``config`` (of the model, or null), ``keras_2``, ``legacy``, ``variables`` (group, layer, variable,
    path, type, shape) and ``others`` (paths of data sets that are no layer's).

    Raises:
        Refused: No Keras file, a damaged one, or one made to exhaust memory or to read another file.
    """
    try:
        return _read(file)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError,
            NotImplementedError, OverflowError, zipfile.BadZipFile) as error:  # fmt: skip
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise Refused(
            f"weights of Keras must be a sound file; {{path}} cannot be read: {shortened(reason)}. "
            "Fetch the file again."
        ) from error


def _read(file: IO[bytes]) -> tuple[dict[str, Any], Iterable[memoryview]]:
    begin = file.read(8)
    file.seek(0)
    config: dict[str, Any] | None = None
    source: Any = file
    if begin.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if _WEIGHTS not in names:
                raise Refused(f"a Keras archive must hold {_WEIGHTS}; {{path}} does not. Save the model with Keras 3.")
            config = _object(_member(archive, _CONFIG, _MOST_CONFIG_BYTES)) if _CONFIG in names else None
            source = io.BytesIO(_member(archive, _WEIGHTS, None))
    elif begin != b"\x89HDF\r\n\x1a\n":
        raise Refused(
            "weights of Keras must be a .weights.h5, .h5 or .keras file; {path} is neither HDF5 nor a Keras archive. "
            "Fetch the file again, or save the model from Keras."
        )
    h5 = h5py.File(source, "r")
    datasets = dict(_datasets(h5))
    root = h5["model_weights"] if "model_weights" in h5 and _is_plain(h5, "model_weights") else h5
    legacy = bool(_names(root, "layer_names"))
    if legacy and config is None and (said := _text(h5, "model_config")):
        config = _object(said.encode())
    variables = list(_legacy(root, datasets) if legacy else _placed(datasets))
    if not variables:
        raise Refused("weights of Keras must hold the variables of layers; {path} holds none. Save the model again.")
    used = {path for _, _, _, path, _ in variables}
    header = {
        "config": config,
        "keras_2": legacy and not _text(root, "keras_version").startswith("3"),
        "legacy": legacy,
        "variables": [
            (group, layer, name, path, held.dtype.str.lstrip("<>|="), list(held.shape))
            for group, layer, name, path, held in variables
        ],
        "others": [path for path in datasets if path not in used],
    }
    return header, (_bytes(held) for *_, held in variables)


def _bytes(held: h5py.Dataset) -> memoryview:
    values = np.asarray(held[()])
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return memoryview(plain.reshape(-1).view(np.uint8).data)


def _member(archive: zipfile.ZipFile, name: str, most: int | None) -> bytes:
    """Return a member of an archive whose size is what its stored bytes allow."""
    info = archive.getinfo(name)
    allowed = max(info.compress_size, 1) * _MOST_EXPANSION
    if info.file_size > (allowed if most is None else min(allowed * _MOST_EXPANSION, most)):
        raise Refused(f"a Keras archive must not expand beyond reason; {name} in {{path}} claims {info.file_size:,} B.")
    with archive.open(name) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise Refused(f"a Keras archive must be complete; {name} in {{path}} is not. Fetch the file again.")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Refused("the configuration of a Keras model must be a JSON object; that of {path} is not.")
    return said


def _placed(datasets: dict[str, h5py.Dataset]) -> Iterator[_Variable]:
    """Variables of layers in a file of Keras 3: ``layers/conv2d_1/vars/0``."""
    held: dict[str, list[_Variable]] = {}
    for path, dataset in datasets.items():
        parts = path.replace("\\", "/").replace("_layer_checkpoint_dependencies", "layers").split("/")
        if len(parts) < 3 or parts[-2] != "vars" or not _STATE.isdisjoint(parts) or parts[0] != "layers":
            continue
        place = "/".join(parts[:-2])
        held.setdefault(place, []).append((place, _text(dataset.parent, "name"), parts[-1], path, dataset))
    for place in held:
        yield from sorted(held[place], key=lambda variable: int(variable[2]))


def _legacy(root: h5py.Group, datasets: dict[str, h5py.Dataset]) -> Iterator[_Variable]:
    """Variables of layers in a legacy file, in Keras's order."""
    before = str(root.name).strip("/")
    for group in _names(root, "layer_names"):
        if group not in root or not _is_plain(root, group) or not isinstance(root[group], h5py.Group):
            raise Refused(f"weights of Keras must be complete; layer {shortened(group)!r} is missing in {{path}}.")
        for name in _names(root[group], "weight_names"):
            path = "/".join(part for part in (before, group, name) if part)
            if path not in datasets:
                raise Refused(f"weights of Keras must be complete; {shortened(path)!r} is missing in {{path}}.")
            *outer, variable = name.partition(":")[0].split("/")
            yield group, outer[-1] if outer else group, variable, path, datasets[path]


def _datasets(h5: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield (path, data set) for each that lies in the file itself and holds numbers; no link is followed."""
    waiting: list[tuple[str, h5py.Group, int]] = [("", h5, 0)]
    seen: set[int] = set()
    n = 0
    while waiting:
        before, group, depth = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if depth > _DEEPEST or address in seen:
            raise Refused(f"groups of a Keras file must not hold each other; {shortened(before)!r} of {{path}} does.")
        seen.add(address)
        for name in group:
            n += 1
            if n > _MOST_OBJECTS:
                raise Refused(
                    f"a Keras file must hold at most {_MOST_OBJECTS:,} tensors and groups; {{path}} has more."
                )
            path = f"{before}/{name}" if before else str(name)
            if not _is_plain(group, name):
                raise Refused(f"a Keras file must hold its own data; {shortened(path)!r} of {{path}} links elsewhere.")
            held = group[name]
            if isinstance(held, h5py.Group):
                waiting.append((path, held, depth + 1))
            elif isinstance(held, h5py.Dataset) and _is_number(path, held):
                yield path, held


def _is_plain(group: h5py.Group, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _is_number(path: str, held: h5py.Dataset) -> bool:
    """Refuse a data set that lies elsewhere, or claims more than is stored; false if it holds no numbers."""
    if held.is_virtual or held.external:
        raise Refused(f"a Keras file must hold its own data; {shortened(path)!r} of {{path}} lies in another file.")
    if held.shape is None or held.dtype.kind not in "fiub":
        return False  # texts of a vocabulary, say
    settings = held.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if filters - _FILTERS:
        raise Refused(f"weights of Keras must be stored plainly or by deflate; {shortened(path)!r} of {{path}} is not.")
    stored = int(held.id.get_storage_size())
    if held.nbytes > stored * (_MOST_EXPANSION if filters else 1):
        raise Refused(
            f"weights of Keras must be stored whole; {shortened(path)!r} of {{path}} claims {held.nbytes:,} bytes of "
            f"{stored:,}."
        )
    return True


def _text(group: h5py.Group, name: str) -> str:
    """Return a text that a group carries; empty if it has none."""
    if name not in group.attrs:
        return ""
    if _attribute_bytes(group, name) > _MOST_CONFIG_BYTES:
        raise Refused(f"{name} of a Keras file must be small; that of {{path}} is not.")
    value = group.attrs[name]
    text = value.decode("utf-8") if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > _MOST_CONFIG_BYTES:
        raise Refused(f"{name} of a Keras file must be a text; that of {{path}} is not.")
    return text


def _names(group: h5py.Group, name: str) -> list[str]:
    """Return a list of names that a group carries; Keras splits long ones over several attributes."""
    keys = [name]
    if name not in group.attrs:
        keys = [f"{name}{i}" for i in range(len(group.attrs)) if f"{name}{i}" in group.attrs]
    names: list[str] = []
    for key in keys:
        if _attribute_bytes(group, key) > _MOST_CONFIG_BYTES:
            raise Refused(f"{name} of a Keras file must be few; those of {{path}} are not.")
        value = cast("Any", group.attrs[key])
        names += [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in np.atleast_1d(value)]
    return names


def _attribute_bytes(group: h5py.Group, name: str) -> int:
    held = group.attrs.get_id(name)
    return math.prod(held.shape or ()) * int(held.dtype.itemsize)
