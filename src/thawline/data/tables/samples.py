"""Tell what a table's samples are, the files that it names or the texts that it holds, and in which column they stand.

Cells decide: a column that names pictures, or files that are there, beats one of texts. Names of columns come next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from os.path import splitext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from thawline.data.tables.usual import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    OFTEN_TEXT_COLUMNS,
    TEXT_COLUMNS,
    TEXT_LABEL_COLUMNS,
    TEXT_WORDS,
    is_index,
    key_of,
    shown,
    usual_column,
)
from thawline.errors import DataError, NoColumnError
from thawline.inputs.image.formats import promises_picture
from thawline.naming import quoted

Sample = Callable[[str], list[Any]]
"""Returns the first cells of a column."""
_ALIKE = re.compile(r"^(image|img|file|photo|picture|pic|scan|slide|id)|(image|img|file|filename|path|uid)$")
"""How the name of a column of files often begins or ends, if no cell ends like a picture."""
_PICTURE_WORDS = re.compile(r"^(image|img|photo|picture|pic|scan|slide)|(image|img)$")
_NEUTRAL = ("id", "fileid")
"""Usual names of columns of files that columns of anything else have as well."""
_WORDS = 3
"""Parted by blanks, from which on a cell looks like a text."""
_SIGNS = 8
"""The same for the characters of scripts that do without blanks."""
_NO_BLANKS = "\u0e00"
"""The first script that does, Thai; those of Asia follow."""


class SampleColumn(NamedTuple):
    """Where the samples of a table stand."""

    role: Literal["file", "text"]
    name: str
    texts: tuple[str, ...] = ()
    """Other columns that hold texts: none of them holds labels."""
    notes: tuple[str, ...] = ()


def sample_column(
    path: Path, names: Sequence[str], taken: Iterable[str | None], sample: Sample, is_there: Callable[[str], bool]
) -> SampleColumn:
    """Return the column of the samples, if nobody named it.

    Args:
        taken: Columns that hold something else.
        is_there: Whether files that the first cells of a column name are there.
    Raises:
        NoColumnError: There is none.
        DataError: There may be two, of files and of texts, or several of texts.
    """
    notes: list[str] = []
    own = _single(names, taken)
    texts = [] if any(_holds_pictures(sample(name)) for name in own) else _texts(own, sample)
    if not texts:
        return SampleColumn("file", _file_column(path, names, sample, notes), notes=tuple(notes))
    file = _named_like_files([name for name in own if name not in texts], sample)
    if file is not None and is_there(file):
        return SampleColumn("file", _file_column(path, names, sample, notes), notes=tuple(notes))
    if file is not None and _may_name_pictures(file, sample(file)):
        raise DataError(
            f"{path}: column {quoted(file)} may name pictures, none of which is there, and column {quoted(texts[0])} "
            f"holds texts. Name the one to read: --text-column {texts[0]} (text_column), or --file-column {file} "
            "(file_column) and the folder of the pictures as --root."
        )
    return _text_column(path, texts, sample)


def text_column(path: Path | str, names: Sequence[str], taken: Iterable[str | None], sample: Sample) -> SampleColumn:
    """Return the column of texts of a table that is known to hold texts.

    Raises:
        NoColumnError: There is none.
        DataError: There are several.
    """
    own = _single(names, taken)
    if texts := _texts(own, sample):
        return _text_column(path, texts, sample)
    if len(own) == 1:
        return SampleColumn("text", own[0])
    raise NoColumnError(
        f"{path}: expected a column of texts named {', '.join(TEXT_COLUMNS[:4])} or alike; found {shown(names)}. Name "
        "it with text_column (--text-column)."
    )


def other_texts(names: Sequence[str], sample: Sample) -> tuple[str, ...]:
    """Return columns that hold texts, and so no labels."""
    return tuple(_texts(_single(names), sample))


def holds_texts(cells: Sequence[Any]) -> bool:
    """Tell a column of texts by its cells: half of them are several words long, and most are different."""
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    return 2 * sum(map(_is_long, texts)) > len(texts) and _are_different(texts)


def _single(names: Sequence[str], taken: Iterable[str | None] = ()) -> list[str]:
    beside = {*taken}
    return [name for name in names if not is_index(name) and names.count(name) == 1 and name not in beside]


def _text_column(path: Path | str, texts: Sequence[str], sample: Sample) -> SampleColumn:
    """Return the first of these columns, and say that the others are not read."""
    first, *others = texts
    notes = []
    if not _has_usual_name(first):
        if others:
            raise DataError(
                f"{path}: columns {shown([quoted(name) for name in texts])} hold texts. Name the one to read: "
                f"--text-column {first} (text_column), or join them in a column of their own."
            )
        notes.append(f"Texts are read from column {quoted(first)}, whose cells are sentences.")
    elif others:
        verb = "holds texts as well and is" if len(others) == 1 else "hold texts as well and are"
        notes.append(
            f"Texts are read from column {quoted(first)}. Column{'s' if others[1:] else ''} "
            f"{shown([quoted(name) for name in others])} {verb} not read; --text-column names another, and a column "
            "that joins them makes both count."
        )
    return SampleColumn("text", first, tuple(others), tuple(notes))


def _texts(own: Sequence[str], sample: Sample) -> list[str]:
    """Return the columns that hold texts, the likeliest first."""
    labels = usual_column(LABEL_COLUMNS, own)
    ranked: list[tuple[int, int, str]] = []
    for place, name in enumerate(own):
        key, cells = key_of(name), sample(name)
        texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
        if name == labels or not texts:
            continue
        if key in TEXT_COLUMNS:
            ranked.append((0, TEXT_COLUMNS.index(key), name))
        elif holds_texts(cells):
            often = key in OFTEN_TEXT_COLUMNS
            rank = 1 if _is_named_alike(key) else 2 if often else 3
            ranked.append((rank, OFTEN_TEXT_COLUMNS.index(key) if often else place, name))
        elif key in OFTEN_TEXT_COLUMNS and _are_different(texts):
            ranked.append((4, OFTEN_TEXT_COLUMNS.index(key), name))
    return [name for _, _, name in sorted(ranked)]


def _has_usual_name(name: str) -> bool:
    key = key_of(name)
    return key in (*TEXT_COLUMNS, *OFTEN_TEXT_COLUMNS) or _is_named_alike(key)


def _is_named_alike(key: str) -> bool:
    plain = key.rstrip("0123456789")
    return plain.startswith(TEXT_WORDS) or plain.endswith(TEXT_WORDS)


def _is_long(text: str) -> bool:
    return len(text.split(None, _WORDS)) >= _WORDS or sum(sign >= _NO_BLANKS for sign in text[:100]) >= _SIGNS


def _are_different(texts: Sequence[str]) -> bool:
    return 2 * len(set(texts)) > len(texts)


def _named_like_files(own: Sequence[str], sample: Sample) -> str | None:
    """Return the column whose name says that it names files."""
    usual = usual_column(FILE_COLUMNS, own)
    if usual is not None:
        return usual
    return next((name for name in own if _PICTURE_WORDS.search(key_of(name))), None)


def _may_name_pictures(name: str, cells: Sequence[Any]) -> bool:
    """Tell names of files without suffix from ids, counts, and names of files of another kind."""
    names = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    others = sum(1 < len(splitext(cell)[1]) < 6 and not promises_picture(cell) for cell in names)  # noqa: PTH122
    return key_of(name) not in _NEUTRAL and _are_different(names) and 2 * others <= len(names)


def _file_column(path: Path, names: Sequence[str], sample: Sample, notes: list[str]) -> str:
    """Return the column of file names: of those with a usual name, the first whose cells look like pictures."""
    keys = {key_of(name): name for name in reversed(names)}
    known = [keys[name] for name in FILE_COLUMNS if name in keys]
    if len(known) == 1:
        return known[0]
    found = next((name for name in known if _holds_pictures(sample(name))), known[0] if known else None)
    if found is not None:
        return found
    likely = [name for name in names if not is_index(name) and names.count(name) == 1 and _holds_pictures(sample(name))]
    if len(likely) == 1:
        notes.append(f"File names are read from column {likely[0]!r}, whose cells end like names of pictures.")
        return likely[0]
    alike = [name for name in names if not likely and _ALIKE.search(key_of(name)) and not is_index(name)]
    if len(alike) == 1:
        notes.append(f"File names are read from column {alike[0]!r}.")
        return alike[0]
    _refuse_pixels(path, names, sample)
    raise NoColumnError(
        f"{path}: expected a file column named filename, file, path, image, image_path, id or alike, or a column of "
        f"texts named {', '.join(TEXT_COLUMNS[:2])} or alike; found {shown(names)}. Name it with file_column "
        "(--file-column) or text_column (--text-column), or add a header row if this line is data."
    )


def _refuse_pixels(path: Path, names: Sequence[str], sample: Sample) -> None:
    """Refuse tables of pixels, one in each column or all in one cell, as contests give digits and faces."""
    own = [name for name in names if re.fullmatch(r"pixel\d+|p\d+|\d+x\d+|\d+", key_of(name))]
    lists = [name for name in names if key_of(name) in ("pixels", "pixel", "image") and names.count(name) == 1]
    held = next((name for name in lists if any(str(cell).count(" ") > 60 for cell in sample(name)[:3])), None)
    if len(own) > 60 or held is not None:
        where = f"columns {own[0]} to {own[-1]} hold" if held is None else f"column {held!r} holds"
        raise NoColumnError(
            f"{path}: {where} pixels, not names of picture files. Save each row as a PNG, or load the pixels in Python "
            "and give them as an array: open_data(pixels, labels)."
        )


def _holds_pictures(cells: Sequence[Any]) -> bool:
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    return bool(texts) and 2 * sum(promises_picture(text.strip()) for text in texts) > len(texts)


def usual_label(names: Sequence[str], *, of_texts: bool) -> str | None:
    """Return the column of labels by its name."""
    return usual_column((*LABEL_COLUMNS, *TEXT_LABEL_COLUMNS) if of_texts else LABEL_COLUMNS, names)


def only_classes(columns: Mapping[str, Sequence[Any]]) -> str | None:
    """Return the one column of which every value comes again, on average twice; None if there are several or none."""
    found = [
        name for name, cells in columns.items() if 1 < len({str(cell).strip() for cell in cells}) <= len(cells) / 3
    ]
    return found[0] if len(found) == 1 else None
