"""How records show themselves: text from outside made fit to be shown, and small cards for notebooks.

Names of files and classes come from strangers: everything is shortened, made printable and escaped here, so that no
name can run code in a notebook or turn the line around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from thawline.naming import written

MAX_NAME = 80
"""Characters of a name that are shown."""
MAX_ROWS = 30
"""Longest table of a card."""
_BREAKS = re.compile(r"[\t\n\x0b\x0c\r\x85\u2028\u2029]+")
"""What begins a new line or column; no sentence of ours does."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of a line."""
_RIGHT, _LEFT = (f' style="text-align:{side};padding:.15em .7em"' for side in ("right", "left"))


def visible(text: object) -> str:
    r"""Make one line: replace what a terminal would obey, and write bytes that are no UTF-8 as ``\xNN``."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _BREAKS.sub(" ", written(str(text))))


def printable(text: object, limit: int = MAX_NAME) -> str:
    """Make one printable line, shortened in the middle: of a path, people recognise the folder and the end."""
    line = visible(" ".join(str(text).split()))
    if text and not line:
        return repr(text)  # blanks alone are not seen without quotes
    if len(line) <= limit:
        return line
    return f"{line[: limit // 2]}\N{HORIZONTAL ELLIPSIS}{line[-(limit - limit // 2 - 1) :]}"


def few(names: Sequence[str], most: int = 5, width: int = 40) -> str:
    """List the first names, of so many characters at most, in one line, and say how many more there are."""
    listed = ", ".join(printable(name, width) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most:,} more"


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 class``, ``1,000 classes``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def card(title: str, sentences: Iterable[object] = (), *tables: str) -> str:
    """Return HTML of a title, sentences below it, and tables from ``table_html``."""
    lines = "".join(f"<p>{_shown(sentence, 10 * MAX_NAME)}</p>" for sentence in sentences)
    return f'<div class="thawline"><h4>{_shown(title)}</h4>{lines}{"".join(tables)}</div>'


def table_html(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an escaped HTML table of at most ``MAX_ROWS`` rows; columns of numbers stand to the right."""
    sides = [_side(column, rows) for column in range(len(columns))]
    head = "".join(f"<th{side}>{_shown(name)}</th>" for side, name in zip(sides, columns, strict=True))
    body = "".join(f"<tr>{_cells(row, sides)}</tr>" for row in rows[:MAX_ROWS])
    rest = len(rows) - MAX_ROWS
    more = f'<tr><td colspan="{len(columns)}"{_LEFT}>and {rest:,} more</td></tr>' if rest > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}{more}</tbody></table>"


def _side(column: int, rows: Sequence[Sequence[object]]) -> str:
    """Set a column to the right if its first value is a number."""
    return _RIGHT if column and rows and str(rows[0][column])[:1].isdigit() else _LEFT


def _cells(row: Sequence[object], sides: Sequence[str]) -> str:
    first, *others = (f"{value:,}" if isinstance(value, int) else value for value in row)
    cells = (f"<td{side}>{_shown(value, 3 * MAX_NAME)}</td>" for side, value in zip(sides[1:], others, strict=True))
    return f"<th{_LEFT}>{_shown(first)}</th>{''.join(cells)}"


def _shown(text: object, limit: int = MAX_NAME) -> str:
    from html import escape  # loads tables of entities, which a run in a terminal does without

    return f"<bdi>{escape(printable(text, limit))}</bdi>"
