"""Read the few columns of a table that matter, from CSV, TSV or Parquet, in bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from thawline.errors import DataError, nearest

FILE_COLUMNS = ("filename", "file", "path", "image", "image_path", "id")
LABEL_COLUMNS = ("label", "class", "category", "target")
_MAX_LINE = 2**20
_MAX_ROWS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what, if it has none of the usual names."""

    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    image: str | None = None
    """Image bytes, in Parquet."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The needed columns of a table, by role (file, label, group, split); image bytes stay in the file."""

    path: Path
    cells: Mapping[str, list[Any]]
    places: Sequence[int]
    """Line (CSV) or row (Parquet, from 0) of each sample, for messages."""
    unit: str
    image: str | None = None

    def at(self, row: int) -> str:
        return f"{self.unit} {self.places[row]}"


def _choose(path: Path, names: Sequence[str], columns: Columns, labelled: bool, image: str | None) -> dict[str, str]:
    """Role -> column name."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: the table has two columns {repeated[0]!r}. Rename one.")
    chosen = {"group": columns.group, "split": columns.split}
    if labelled:
        chosen["label"] = columns.label or _usual(LABEL_COLUMNS, names)
    if image is None:
        chosen["file"] = columns.file or _usual(FILE_COLUMNS, names)
    for role in ("file", "label"):
        if role in chosen and chosen[role] is None:
            usual = FILE_COLUMNS if role == "file" else LABEL_COLUMNS
            raise DataError(
                f"{path}: expected a {role} column named {', '.join(usual)}; found {', '.join(names)}. "
                f"Name it with {role}_column (--{role}-column)."
            )
    for role, name in chosen.items():
        if name is not None and name not in names:
            raise DataError(
                f"{path}: {role}_column {name!r} is not in the table, which has {', '.join(names)}."
                f"{nearest(name, names)}"
            )
    return {role: name for role, name in chosen.items() if name is not None}


def _usual(usual: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def read_csv(path: Path, columns: Columns, labelled: bool) -> Cells:
    if columns.image is not None:
        raise DataError(
            f"{path}: image_column needs a Parquet file. Name the column of file names of a CSV with file_column."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(path, file)
            head = next(lines, "")
            delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(",;\t", key=head.count)
            reader = csv.reader(chain([head], lines), delimiter=delimiter)
            names = [name.strip() for name in next(reader, [])]
            if not any(names):
                raise DataError(f"{path}: expected a header row such as filename,label; the table is empty.")
            chosen = _choose(path, names, columns, labelled, None)
            cells: dict[str, list[Any]] = {role: [] for role in chosen}
            at = {role: names.index(name) for role, name in chosen.items()}
            places: list[int] = []
            for row in reader:
                if not any(row):
                    continue
                if len(row) != len(names):
                    raise DataError(
                        f"{path}: line {reader.line_num} has {len(row)} cells, but the header has {len(names)}."
                    )
                if len(places) >= _MAX_ROWS:
                    raise DataError(f"{path}: more than {_MAX_ROWS:,} rows. Split the table.")
                places.append(reader.line_num)
                for role, i in at.items():
                    cells[role].append(row[i])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text; got byte 0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}.") from error
    return Cells(path, cells, places, "line")


def _lines(path: Path, file: Any) -> Iterator[str]:
    """Yield lines of bounded length: without a bound, a file without line ends would be read into memory whole."""
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise DataError(f"{path}: a line is longer than {_MAX_LINE:,} characters, so this is no table.")
        yield line


def read_parquet(path: Path, columns: Columns, labelled: bool) -> Cells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image = columns.image or (None if columns.file else _bytes_column(path, schema))
            if image is not None:
                _check_bytes_column(path, schema, image)
            chosen = _choose(path, schema.names, columns, labelled, image)
            wanted = list(dict.fromkeys(chosen.values()))
            for name in wanted:
                if pa.types.is_nested(schema.field(name).type):
                    raise DataError(
                        f"{path}: column {name!r} must hold text or numbers; it holds {schema.field(name).type}."
                    )
            n = file.metadata.num_rows
            if n > _MAX_ROWS:
                raise DataError(f"{path}: more than {_MAX_ROWS:,} rows. Split the table.")
            table = file.read(columns=wanted, use_threads=False) if wanted else None
            cells = {role: table[name].to_pylist() for role, name in chosen.items()} if table is not None else {}
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return Cells(path, cells, range(n), "row", image)


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes_column(path: Path, schema: Any) -> str | None:
    found = [field.name for field in schema if _is_bytes(field.type)]
    if len(found) > 1:
        raise DataError(
            f"{path}: several columns hold bytes: {', '.join(found)}. Name one with image_column (--image-column)."
        )
    return found[0] if found else None


def _check_bytes_column(path: Path, schema: Any, name: str) -> None:
    if name not in schema.names:
        raise DataError(f"{path}: image_column {name!r} is not in the table, which has {', '.join(schema.names)}.")
    if not _is_bytes(schema.field(name).type):
        raise DataError(f"{path}: image_column {name!r} must hold bytes; it holds {schema.field(name).type}.")
