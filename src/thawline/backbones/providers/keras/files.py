"""What a Keras file holds, as a confined process reads it: nothing in the file is run here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.derived import derived
from thawline.backbones.foreign.reading import Answer, read_confined
from thawline.backbones.header import read_header
from thawline.errors import WeightsError
from thawline.scale.disk import file_sha256

_REVISION = 1
_READER = "keras_reader"
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_SAID = "said"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a layer in a file."""

    group: str
    """A layer; in a legacy file also a model of layers. In a file of Keras 3: ``layers/conv2d_1``."""
    layer: str
    """Name of the layer in Keras; empty if the file does not say it."""
    variable: str
    """``kernel``, ``gamma``; a number in a file of Keras 3."""
    path: str
    """Of its data set in the file."""
    kind: str
    """Type of the numbers, as numpy writes it: ``f4``."""
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * int(self.kind[1:])


@dataclass(frozen=True, slots=True)
class KerasFile:
    """What a file of Keras holds."""

    path: Path
    config: dict[str, Any] | None
    """Of the model; None in a file of weights alone."""
    keras_2: bool
    legacy: bool
    """Whether it is an ``.h5`` file as Keras 2 wrote it, which Keras 3 still can."""
    variables: tuple[Variable, ...]
    """In the order in which they come."""
    others: tuple[str, ...]
    """Data sets that are no layer's: of an optimiser, say."""

    def groups(self) -> dict[str, list[Variable]]:
        """Return the variables by their group, in Keras's order."""
        groups: dict[str, list[Variable]] = {}
        for variable in self.variables:
            groups.setdefault(variable.group, []).append(variable)
        return groups


def checked_digest(path: Path, sha256: str | None) -> str:
    """Return the digest of a file.

    Raises:
        WeightsError: It is not there, cannot be read, or is not the one that was promised.
    """
    if not path.is_file():
        raise WeightsError(f"weights must be a file; {path} is not there.")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"weights must be readable; {path}: {error.strerror or error}.") from error
    if sha256 is not None and digest != sha256.lower():
        raise WeightsError(
            f"weights must have SHA-256 {sha256.lower()}; got {digest} ({path}). "
            "Fetch the file again, or give the digest of the file you mean to trust."
        )
    return digest


def described(path: Path) -> KerasFile:
    """Return what a file holds without its numbers; what was read before is kept in the cache folder.

    Raises:
        WeightsError: No Keras file, or a damaged one.
    """

    def write(target: Path) -> None:
        from safetensors.numpy import save_file

        _need_h5py(path)
        with read_confined(_READER, path) as answer:
            save_file({}, target, {_SAID: json.dumps(answer.header)})

    kept = derived(checked_digest(path, None), f"description of Keras {_REVISION}", write)
    header, _ = read_header(kept)
    return _file(path, json.loads(header["__metadata__"][_SAID]))


@contextlib.contextmanager
def numbers_of(path: Path) -> Iterator[tuple[KerasFile, Answer]]:
    """Yield what a file holds, and the answer whose ``take`` gives the bytes of its variables in their order."""
    _need_h5py(path)
    with read_confined(_READER, path) as answer:
        yield _file(path, answer.header), answer


def _need_h5py(path: Path) -> None:
    if importlib.util.find_spec("h5py") is None:
        raise WeightsError(
            f"files of Keras are read by h5py, which is not installed here ({path}). "
            "Install it: pip install 'thawline[keras]'."
        )


def values(variable: Variable, answer: Answer, path: Path) -> NDArray[Any]:
    """Take the numbers of the next variable.

    Raises:
        WeightsError: The reader met damage and stopped.
    """
    content = b"".join(answer.take(variable.n_bytes))
    if len(content) != variable.n_bytes:
        raise WeightsError(
            f"weights must be a sound file; {variable.path} cannot be read ({path}). Fetch the file again."
        )
    return np.frombuffer(content, f"<{variable.kind}").reshape(variable.shape)


def _file(path: Path, said: dict[str, Any]) -> KerasFile:
    try:
        variables = tuple(
            Variable(str(group), str(layer), str(name), str(place), str(kind), tuple(int(n) for n in shape))
            for group, layer, name, place, kind, shape in said["variables"]
        )
        if odd := [v for v in variables if v.kind not in _KINDS or min(v.shape, default=0) < 0]:
            raise ValueError(odd[0].path)
        config = said["config"]
        if config is not None and not isinstance(config, dict):
            raise TypeError("config")
        others = tuple(str(name) for name in said["others"])
        return KerasFile(path, config, bool(said["keras_2"]), bool(said["legacy"]), variables, others)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"weights must be plain numbers; {path} holds others: {error}. Fetch the file again.") from (
            error
        )
