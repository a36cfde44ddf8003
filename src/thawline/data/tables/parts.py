"""List folders that hold a training and a test table, and read the names of classes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from thawline.data.listing import Label, Listing
from thawline.data.sources import ChainSource
from thawline.data.tables.columns import Columns, TableReading
from thawline.data.tables.opening import open_table
from thawline.data.tables.text import read_text
from thawline.errors import DataError, NoLabelsError
from thawline.inputs import kind_of
from thawline.naming import shell_word
from thawline.records import Part
from thawline.showing import counted


def open_part_tables(
    folder: Path,
    tables: Mapping[Part, Path],
    how: TableReading,
) -> Listing:
    """Join the training, validation and test table of a folder; a split column is read if one table has all labels."""
    training = open_table(tables["train"], how.columns, root=how.root, in_parts=True, reading=how.folder)
    kind = training.input_kind
    alike = replace(
        how.columns, known_label=training.columns.get("label", ""), text=training.columns.get("text"), kind=kind
    )
    listings: dict[Part, Listing] = {}
    notes: list[str] = []
    for part, path in tables.items():
        try:
            again = part == "train"
            listings[part] = (
                training if again else open_table(path, alike, root=how.root, in_parts=True, reading=how.folder)
            )
        except NoLabelsError:
            step = f"Label its {kind_of(kind).NOUN}s afterwards: thawline predict RUN {shell_word(path)}"
            notes.append(f"{path.name} has no labels and is left out. {step}")
    if len(listings) == 1:  # now its split column counts
        listings = {"train": open_table(tables["train"], how.columns, root=how.root, reading=how.folder)}
    joined = tuple(listings.values())
    each = [(part, listing) for part, listing in listings.items() for _ in listing.files]
    labels = [listing.labels or () for listing in joined]
    targets = {listing.target for listing in joined}
    if len(targets) > 1:
        raise DataError(
            f"{folder}: labels are lists in one table and not in another. Read them as labels with --target labels."
        )
    kinds = {isinstance(label, str) for column in labels for label in column}
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: labels are text in one table and numbers in another. Write them the same way in both."
        )
    class_names = how.class_names or (read_class_names(folder) if targets == {"class"} else joined[0].class_names)
    if targets == {"class"} and kind == "text" and class_names is not None and how.class_names is None:
        class_names = _fitting(class_names, labels, notes)
    groups = tuple(chain.from_iterable(listing.groups or (None,) * len(listing.files) for listing in joined))
    return Listing(
        name=folder.resolve().name,
        files=tuple(chain.from_iterable(listing.files for listing in joined)),
        source=ChainSource([listing.source for listing in joined]),
        labels=tuple(chain.from_iterable(labels)),
        given=tuple(part for part, _ in each) if len(listings) > 1 else joined[0].given,
        groups=groups,
        class_names=class_names,
        target=joined[0].target,
        skipped=tuple(chain.from_iterable(listing.skipped for listing in joined)),
        warnings=(*notes, *chain.from_iterable(listing.warnings for listing in joined)),
        root=folder,
        where=str(folder),
        input_kind=kind,
    )


def _fitting(names: Sequence[str], labels: Sequence[Sequence[Label]], notes: list[str]) -> Sequence[str] | None:
    """Return the names that lie beside texts if there is one for each label, and say whether they are used."""
    present = {str(label) for column in labels for label in column}
    if present == {str(number) for number in range(len(names))}:
        notes.append(f"Names of the {len(names)} classes are read from the class_names file beside the tables.")
        return names
    if not present <= {*names}:
        notes.append(
            f"The class_names file beside the tables is not used: it has {counted(len(names), 'name')}, and the "
            f"{counted(len(present), 'label')} are not the numbers 0 to {len(names) - 1}."
        )
    return None


def named_beside(listing: Listing, folder: Path) -> Listing:
    """Give the classes of a table of texts the names that lie beside it, if its labels are their numbers.

    Not all of them need be there: a table to test with may lack a class.

    Raises:
        DataError: The file of names is no list of them.
    """
    if listing.input_kind != "text" or listing.target != "class" or listing.class_names is not None:
        return listing
    names = read_class_names(folder)
    if not names or not {str(label) for label in listing.labels or ()} <= {str(n) for n in range(len(names))}:
        return listing
    note = "Names of the classes are read from the class_names file beside the table."
    return replace(listing, class_names=names, warnings=(*listing.warnings, note))


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
    cells = read_text(table, Columns(file="name", label="label"), True).cells
    names = {str(number): str(name) for number, name in zip(cells["label"], cells["file"], strict=True)}
    if set(names) != {str(i) for i in range(len(cells["label"]))}:
        raise DataError(f"{table}: expected the labels 0 to {len(cells['label']) - 1}, each once.")
    return [names[str(i)] for i in range(len(names))]
