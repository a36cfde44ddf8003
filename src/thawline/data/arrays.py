"""List pictures and texts that are in memory already, and plain lists of paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from thawline.data.labels import ONE_LABEL, clean_labels, is_missing
from thawline.data.listing import PART_NAMES, Label, Listing
from thawline.data.sources import ArraySource, FileSource, TextSource
from thawline.data.targets import Read, read_given
from thawline.data.texts import as_texts
from thawline.errors import DataError
from thawline.inputs.text.formats import promises_text
from thawline.records import Part, TargetAsked

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEEP_TYPES = ("uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
"""NumPy's names of the types deeper than 8 bits that pixels may have."""


def open_array(
    pixels: NDArray[Any],
    labels: Iterable[Any] | None,
    groups: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    given: Iterable[str] | None = None,
    *,
    whole: bool = True,
    target: TargetAsked = "auto",
) -> Listing:
    """Take (N, H, W), (N, H, W, 1) or (N, H, W, 3) of uint8, or of ``DEEP_TYPES``, which one scale makes 8 bits.

    Floats that are exact multiples of 1/255 in [0, 1] are uint8.

    Raises:
        DataError: Another shape or range, or not one label for each picture.
    """
    values = as_pixels(_checked_shape(pixels))
    n = len(values)
    return Listing(
        name="array",
        files=tuple(f"array#{i}" for i in range(n)),
        source=ArraySource(values),
        **_told(n, labels, groups, class_names, given, target, whole=whole),
    )


def _told(
    n: int,
    labels: Iterable[Any] | None,
    groups: Iterable[Any] | None,
    class_names: Sequence[str] | None,
    given: Iterable[str] | None,
    target: TargetAsked,
    *,
    whole: bool,
) -> dict[str, Any]:
    """Return what a listing of ``n`` samples holds of the arguments beside them."""
    read = None if labels is None else read_labels(labels, n, class_names, target, whole=whole and given is None)
    return {
        "groups": checked_groups(groups, n),
        "given": checked_given(given, n),
        **as_listed(read, class_names),
    }


def open_paths(
    paths: Sequence[str | os.PathLike[str]],
    labels: Iterable[Any] | None,
    groups: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    given: Iterable[str] | None = None,
    *,
    whole: bool = True,
    target: TargetAsked = "auto",
    input_kind: str | None = None,
) -> Listing:
    """Take the paths of files, wherever they lie: a user who names a file may read it.

    Args:
        input_kind: What they are; None tells by their names.
    """
    files = tuple(os.fspath(path) for path in paths)
    n = len(files)
    return Listing(
        name="files",
        files=files,
        source=FileSource(tuple(str(Path(file).expanduser().absolute()) for file in files)),
        input_kind=input_kind or ("text" if 2 * sum(map(promises_text, files)) > n else "image"),
        **_told(n, labels, groups, class_names, given, target, whole=whole),
    )


def open_texts(
    texts: Iterable[Any],
    labels: Iterable[Any] | None,
    groups: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    given: Iterable[str] | None = None,
    *,
    whole: bool = True,
    target: TargetAsked = "auto",
) -> Listing:
    """Take texts; None, NaN and empty ones are read as samples without a text, which are left out and counted.

    Raises:
        DataError: One is no text, or there is not one label for each.
    """
    found = as_texts([_plain(text) for text in texts], lambda row: f"text {row}", "the list")
    n = len(found)
    return Listing(
        name="texts",
        files=tuple(f"text#{i}" for i in range(n)),
        source=TextSource(found),
        input_kind="text",
        **_told(n, labels, groups, class_names, given, target, whole=whole),
    )


def read_labels(
    labels: Iterable[Any], n: int, class_names: Sequence[str] | None, target: TargetAsked, *, whole: bool
) -> Read:
    """Read labels that were given in Python as classes or, if asked for or beyond doubt, as labels or numbers.

    Raises:
        DataError: They are not one for each sample, or cannot be read.
    """
    found = labels if isinstance(labels, np.ndarray) else [_plain(item) for item in labels]
    if (read := read_given(found, n, target, class_names)) is not None:
        return read
    known, notes = checked_labels(found, n, whole=whole)
    return Read(known, notes=tuple(notes))


def _plain(item: Any) -> Any:
    return item.tolist() if isinstance(item, np.ndarray) else item.item() if isinstance(item, np.generic) else item


def as_listed(read: Read | None, class_names: Sequence[str] | None) -> dict[str, Any]:
    """Return the arguments of a ``Listing`` that hold what was read."""
    if read is None:
        return {"class_names": class_names}
    return {
        "labels": read.labels,
        "target": read.target,
        "class_names": class_names or read.names,
        "warnings": read.notes,
    }


def checked_labels(labels: Iterable[Any], n: int, *, whole: bool = True) -> tuple[tuple[Label, ...], list[str]]:
    """Return one string or integer for each sample, and what a user should know of them; raises DataError.

    Args:
        whole: As in ``clean_labels``.
    """
    found = [item.item() if isinstance(item, np.generic) else item for item in labels]
    if len(found) != n:
        raise DataError(f"labels must be one for each sample; got {len(found)} labels for {n} samples.")
    for i, label in enumerate(found):
        if isinstance(label, list | tuple | np.ndarray):
            raise DataError(f"labels must be one for each sample; sample {i} has a list of them. {ONE_LABEL}")
        if not isinstance(label, str | int | float) or is_missing(label):
            raise DataError(f"labels must be strings or integers; got {label!r} for sample {i}.")
    if len({isinstance(label, str) for label in found}) > 1:
        raise DataError("labels must be all strings or all integers; got both.")
    return clean_labels(found, lambda row: f"sample {row}", "the labels given", whole=whole)


def checked_groups(groups: Iterable[Any] | None, n: int) -> tuple[object, ...] | None:
    """Return one group for each sample; raises DataError."""
    if groups is None:
        return None
    found = tuple(item.item() if isinstance(item, np.generic) else item for item in groups)
    if len(found) != n:
        raise DataError(f"groups must be one for each sample; got {len(found)} groups for {n} samples.")
    return cast("tuple[object, ...]", found)


def checked_given(given: Iterable[str] | None, n: int) -> tuple[Part, ...] | None:
    """Return train, val or test for each sample; raises DataError."""
    if given is None:
        return None
    found = [str(part) for part in given]
    unknown = next((part for part in found if part.lower() not in PART_NAMES), None)
    if len(found) != n or unknown is not None:
        what = f"{len(found)} for {n} samples" if unknown is None else repr(unknown)
        raise DataError(f"given must be train, val or test for each sample; got {what}.")
    return tuple(PART_NAMES[part.lower()] for part in found)


def _checked_shape(pixels: NDArray[Any]) -> NDArray[Any]:
    shape = pixels.shape
    if pixels.ndim == 4 and shape[3] == 1:
        pixels = pixels[..., 0]
    elif not (pixels.ndim == 3 or (pixels.ndim == 4 and shape[3] == 3)):
        hint = " Move the channels last." if pixels.ndim == 4 and shape[1] in (1, 3) else ""
        raise DataError(f"images must have shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); got {shape}.{hint}")
    if 0 in shape:
        raise DataError(f"images must not be empty; got shape {shape}.")
    return pixels


def as_pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return uint8 as it is or from exact multiples of 1/255, deeper types as they are; raises DataError."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    low, high = pixels.min(), pixels.max()
    if np.issubdtype(pixels.dtype, np.floating) and 0 <= low and high <= 1:
        scaled = np.rint(pixels * 255)
        if np.abs(scaled - pixels * 255).max() < 1e-2:  # what uint8 / 255 leaves, in half precision too
            return np.asarray(scaled, dtype=np.uint8)
    if pixels.dtype.name in DEEP_TYPES:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    raise DataError(
        f"images must be uint8, or {', '.join(DEEP_TYPES[:-1])} or {DEEP_TYPES[-1]}; got {pixels.dtype} from {low} to "
        f"{high}. Convert them: .astype(numpy.uint8) if they are 0 to 255, else .astype(numpy.float32)."
    )
