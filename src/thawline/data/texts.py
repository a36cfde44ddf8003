"""Texts as people have them in cells and lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thawline.data.labels import is_missing
from thawline.errors import DataError


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
        elif is_missing(cell) or type(cell).__name__ in ("NAType", "NaTType"):  # of pandas
            texts.append(None)
        elif isinstance(cell, int | float):
            texts.append(str(cell))
        else:
            raise DataError(
                f"{where}: a text was expected; {at(row)} has {type(cell).__name__} instead. Name the column of texts "
                "(--text-column), or write a text in each row."
            )
    return tuple(texts)
