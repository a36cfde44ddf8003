"""List what somebody asks a bundle about: files, bytes, arrays, pictures of Pillow, a column of a table."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from thawline.data.arrays import as_pixels
from thawline.data.doors import list_unlabelled
from thawline.data.hub import is_hub_object
from thawline.data.listing import Listing
from thawline.data.sources import MAX_FILE_BYTES, FileSource
from thawline.data.tables.columns import Columns
from thawline.errors import DataError, UndecodableError, UsageError
from thawline.inputs.image.decode import payload_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Payload

_KINDS = "a path, bytes, a picture of Pillow, an array (H, W) or (H, W, 3), or an open binary file"
_SHAPES = "(H, W), (H, W, 1), (H, W, 3), or (H, W, 4) with transparency"


def list_pictures(
    what: Any,
    *,
    file_column: str | None = None,
    image_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
) -> Listing:
    """List pictures without labels; files are not read yet.

    Args:
        what: What ``Bundle.predict`` takes, but a ``Dataset``.
        file_column, image_column, root: As in ``open_data``, for a table.
        follow_links: As in ``open_data``, for a folder.
    Raises:
        MissingDataError: The one path given does not exist.
        DataError: There is nothing in it, or an array is no picture.
        UsageError: An item is of another type.
    """
    if isinstance(what, str | os.PathLike) or is_hub_object(what):
        place = None if root is None else Path(root).expanduser()
        columns = Columns(file=file_column, image=image_column)
        return list_unlabelled(what, columns, place, follow_links=follow_links)
    if isinstance(what, np.ndarray) and what.dtype.kind not in "OUS" and not _is_one_picture(what):
        listing = list_unlabelled(what, Columns(), None)  # (N, H, W), (N, H, W, 1) or (N, H, W, 3)
        return replace(listing, files=tuple(f"picture {i + 1}" for i in range(len(listing.files))))
    items = _items(what)
    if all(isinstance(item, str | os.PathLike) for item in items):
        return list_unlabelled(items, Columns(), None)
    pictures = tuple(_checked(item, i) for i, item in enumerate(items))
    return Listing(
        name="pictures",
        files=tuple(_name(item, i) for i, item in enumerate(items)),
        source=ItemSource(pictures),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ItemSource:
    """Pictures one by one, each as somebody had it."""

    items: tuple[Any, ...]
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    """Neither open files nor pictures of Pillow may be read by two threads, and one may be given twice."""

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> Payload:
        """Return one picture as bytes or pixels; raises UndecodableError."""
        item = self.items[index]
        if item is None:
            raise UndecodableError("the cell is empty")
        if isinstance(item, str | os.PathLike):
            return FileSource((str(Path(item).expanduser().absolute()),)).read(0)
        if isinstance(item, bytes | np.ndarray):
            return item
        with self._one_at_a_time:
            return payload_from(item) if isinstance(item, Image.Image) else _content(item)


def _items(what: Any) -> Sequence[Any]:
    """Return a list of single items, whatever holds them."""
    if isinstance(what, np.ndarray):
        return [what] if what.dtype.kind not in "OUS" else list(what.ravel())
    if isinstance(what, bytes | bytearray | memoryview | Image.Image) or hasattr(what, "read"):
        return [what]
    if hasattr(what, "to_list"):  # a column of pandas or polars
        return _column(what)
    if isinstance(what, Sequence):
        return what
    if hasattr(what, "columns"):
        raise UsageError(
            f"what to predict must be one column, not a whole table; got {type(what).__name__}. Name the column: "
            f"table[{str(next(iter(what.columns), 'file'))!r}]."
        )
    raise UsageError(
        f"what to predict must be {_KINDS}, a list of these, a folder, a table or a data set; got "
        f"{type(what).__name__}."
    )


def _column(column: Any) -> Sequence[Any]:
    """Return the cells of a column; refuse texts that name no file at all."""
    cells = [None if _is_missing(cell) else cell for cell in column.to_list()]
    texts = [cell for cell in cells if isinstance(cell, str)]
    if texts and len(texts) == len([cell for cell in cells if cell is not None]):
        if not any(Path(text).expanduser().is_file() for text in texts):
            raise DataError(
                f"a column of text must hold paths of pictures; none of the {len(texts):,} in "
                f"{getattr(column, 'name', None) or 'it'} names a file, the first is {texts[0][:80]!r}. "
                "Give the column of paths, from the folder that they start at."
            )
    return cells


def _is_missing(cell: object) -> bool:
    """Tell an empty cell: None, NaN, or pandas' own NA and NaT."""
    is_nan = isinstance(cell, float) and math.isnan(cell)
    return cell is None or is_nan or type(cell).__name__ in ("NAType", "NaTType")


def _checked(item: Any, index: int) -> Any:
    """Return one item as ``ItemSource`` takes it."""
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    if isinstance(item, list | tuple):  # nested numbers, as a column of polars gives them
        try:
            item = np.asarray(item)
        except ValueError as error:
            raise DataError(f"item {index + 1} must be a picture; its rows differ in length.") from error
        if item.dtype.kind == "i" and item.size and item.min() >= 0 and item.max() <= 255:
            item = item.astype(np.uint8)
    if isinstance(item, np.ndarray):
        return _pixels(item, index)
    if item is None or isinstance(item, str | os.PathLike | bytes | Image.Image) or hasattr(item, "read"):
        return item
    raise UsageError(f"item {index + 1} must be {_KINDS}; got {type(item).__name__}.")


def _pixels(array: NDArray[Any], index: int) -> NDArray[Any]:
    if not _is_one_picture(array) or 0 in array.shape:
        hint = " Move the channels last." if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise DataError(f"item {index + 1} must be an array {_SHAPES}; got shape {array.shape}.{hint}")
    try:
        pixels = as_pixels(array)
    except (DataError, TypeError) as error:
        raise DataError(f"item {index + 1}: {error}") from error
    if pixels.dtype != np.uint8 and pixels.shape[2:] == (4,):
        raise DataError(
            f"item {index + 1} must be uint8 to have transparency; got {array.dtype}. Leave out its fourth channel, or "
            "convert it to uint8."
        )
    return np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _is_one_picture(array: NDArray[Any]) -> bool:
    """Tell a picture from a stack; pictures that are three pixels wide are no case."""
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _name(item: Any, index: int) -> str:
    """Name an item by its path, or by its place."""
    if isinstance(item, str | os.PathLike):
        return os.fspath(item) if isinstance(os.fspath(item), str) else os.fsdecode(item)
    own = getattr(item, "filename", None) or getattr(item, "name", None)
    return str(own) if isinstance(own, str | os.PathLike) else f"picture {index + 1}"


def _content(file: Any) -> bytes:
    """Read an open file from its beginning, if it can be rewound."""
    try:
        if file.seekable():
            file.seek(0)
        content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:
        raise UndecodableError(f"cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise UndecodableError("the file was opened as text; open it with mode 'rb'")
    if len(content) > MAX_FILE_BYTES:
        raise UndecodableError(f"more than the {MAX_FILE_BYTES // 2**20} MiB that are read")
    return content
