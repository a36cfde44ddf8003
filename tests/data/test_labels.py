"""Labels that are no classes, and classes that are written in two ways."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from thawline.data import open_data
from thawline.data.labels import clean_labels
from thawline.errors import DataError

WEATHER = (
    "clear water,clear road,haze water,clear water road,haze road,haze water road,clear haze,water road,"
    "clear haze road,clear,clear haze water road,haze road water,road haze"
).split(",")
CARDS = [f"{rank} of {suit}" for rank in range(1, 14) for suit in ("clubs", "hearts", "spades", "diamonds")] + ["joker"]


def clean(values):
    return clean_labels(values, lambda row: f"line {row + 2}", "t.csv")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["cat", "dog "], ("cat", "dog")),
        (["0.0", "1.0"] * 6, ("0.0", "1.0") * 6),
        ([0.0, 1.0] * 6, (0, 1) * 6),
        ([1, 2, 10], (1, 2, 10)),
        ([True, False], (1, 0)),
        (["0.5", "1.5"] * 20, ("0.5", "1.5") * 20),
        (["v1.1", "v1.2", "v2.0"], ("v1.1", "v1.2", "v2.0")),
        (["apple pie", "apple", "pie"], ("apple pie", "apple", "pie")),
        (["red apple", "green apple", "red pear", "green pear"], None),
        (["hot dog", "cat", "sea lion, Californian"], None),
        ([str(i) for i in range(100)] * 2, None),
        ([f"whale {i}" for i in range(30)] * 2, None),
        (["None", "NA", "null"], ("None", "NA", "null")),
        (CARDS * 2, None),
        (["[UNK]", "[a b]"], None),
    ],
)
def test_classes(values, expected):
    labels, notes = clean(values)
    assert labels == (tuple(values) if expected is None else expected)
    assert not notes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"{0.5 + 0.37 * i:.2f}" for i in range(24)], "measurements .*24 different numbers from 0.5 to 9.01 in 24"),
        ([0.5 + i for i in range(30)] * 20, "measurements .*30 different numbers from 0.5 to 29.5 in 600 rows"),
        ([f"1,{i}" for i in range(10, 40)], "look like measurements"),
        (list(range(20, 80)), "look like measurements or counts .*60 different numbers"),
        (["-3.5", "1e3", "0", "2.25"], "look like measurements"),
        ([1.5], "labels must be text or whole numbers; got 1.5 in line 2"),
        ([["a"], ["b"]], "line 2 has a list of labels"),
        ([b"a"], "labels must be text or whole numbers; got b'a' in line 2"),
        (["a|b", "a", "b"], r"1 row has several labels in one cell, such as 'a\|b'.*--target labels; or keep one"),
        (["a|x", "a", "b"], r"1 row has several labels in one cell, such as 'a\|x'"),
        (["a;b", "a", "b"], "several labels in one cell, such as 'a;b'"),
        (["a, b", "a", "b"], "several labels in one cell, such as 'a, b'"),
        (["scab", "rust", "mildew", "scab rust", "rust mildew"], "2 rows have several labels in one cell"),
        (WEATHER, "several labels in one cell"),
        (["['a', 'b']", "['a']"], "is a list of labels"),
        (["a", "", "b"], r"line 3 has no label\. Fill it in, or remove the row"),
        (["a", None, "b", " ", "NaN"], r"line 3 has no label \(so have 3 of 5\)\. Fill it in, or remove these rows"),
        ([1.0, float("nan")], "line 3 has no label"),
    ],
)  # fmt: skip
def test_no_classes(values, message):
    with pytest.raises(DataError, match="t.csv: .*" + message):
        clean(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["cat", "Cat", "cat"], "'Cat' (1) and 'cat' (2) differ only in case and are kept apart. Did you mean 'cat'"),
        (["sea lion", "sea_lion", "sea_lion"], "'sea lion' (1) and 'sea_lion' (2) differ only in case, blanks or"),
        (["cat", "cat ", "dog"], "1 label has blanks around it, which are not read: 'cat ' is 'cat'."),
        ([3 * i for i in range(25)] * 3, "The labels are 25 whole numbers from 0 to 72; each is a class of its own"),
        ([str(1990 + 2 * i) for i in range(25)] * 3, "The labels are 25 whole numbers from 1990 to 2038"),
    ],
)  # fmt: skip
def test_what_is_said(values, said):
    labels, notes = clean(values)
    assert any(said in note for note in notes), notes
    assert len(set(labels)) == len({str(value).strip() for value in values})


def test_labels_that_mostly_occur_once():
    texts = [f"a photo of {i}" for i in range(12)]
    with pytest.raises(
        DataError, match=r"12 of 15 labels occur once, such as 'a photo of 0', so they look like ids or"
    ):
        clean([*texts, "x", "x", "x"])
    for values in (texts, list(range(15)), ["0.5", "1.5", "2.5"]):
        assert len(clean_labels(values, str, "test.csv", whole=False)[0]) == len(values)


def test_arrays_and_lists(photo):
    pixels = np.stack([np.asarray(photo(seed, (24, 20))) for seed in range(8)])
    assert open_data(pixels, np.array([0.0, 1.0] * 4)).classes == ("0", "1")
    with pytest.raises(DataError, match="the labels given: the labels look like measurements"):
        open_data(pixels, np.arange(8) / 4)
    with pytest.raises(DataError, match=r"sample 0 has a list of them. Read them as labels"):
        open_data(pixels, [["a", "b"]] * 8, target="class")
    assert any("differ only in case" in note for note in open_data(pixels, ["a", "A", "b", "b"] * 2).warnings)


def hub(photo, labels, start=0, name="label"):
    columns = {"image": [photo(start + i) for i in range(len(labels))], name: labels}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def test_hub_objects(photo):
    assert open_data(hub(photo, [0.0, 1.0] * 4)).classes == ("0", "1")
    with pytest.raises(DataError, match="the labels look like measurements"):
        open_data(hub(photo, [i / 4 for i in range(8)]))
    assert open_data(hub(photo, ["a", "b"] * 4, name="breed")).classes == ("a", "b")
    train = hub(photo, [0, 1] * 4)
    for test in (hub(photo, [-1] * 4, 20), hub(photo, [0] * 4, 20).remove_columns("label")):
        data = open_data(datasets.DatasetDict({"train": train, "test": test}))
        assert len(data) == 8
        assert "Split 'test' has no labels and is left out. Predict on it afterwards." in data.warnings
