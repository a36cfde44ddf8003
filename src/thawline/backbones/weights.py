"""Weights on disk: safetensors only, read without running anything, identified by SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.file_kinds import not_there, weights_in
from thawline.backbones.foreign.converting import as_safetensors
from thawline.backbones.foreign.sentences import shortened
from thawline.backbones.header import read_header as read_header
from thawline.errors import ModelError, StorageError, WeightsError
from thawline.scale.disk import file_sha256, is_folder, utf8_path

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Floating-point types of the format -> how numpy reads them; it has no bfloat16, which is read as its bits."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A safetensors file and what it says about itself."""

    path: Path
    architecture: str | None
    """timm architecture, from the metadata or the ``config.json`` beside the file; None where neither says."""
    model_args: dict[str, Any]
    """Keyword arguments of ``timm.create_model`` that the weights need."""
    pretrained_cfg: dict[str, Any]
    """Input size, mean, std, interpolation and crop, in timm's words; empty where nothing says."""
    origin: Path | None = None
    """The file that it was converted from."""

    @property
    def shown(self) -> Path:
        """The file that the user gave."""
        return self.origin or self.path

    @property
    def tensors(self) -> TensorFile:
        """The file's tensors without those of its classifier, which the new head replaces."""
        classifier = self.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        return TensorFile(self.path, excluded=tuple(f"{head}." for head in heads), origin=self.origin)


@dataclass(frozen=True, slots=True)
class TensorFile:
    """Some of the tensors of a safetensors file: those under a prefix, which is taken off, less those excluded."""

    path: Path
    prefix: str = ""
    excluded: tuple[str, ...] = ()
    """Beginnings of names, prefix taken off, of classifiers."""
    foreign: tuple[str, ...] = ()
    """Beginnings of names, prefix taken off, of what belongs to something else."""
    computed: tuple[str, ...] = ()
    """Ends of names of what the architecture computes by itself, such as an index of positions."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): regular expressions, applied one after the other to names, prefix taken off."""
    origin: Path | None = None
    """The file that it was converted from."""

    @property
    def shown(self) -> Path:
        """The file that the user gave."""
        return self.origin or self.path

    def sources(self) -> dict[str, str]:
        """Name of each tensor -> its name in the file.

        Raises:
            WeightsError: Two tensors of the file would have one name.
        """
        return self._sources(read_header(self.path)[0])

    def _sources(self, header: Mapping[str, Any]) -> dict[str, str]:
        names: dict[str, str] = {}
        for source in header:
            short = source.removeprefix(self.prefix)
            if source == "__metadata__" or not source.startswith(self.prefix) or short.endswith(self.computed):
                continue
            if short.startswith((*self.excluded, *self.foreign)):
                continue
            for pattern, replacement in self.renamed:
                short = re.sub(pattern, replacement, short)
            if short in names:
                raise WeightsError(
                    f"weights must hold each tensor once; {source} and {names[short]} are both {short} ({self.shown})."
                )
            names[short] = source
        return names

    def entries(self) -> dict[str, Mapping[str, Any]]:
        """Name -> dtype, shape and data_offsets, as the header has them."""
        header, _ = read_header(self.path)
        return {name: header[source] for name, source in self._sources(header).items()}

    @property
    def is_there(self) -> bool:
        """Whether there are weights at all, and not an architecture alone."""
        return True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(entry["shape"]) for name, entry in self.entries().items()}

    def digest(self, *, checked: bool = False) -> str:
        """SHA-256 over names, types, shapes and bytes: equal wherever and with whatever else the tensors are stored.

        Args:
            checked: Refuse weights that cannot have been trained.
        Raises:
            WeightsError: If checked, a tensor holds NaN or infinity, or every layer holds zeros; names the tensor.
        """
        header, start = read_header(self.path)
        whole = hashlib.sha256()
        n_layers, n_zero = 0, 0
        with self.path.open("rb") as file:
            for name, source in sorted(self._sources(header).items()):
                entry = header[source]
                first, last = entry["data_offsets"]
                file.seek(start + first)
                content = file.read(last - first)
                whole.update(f"{name} {entry['dtype']} {entry['shape']} {_sha256(content)}\n".encode())
                if checked and entry["dtype"] in FLOATS:
                    _refuse_non_finite(source, entry["dtype"], content, self.shown)
                    n_layers += len(entry["shape"]) > 1
                    n_zero += len(entry["shape"]) > 1 and not content.strip(b"\0")
        if n_layers and n_zero == n_layers:
            raise WeightsError(
                f"weights must not be zero in every layer; those of {self.shown} are. They were saved before a trained "
                "model was loaded: save them again."
            )
        return whole.hexdigest()

    def contents(self) -> Callable[[str], bytes]:
        """Return a function from names of tensors to their bytes as they lie in the file, whose header is read once."""
        _, start = read_header(self.path)
        entries = self.entries()

        def read(name: str) -> bytes:
            first, last = entries[name]["data_offsets"]
            with self.path.open("rb") as file:
                file.seek(start + first)
                return file.read(last - first)

        return read

    def load(self) -> dict[str, torch.Tensor]:
        """Return the tensors on the CPU, in the precision of the file."""
        from safetensors import safe_open

        with utf8_path(self.path) as path, safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(source) for name, source in self.sources().items()}

    def arrays(self) -> Callable[[str], NDArray[np.float32]]:
        """Return a function from names of tensors to their values, float32. Nothing is read before, no torch needed.

        The function raises WeightsError where a tensor holds no floating-point numbers, or not as many as its shape
        says, and KeyError where there is none of that name.
        """
        import numpy as np

        _, start = read_header(self.path)
        entries = self.entries()
        data: NDArray[np.uint8] = np.memmap(self.path, np.uint8, "r", offset=start)

        def read(name: str) -> NDArray[np.float32]:
            entry = entries[name]
            first, last = entry["data_offsets"]
            kind, shape = FLOATS.get(entry["dtype"]), tuple(entry["shape"])
            if kind is None or last - first != math.prod(shape) * np.dtype(kind).itemsize:
                raise WeightsError(f"weights must hold floating-point numbers of their shape; {name} does not.")
            stored = np.frombuffer(data[first:last].tobytes(), kind).reshape(shape)
            if entry["dtype"] == "BF16":  # the upper half of a float32
                return (stored.astype(np.uint32) << 16).view(np.float32)
            values: NDArray[np.float32] = stored.astype(np.float32, copy=False)
            return values

        return read


def open_weights(path: Path, *, sha256: str | None = None) -> WeightsFile:
    """Read the header of a file of weights, and check its digest if asked.

    Args:
        path: A safetensors file, a checkpoint of PyTorch, which is converted first, or a folder that holds one of them
            and ``config.json`` as timm's hub folders do.
        sha256: Digest that the file must have.
    Raises:
        WeightsError: Not there, not weights, or not the promised bytes.
    """
    if is_folder(path):
        path = weights_in(path)
    if not os.path.isfile(path):  # noqa: PTH113  (a name may be too long)
        raise not_there(path)
    try:
        if sha256 is not None:
            check_digest(path, sha256)
        converted = as_safetensors(path)
        metadata = _read_metadata(converted)
        _refuse_damaged(converted)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise WeightsError(f"weights must be readable; {path}: {error.strerror or error}.") from error
    described = _config_beside(path) | metadata
    _check_classifier(dict(described.get("pretrained_cfg") or {}).get("classifier"), path)
    return WeightsFile(
        path=converted,
        architecture=described.get("architecture"),
        model_args=dict(described.get("model_args") or {}),
        pretrained_cfg=dict(described.get("pretrained_cfg") or {}),
        origin=None if converted == path else path,
    )


def check_digest(path: Path, sha256: str) -> None:
    """Refuse a file with another SHA-256 than the promised one.

    Raises:
        WeightsError: It differs.
    """
    if (digest := file_sha256(path)) != sha256.lower():
        raise WeightsError(
            f"weights must have SHA-256 {sha256.lower()}; got {digest} ({path}). "
            "Fetch the file again, or give the digest of the file you mean to trust."
        )


def _refuse_damaged(path: Path) -> None:
    """Let the library that will read the tensors check the whole header, which is stricter than JSON."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, ValueError) as error:
        reason = shortened(str(error))  # which may quote the header
        raise WeightsError(f"weights must be a sound safetensors file; {path}: {reason}. Fetch it again.") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refuse_non_finite(name: str, dtype: str, content: bytes, path: Path) -> None:
    import numpy as np

    if len(content) % np.dtype(FLOATS[dtype]).itemsize:
        return  # not as many numbers as its shape says: refused where they are read
    values = np.frombuffer(content, FLOATS[dtype])
    odd = (values & 0x7F80) == 0x7F80 if dtype == "BF16" else ~np.isfinite(values)  # bfloat16: all bits of the exponent
    if n := int(odd.sum()):
        raise WeightsError(
            f"weights must be finite numbers; {name} holds {n:,} NaN or infinite of {len(values):,} ({path}). "
            "Take the weights of an earlier epoch, or fetch the file again."
        )


def _read_metadata(path: Path) -> dict[str, Any]:
    """Return what a safetensors file says of itself, JSON values decoded."""
    header, _ = read_header(path)
    return {key: _decoded(key, value, path) for key, value in (header.get("__metadata__") or {}).items()}


def _decoded(key: str, value: str, path: Path) -> Any:
    """Metadata values are strings; those that hold settings are JSON."""
    if key not in ("model_args", "pretrained_cfg"):
        return value
    try:
        return _mapping(json.loads(value))
    except ValueError as error:
        raise WeightsError(f"metadata {key!r} must be a JSON object; got {value[:80]!r} ({path}).") from error


def _config_beside(path: Path) -> dict[str, Any]:
    """Read ``config.json`` in the same folder, as timm's hub folders carry it; empty where there is none."""
    config = path.parent / "config.json"
    if not config.is_file():
        return {}
    try:
        return _mapping(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"config.json beside the weights must be a JSON object; {config} is not: {error}."
        ) from error


def _check_classifier(value: Any, path: Path) -> None:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"metadata 'classifier' must name a layer, or several; got {value!r} ({path}).")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"got {type(value).__name__}")
    return value


def as_one_of(weights: WeightsFile, architecture: str) -> WeightsFile:
    """Take weights that say they belong to another architecture as those of ``architecture``, without its arguments."""
    same = weights.architecture in (None, architecture)
    return weights if same else replace(weights, architecture=architecture, model_args={})


def check_architecture(name: str, weights: WeightsFile) -> None:
    """Refuse weights that say they belong to another architecture than ``name``.

    Raises:
        ModelError: The two names differ.
    """
    if weights.architecture is not None and weights.architecture != name:
        raise ModelError(
            f"weights of {name!r} were asked for; {weights.shown} says it holds {weights.architecture!r}. "
            f"Write timm/{weights.architecture}@{weights.shown}."
        )
