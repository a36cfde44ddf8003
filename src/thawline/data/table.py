"""List the samples of CSV, TSV and Parquet files; a row names a picture file or, in Parquet, holds its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from thawline.data.columns import Cells, Columns, read_csv, read_parquet
from thawline.data.listing import PART_NAMES, SET_NAMES, Label, Listing, first_few
from thawline.data.sources import ChainSource, FileSource, ParquetSource
from thawline.errors import DataError
from thawline.inputs.image.decode import SUFFIXES
from thawline.records import Part, Skipped

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".pq")


def open_table(
    path: Path,
    columns: Columns,
    *,
    root: Path | None = None,
    class_names: Sequence[str] | None = None,
    labelled: bool = True,
) -> Listing:
    """List the samples of a table; file names are relative to ``root``, or to the folder of the table.

    Args:
        labelled: False: a label column is not needed, and rows whose file is missing or outside are listed as skipped.
    Raises:
        DataError: A column, label or file is missing, a file lies outside the folder, or a file is in two rows.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    table = (read_parquet if is_parquet else read_csv)(path, columns, labelled)
    n = len(table.places)
    if n == 0:
        raise DataError(f"{path}: expected one row for each sample; the table has no rows.")
    labels = tuple(_label(table, row) for row in range(n)) if labelled else None
    split = table.cells.get("split")
    given = tuple(_part(table, row) for row in range(n)) if split is not None else None
    groups = tuple(None if g in (None, "") else g for g in table.cells["group"]) if "group" in table.cells else None
    root = (root or path.parent).resolve()
    if table.image is not None:
        files = tuple(f"{path.name}#{row}" for row in range(n))
        return Listing(
            name=path.stem, files=files, source=ParquetSource(path, table.image), labels=labels, given=given,
            groups=groups, class_names=class_names, root=root, where=str(path),
        )  # fmt: skip
    found, skipped = _find_files(table, root, strict=labelled)
    rows = [row for row in range(n) if found[row] is not None]
    _refuse_repeats(table, [str(found[row]) for row in rows], rows, labels)
    return Listing(
        name=path.stem,
        files=tuple(str(table.cells["file"][row]) for row in rows),
        source=FileSource(tuple(str(found[row]) for row in rows)),
        labels=None if labels is None else tuple(labels[row] for row in rows),
        given=None if given is None else tuple(given[row] for row in rows),
        groups=None if groups is None else tuple(groups[row] for row in rows),
        class_names=class_names,
        skipped=tuple(skipped),
        root=root,
        where=str(path),
    )


def _label(table: Cells, row: int) -> Label:
    value = table.cells["label"][row]
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        raise DataError(f"{table.path}: {table.at(row)} has no label. Fill it in, or remove the row.")
    if not isinstance(value, str | int):
        raise DataError(f"{table.path}: labels must be text or whole numbers; got {value!r} in {table.at(row)}.")
    return int(value) if isinstance(value, int) else value


def _part(table: Cells, row: int) -> Part:
    value = table.cells["split"][row]
    part = PART_NAMES.get(str(value).strip().lower())
    if part is None:
        raise DataError(
            f"{table.path}: the split column must say train, val or test; got {value!r} in {table.at(row)}."
        )
    return part


def _find_files(table: Cells, root: Path, *, strict: bool) -> tuple[list[Path | None], list[Skipped]]:
    """Resolve each cell below ``root``; None for a file that is skipped."""
    found: list[Path | None] = []
    skipped: list[Skipped] = []
    missing: list[str] = []
    for row, cell in enumerate(table.cells["file"]):
        name = "" if cell is None else str(cell)
        if not name or "\0" in name:
            raise DataError(f"{table.path}: {table.at(row)} names no file. Fill it in, or remove the row.")
        path = _locate(root / name)
        outside = not path.is_relative_to(root)
        if outside and strict:
            raise DataError(
                f"{table.path}: {table.at(row)} leads outside {root}: {name!r}. Give root if the files lie elsewhere."
            )
        if outside or not path.is_file():
            missing.append(name)
            skipped.append(Skipped(name, f"leads outside {root}" if outside else "no such file"))
            found.append(None)
        else:
            found.append(path)
    if missing and strict:
        raise DataError(
            f"{table.path}: {len(missing)} of {len(found)} files are not in {root}: {first_few(missing)}. "
            f"Give root (--root) if they lie in another folder."
        )
    return found, skipped


def _locate(path: Path) -> Path:
    """Resolve links; a name without suffix (``id`` columns) may mean ``name.jpg``."""
    try:
        if not path.suffix and not path.exists():
            path = next((p for s in sorted(SUFFIXES) if (p := path.with_name(path.name + s)).exists()), path)
        return path.resolve()
    except (OSError, RuntimeError):  # a name too long, or links in a circle
        return path.absolute()


def _refuse_repeats(table: Cells, paths: Sequence[str], rows: Sequence[int], labels: Sequence[Label] | None) -> None:
    seen: dict[str, int] = {}
    for path, row in zip(paths, rows, strict=True):
        before = seen.setdefault(path, row)
        if before == row or labels is None:
            continue
        name, where = table.cells["file"][row], f"{table.unit}s {table.places[before]} and {table.places[row]}"
        if labels[before] != labels[row]:
            raise DataError(
                f"{table.path}: {name!r} is {labels[before]!r} and {labels[row]!r} ({where}). Keep one row."
            )
        raise DataError(f"{table.path}: {name!r} is in two rows ({where}). Remove one.")


def find_part_tables(folder: Path) -> dict[Part, Path]:
    """Find the ``train``, ``val`` and ``test`` tables in a folder; none unless there is a training table.

    Raises:
        DataError: Two tables have one of these names.
    """
    found: dict[Part, Path] = {}
    for path in sorted(folder.iterdir()):
        part = PART_NAMES.get(path.stem.lower())
        if part is None or path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
            continue
        if part in found:
            raise DataError(f"{folder}: {found[part].name} and {path.name} are both the {SET_NAMES[part]}. Remove one.")
        found[part] = path
    return found if "train" in found else {}


def open_part_tables(
    folder: Path, tables: Mapping[Part, Path], columns: Columns, *, root: Path | None, class_names: Sequence[str] | None
) -> Listing:
    """Join the training, validation and test table of a folder; a split column, if any, is not read."""
    listings = {part: open_table(path, columns, root=root) for part, path in tables.items()}
    joined = tuple(listings.values())
    each = [(part, listing) for part, listing in listings.items() for _ in listing.files]
    labels = [listing.labels or () for listing in joined]
    kinds = {isinstance(label, str) for column in labels for label in column}
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: labels are text in one table and numbers in another. Write them the same way in both."
        )
    groups = tuple(chain.from_iterable(listing.groups or (None,) * len(listing.files) for listing in joined))
    return Listing(
        name=folder.resolve().name,
        files=tuple(chain.from_iterable(listing.files for listing in joined)),
        source=ChainSource([listing.source for listing in joined]),
        labels=tuple(chain.from_iterable(labels)),
        given=tuple(part for part, _ in each) if len(tables) > 1 else None,
        groups=groups,
        class_names=class_names or read_class_names(folder),
        root=folder,
        where=str(folder),
    )


def read_class_names(folder: Path) -> list[str] | None:
    """Read the names of the labels 0, 1, 2 ... from ``class_names.txt`` (a name, or number and name) or ``.csv``.

    Raises:
        DataError: The file is not such a list.
    """
    text, table = folder / "class_names.txt", folder / "class_names.csv"
    try:
        if text.is_file():
            lines = [line.strip() for line in text.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            numbered = [line.split(maxsplit=1) for line in lines]
            if all(len(pair) == 2 and pair[0] == str(i) for i, pair in enumerate(numbered)):
                return [name for _, name in numbered]
            return lines
    except UnicodeDecodeError as error:
        raise DataError(f"{text}: expected UTF-8 text. Save it as UTF-8.") from error
    if not table.is_file():
        return None
    cells = read_csv(table, Columns(file="name", label="label"), True).cells
    names = {str(number): str(name) for number, name in zip(cells["label"], cells["file"], strict=True)}
    if set(names) != {str(i) for i in range(len(cells["label"]))}:
        raise DataError(f"{table}: expected the labels 0 to {len(cells['label']) - 1}, each once.")
    return [names[str(i)] for i in range(len(names))]
