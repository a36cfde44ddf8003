"""Read the needed columns of a Parquet file; pictures in it stay there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.data.labels import ONE_LABEL
from thawline.data.tables.columns import AreThere, Cells, Columns, choose, filled
from thawline.data.tables.text import MAX_ROWS, refuse_too_much
from thawline.data.tables.usual import TEXT_COLUMNS, key_of
from thawline.errors import DataError
from thawline.scale.disk import utf8_path

_SAMPLE = 50
_BATCH = 256
"""Rows of texts that are read at once."""


def read_parquet(path: Path, columns: Columns, labelled: bool, are_there: AreThere = lambda cells: False) -> Cells:
    """Read texts or file names, labels, groups and split; raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with utf8_path(path) as opened, pq.ParquetFile(opened) as file:
            schema = file.schema_arrow
            other = columns.file is not None or columns.text is not None or columns.kind == "text"
            image = columns.image or (None if other else _bytes_column(path, schema))
            if image is not None and columns.image is None and key_of(image) in TEXT_COLUMNS:
                image, columns = None, replace(columns, text=image)  # texts that were written as bytes
            if image is not None:
                _check_bytes_column(path, schema, image)
            choice = choose(
                path, schema.names, columns, labelled, image, lambda name: _sample(file, schema, name), are_there
            )
            wanted = choice.wanted
            for name in wanted:
                kind = schema.field(name).type
                listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
                if listed and name == choice.roles.get("label") and columns.target in ("auto", "labels"):
                    continue  # several labels for each sample
                if pa.types.is_nested(kind):
                    advice = f" {ONE_LABEL}" if name == choice.roles.get("label") else ""
                    raise DataError(f"{path}: column {name!r} must hold text or numbers; it holds {kind}.{advice}")
            n = file.metadata.num_rows
            if n > MAX_ROWS:
                raise DataError(f"{path}: more than {MAX_ROWS:,} rows. Split the table.")
            text = choice.roles.get("text")
            others = [name for name in wanted if name != text]
            table = file.read(columns=others, use_threads=False) if others else None
            read = {name: table[name].to_pylist() for name in others} if table is not None else {}
            if text is not None:
                read[text] = _texts(path, file, text)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return filled(path, choice, read, range(n), "row", image)


def _texts(path: Path, file: Any, name: str) -> list[Any]:
    """Read a column of texts batch by batch: a small file may hold one long text a million times."""
    cells: list[Any] = []
    characters = 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=[name], use_threads=False):
        found = batch.column(0).to_pylist()
        characters += sum(len(cell) for cell in found if isinstance(cell, str | bytes))
        refuse_too_much(path, characters)
        cells += found
    return cells


def _sample(file: Any, schema: Any, name: str) -> list[Any]:
    """Read the first cells of a column; none of one that holds bytes or lists."""
    import pyarrow as pa

    if (
        schema.names.count(name) > 1
        or pa.types.is_nested(schema.field(name).type)
        or _is_bytes(schema.field(name).type)
    ):
        return []
    batch = next(file.iter_batches(batch_size=_SAMPLE, columns=[name], use_threads=False), None)
    return [] if batch is None else list(batch.column(0).to_pylist())


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
