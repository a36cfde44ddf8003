"""Tell tables by their names; light to import, since every start looks for tables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from thawline.data.folders.words import part_of
from thawline.data.listing import PART_NAMES, SET_NAMES
from thawline.errors import DataError
from thawline.records import Part

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz")
LIST_SUFFIXES = (".txt", ".lst")
"""Lists of files and labels; one in a folder may be anything, so it is read only if it is named."""
SHEET_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


def is_table(path: Path) -> bool:
    """Tell a table by the ending of its name."""
    return path.name.lower().endswith((*TABLE_SUFFIXES, *LIST_SUFFIXES))


def table_stem(path: Path) -> str:
    """Return the name of a table without its ending."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem


def tables_in(folder: Path) -> list[Path]:
    """Return the tables right in a folder; hidden ones are not seen."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(TABLE_SUFFIXES) and not e.name.startswith(".")]
    return [path for name in sorted(names) if (path := folder / name).is_file()]


def part_tables(tables: Sequence[Path]) -> dict[Part, Path]:
    """Return the ``train``, ``val`` and ``test`` tables; none unless there is a training table.

    Raises:
        DataError: Two tables have one of these names.
    """
    found: dict[Part, Path] = {}
    for path in tables:
        part = PART_NAMES.get(table_stem(path).lower())
        if part is None:
            continue
        if part in found:
            both = f"{found[part].name} and {path.name}"
            raise DataError(f"{path.parent}: {both} are both the {SET_NAMES[part]}. Remove one.")
        found[part] = path
    return found if "train" in found else {}


def part_tables_by_words(tables: Sequence[Path]) -> dict[Part, Path]:
    """Return the training table and others whose names say so in a word: ``Training_set.csv``; none if two do."""
    stems = [(re.sub("labels?", "", table_stem(path), flags=re.IGNORECASE), path) for path in tables]
    found = [(part, path) for stem, path in stems if (part := part_of(stem))]
    named = dict(found)
    return named if "train" in named and len(named) == len(found) > 1 else {}


def other_tables(tables: Sequence[Path]) -> list[Path]:
    """Leave out names of classes, and samples of a contest's answers."""
    return [path for path in tables if "submission" not in path.name.lower() and path.name != "class_names.csv"]
