"""Several labels a sample, and numbers: how they are read, guessed, split and refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thawline.data import open_data, split_data, subset
from thawline.errors import DataError, UsageError
from thawline.strata import strata

N = 24


@pytest.fixture
def pictures(tmp_path, photo):
    for i in range(N):
        photo(i, (24, 20)).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def table(pictures):
    def write(header, rows, name="t.csv"):
        lines = [header, *(f"{i}.png,{row}" for i, row in enumerate(rows))]
        (pictures / name).write_text("\n".join(lines))
        return pictures / name

    return write


def sets(n=N):
    """Red every second, round every third: 4 in 24 have both, 8 neither."""
    return [[name for name, every in (("red", 2), ("round", 3)) if i % every == 0] for i in range(n)]


def indicators(n=N):
    return np.array([[i % 2 == 0, i % 3 == 0] for i in range(n)])


@pytest.mark.parametrize("separator", ["|", ";", ", "])
def test_labels_in_one_cell(table, separator):
    cells = ['"' + separator.join(labels) + '"' for labels in sets()]
    data = open_data(table("file,label", cells), target="labels")
    assert data.target == "labels" and data.outputs == ("red", "round")
    assert data.truth.dtype == bool
    np.testing.assert_array_equal(data.truth, indicators())
    assert any(f"cells are parted at '{separator.strip()}'" in note for note in data.warnings)
    assert any("8 samples have no label" in note for note in data.warnings)


@pytest.mark.parametrize("written", [json.dumps, str])
def test_lists_are_taken_for_labels_without_asking(table, written):
    cells = ['"' + written(labels).replace('"', '""') + '"' for labels in sets()]
    data = open_data(table("file,label", cells))
    np.testing.assert_array_equal(data.truth, indicators())
    assert any("Each sample may have several labels: cells are lists" in note for note in data.warnings)
    with pytest.raises(DataError, match=r"is a list of labels\. Read them as labels"):
        open_data(table("file,label", cells), target="class")


def test_lists_in_parquet_and_json_lines(pictures):
    pq.write_table(pa.table({"file": [f"{i}.png" for i in range(N)], "label": sets()}), pictures / "t.parquet")
    np.testing.assert_array_equal(open_data(pictures / "t.parquet").truth, indicators())
    rows = [json.dumps({"file": f"{i}.png", "label": labels}) for i, labels in enumerate(sets())]
    (pictures / "t.jsonl").write_text("\n".join(rows))
    np.testing.assert_array_equal(open_data(pictures / "t.jsonl").truth, indicators())


def test_columns_of_0_and_1(table):
    cells = [f"{int(red)},{int(round_)}" for red, round_ in indicators()]
    path = table("file,red,round", cells)
    named = open_data(path, label_column="red,round")
    asked = open_data(path, target="labels")
    np.testing.assert_array_equal(named.truth, indicators())
    np.testing.assert_array_equal(asked.truth, indicators())
    assert named.outputs == asked.outputs == ("red", "round")
    cells[5] = "2,0"
    with pytest.raises(DataError, match="columns of labels must hold 0 and 1; line 7 has '2' in column 'red'"):
        open_data(table("file,red,round", cells), label_column="red,round")


def test_numbers(table):
    numbers = [0.5 + i / 7 for i in range(N)]
    path = table("file,price", [str(number) for number in numbers])
    data = open_data(path, label_column="price", target="number")
    assert data.target == "number" and data.outputs == ("price",)
    np.testing.assert_array_equal(data.truth, np.array(numbers)[:, None])
    with pytest.raises(DataError, match="Learn them as numbers with --target number"):
        open_data(path, label_column="price")
    two = table("file,x,y", [f"{number},{-number}" for number in numbers])
    data = open_data(two, label_column="x,y", target="number")
    assert data.outputs == ("x", "y")
    np.testing.assert_array_equal(data.truth[:, 1], -np.array(numbers))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "line 5 is empty. Fill it in"),
        ("low", "line 5 holds 'low'"),
        ("nan", "line 5 is empty"),
        ("inf", "holds 'inf'"),
    ],
)
def test_no_number(table, cell, message):
    cells = [str(i / 7) for i in range(N)]
    cells[3] = cell
    with pytest.raises(DataError, match=f"target number needs a finite number for each sample; {message}|{message}"):
        open_data(table("file,price", cells), label_column="price", target="number")


def test_arrays(photo):
    pixels = np.stack([np.asarray(photo(seed, (24, 20))) for seed in range(N)])
    data = open_data(pixels, indicators(), class_names=["red", "round"])
    assert data.outputs == ("red", "round")
    np.testing.assert_array_equal(data.truth, indicators())
    np.testing.assert_array_equal(open_data(pixels, sets()).truth, indicators())
    numbers = open_data(pixels, np.arange(N) / 7, target="number")
    np.testing.assert_array_equal(numbers.truth[:, 0], np.arange(N) / 7)
    some = subset(numbers, [3, 1])
    np.testing.assert_array_equal(some.truth[:, 0], np.array([3, 1]) / 7)
    with pytest.raises(UsageError, match=r"target .* must be one of auto, class, labels, number; got 'label'. Did you"):
        open_data(pixels, sets(), target="label")
    with pytest.raises(DataError, match="expected labels that some samples have and others lack"):
        open_data(pixels, [["a", "b"]] * N)
    with pytest.raises(DataError, match="holds one number for all samples"):
        open_data(pixels, np.ones(N), target="number")


def test_a_folder_has_classes_only(tiny_photos):
    with pytest.raises(UsageError, match="target number needs a table"):
        open_data(tiny_photos, target="number")


def test_splits_keep_the_shares_of_labels_and_of_sizes(photo):
    pixels = np.stack([np.asarray(photo(seed, (8, 8))) for seed in range(200)])
    rng = np.random.default_rng(0)
    has = rng.random((200, 3)) < (0.05, 0.3, 0.6)
    split = split_data(open_data(pixels, has))
    assert has[split.test].any(axis=0).all() and has[split.val].any(axis=0).all()
    assert "stratified by each sample's rarest label" in split.origin
    numbers = np.exp(rng.normal(size=200))
    data = open_data(pixels, numbers, target="number")
    split = split_data(data)
    assert np.bincount(data.labels[split.test], minlength=10).tolist() == [3] * 10


def test_strata():
    assert strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    has = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    assert strata(has).tolist() == [0, 1, 0, 3, 2, 2]
    tied = np.repeat([1.0, 2.0], 50)[:, None]
    assert len(set(strata(tied).tolist())) == 2
