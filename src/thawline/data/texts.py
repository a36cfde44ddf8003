"""Texts as people have them in cells and lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thawline.data.labels import is_missing
from thawline.errors import DataError, UndecodableError
from thawline.inputs.text.decode import decoded


def as_texts(cells: Sequence[Any], at: Callable[[int], str], where: str) -> tuple[str | None, ...]:
    """Return texts (N,), None where there is none; numbers are texts too.

    Args:
        cells: (N,) as they were read.
        at: Names the place of a row: ``line 8``.
        where: Names the table or argument, for errors.
    Raises:
        DataError: A cell holds something else.
    """
    texts: list[str | None] = []
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            texts.append(cell or None)
        elif isinstance(cell, bytes):
            texts.append(_decoded(cell, at(row), where))
        elif is_no_text(cell):
            texts.append(None)
        elif isinstance(cell, int | float):
            texts.append(str(cell))
        else:
            raise DataError(
                f"{where}: a text was expected; {at(row)} has {type(cell).__name__} instead. Name the column of texts "
                "(--text-column), or write a text in each row."
            )
    return tuple(texts)


def _decoded(cell: bytes, at: str, where: str) -> str:
    try:
        return decoded(cell).text
    except UndecodableError as error:
        raise DataError(f"{where}: a text was expected; {at} holds bytes: {error}.") from error


def is_no_text(cell: object) -> bool:
    """Tell a cell without a text: None, NaN, or what pandas writes for them."""
    return (not isinstance(cell, str) and is_missing(cell)) or type(cell).__name__ in ("NAType", "NaTType")
