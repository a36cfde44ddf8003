"""Which column of a table holds what."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thawline.data import open_data
from thawline.errors import DataError

PAIRS = [(f"{name}/{i}.png", name) for name in ("cat", "dog") for i in range(3)]


@pytest.fixture
def pets(class_folders):
    """cat/0..2.png and dog/0..2.png."""
    return class_folders({"cat": 3, "dog": 3})


@pytest.fixture(params=["csv", "parquet"])
def opened(pets, request):
    """Open a table with these columns, as CSV and as Parquet."""

    def make(columns, **options):
        path = pets / f"t.{request.param}"
        columns = {name: list(values) for name, values in columns.items()}
        if request.param == "csv":
            rows = zip(*columns.values(), strict=True)
            lines = [",".join(columns), *(",".join("" if c is None else str(c) for c in row) for row in rows)]
            path.write_text("\n".join(lines))
        else:
            pq.write_table(pa.table(columns), path)
        return open_data(path, **options)

    return make


FILES, LABELS = zip(*PAIRS, strict=True)


@pytest.mark.parametrize(
    "names",
    [
        ("file_name", "label"), ("File Name", "Label"), ("img", "class_id"), ("image_id", "labels"),
        ("Image Index", "breed"), ("path", "class_name"), ("filepath", "Species"), ("img_path", "dx"),
        ("image-path", "category id"), ("img", "lbl"),
    ],
)  # fmt: skip
def test_usual_names(opened, names):
    data = opened(dict(zip(names, (FILES, LABELS), strict=True)))
    assert data.files == FILES
    assert not [note for note in data.warnings if "column" in note]


def test_of_two_usual_names_the_one_with_pictures_wins(opened):
    assert opened({"id": range(6), "file_name": FILES, "label": LABELS}).files == FILES


def test_cells_that_end_like_pictures_are_file_names(opened):
    data = opened({"where": FILES, "n": range(6), "label": LABELS})
    assert data.warnings[0] == "File names are read from column 'where', whose cells end like names of pictures."


def test_the_only_other_column_holds_the_labels(opened):
    data = opened({"file": FILES, "kind": LABELS})
    assert data.classes == ("cat", "dog")
    assert data.warnings[0] == "Labels are read from column 'kind', the only one beside the file names."


def test_a_name_that_ends_in_a_word_for_labels(opened):
    data = opened({"Image Index": FILES, "Finding Labels": LABELS, "Patient Age": range(6), "View": ["a"] * 6})
    assert data.classes == ("cat", "dog")
    assert data.warnings[0] == "Labels are read from column 'Finding Labels'."
    with pytest.raises(DataError, match="expected a label column"):
        opened({"file": FILES, "true class": LABELS, "old class": LABELS})


def test_ids_of_other_names(opened):
    ids = [file.removesuffix(".png") for file in FILES]
    for name in ("id_code", "StudyInstanceUID", "scan no", "source_image"):
        data = opened({name: ids, "label": LABELS, "n": range(6)})
        assert data.warnings[0] == f"File names are read from column {name!r}."
    with pytest.raises(DataError, match="expected a file column"):
        opened({"id_code": ids, "scan": ids, "label": LABELS})


def test_pixels_in_columns(opened):
    with pytest.raises(
        DataError, match=r"columns pixel0 to pixel63 hold pixels, not names of picture files. Save each"
    ):
        opened({"label": LABELS, **{f"pixel{i}": range(6) for i in range(64)}})
    with pytest.raises(DataError, match=r"column 'pixels' holds pixels, not names"):
        opened({"emotion": LABELS, "pixels": [" ".join(map(str, range(70)))] * 6, "Usage": ["Training"] * 6})


def test_one_hot_columns(opened):
    flags = {name: [int(label == name) for label in LABELS] for name in ("cat", "dog")}
    data = opened({"image_id": FILES, **flags})
    assert data.classes == ("cat", "dog")
    assert data.warnings[0] == "Labels are read from the columns cat, dog: each row has one 1."
    floats = {name: [float(flag) for flag in found] for name, found in flags.items()}
    assert opened({"image": FILES, **floats, "emu": [0.0] * 6}).classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"hold one class each, and .* has a 1 for 'cat', 'wet'.*--target labels"):
        opened({"image": FILES, **flags, "wet": [1] + [0] * 5})
    with pytest.raises(DataError, match=r"hold one class each, and .* has no 1"):
        opened({"image": FILES, "cat": [1, 1, 0, 0, 0, 0], "dog": [0, 0, 0, 1, 1, 1], "emu": [0] * 6})


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("is_valid", [False, False, True] * 2, ["train", "train", "val"] * 2),
        ("is_valid", ["0", "0", "1"] * 2, ["train", "train", "val"] * 2),
        ("is_test", ["no", "no", "yes"] * 2, ["train", "train", "test"] * 2),
        ("isTrain", [True, True, False] * 2, ["train", "train", "test"] * 2),
        ("split", ["train", "TRAIN ", "test"] * 2, ["train", "train", "test"] * 2),
        ("subset", ["training", "validation", "testing"] * 2, ["train", "val", "test"] * 2),
    ],
)
def test_a_split_column_is_found_and_said(opened, name, cells, expected):
    data = opened({"file": FILES, "label": LABELS, name: cells})
    assert data.given.tolist() == expected
    note = next(note for note in data.warnings if note.startswith(f"The split is read from column {name!r}: "))
    assert note.endswith("val is the test set.") == ("test" not in expected)
    assert opened({"file": FILES, "label": LABELS, name: cells}, split_column=name).given.tolist() == expected


def test_a_column_that_is_no_split_is_left_alone(opened):
    data = opened({"file": FILES, "label": LABELS, "split": ["fold1", "fold2"] * 3})
    assert data.given is None
    assert "Column 'split' is not read: 'fold1' is neither train, val nor test." in data.warnings


def test_named_columns_win(opened):
    data = opened({"file": FILES, "label": ["x", "y"] * 3, "kind": LABELS}, label_column="kind")
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": FILES}, "expected a column of labels; found only file. Add one, or label the pictures with"),
        ({"file": FILES, "a": range(6), "b": LABELS}, "expected a label column named .*; found file, a, b. Name it"),
        ({"a": LABELS, "b": LABELS}, "expected a file column named .*; found a, b. Name it with file_column"),
    ],
)
def test_refused(opened, columns, message):
    with pytest.raises(DataError, match=message):
        opened(columns)
