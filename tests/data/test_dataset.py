"""Arrays, lists of paths, Hugging Face objects, subsets and unlabelled input."""

from __future__ import annotations

import subprocess
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thawline.data import open_data, split_data, subset
from thawline.data.doors import list_unlabelled
from thawline.data.listing import first_few
from thawline.data.tables.columns import Columns
from thawline.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def pixels(photo):
    return np.stack([np.asarray(photo(seed, (24, 20))) for seed in range(8)])


LABELS = ["a", "b"] * 4


@pytest.mark.parametrize("shape", ["NHW3", "NHW", "NHW1"])
def test_arrays(pixels, shape):
    values = {"NHW3": pixels, "NHW": pixels[..., 0], "NHW1": pixels[..., :1]}[shape]
    data = open_data(values, LABELS, name="noise")
    assert (data.name, data.classes, data.files[7]) == ("noise", ("a", "b"), "array#7")
    np.testing.assert_array_equal(data.source.read(3), values[3] if shape != "NHW1" else values[3, ..., 0])
    assert data.labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_exact_floats_become_the_bytes_they_were(pixels, dtype):
    data = open_data((pixels / 255).astype(dtype), np.array([3, 1] * 4))
    np.testing.assert_array_equal(data.source.read(5), pixels[5])
    assert data.classes == ("1", "3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.int64), "images must be uint8, or uint16, .* got int64 from 0 to 255. Convert them"),
        (lambda x: x > 9, "images must be uint8, or uint16, .* got bool from False to True"),
        (
            lambda x: x / np.nan,
            r"array: 8 of 8 files cannot be read. 8 samples, first array#0: all of its values are infinite",
        ),
        (lambda x: x[0, 0], r"images must have shape \(N, H, W\), .*; got \(24, 3\)"),
        (lambda x: x.transpose(0, 3, 1, 2), r"got \(8, 3, 20, 24\). Move the channels last"),
        (lambda x: x[:0], "images must not be empty"),
    ],
)
def test_refused_arrays(pixels, change, message):
    with pytest.raises(DataError, match=message):
        open_data(change(pixels), LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": LABELS[:3]}, "labels must be one for each sample; got 3 labels for 8 samples"),
        ({"labels": [1.5] * 8}, "labels must be text or whole numbers; got 1.5 in sample 0"),
        ({"labels": ["a"] * 7 + [""]}, "labels must be strings or integers; got '' for sample 7"),
        ({"labels": ["a", 1] * 4}, "labels must be all strings or all integers"),
        ({"labels": LABELS, "groups": [1]}, "groups must be one for each sample; got 1 groups for 8"),
        ({"labels": LABELS, "given": ["train"]}, "given must be train, val or test for each sample; got 1 for 8"),
        ({"labels": LABELS, "given": ["x"] * 8}, "given must be train, val or test for each sample; got 'x'"),
        ({"labels": LABELS, "given": ["test"] * 8}, "the given split has no training set"),
    ],
)
def test_labels_groups_and_parts_are_checked(pixels, options, message):
    with pytest.raises(DataError, match=message):
        open_data(pixels, **options)


def test_labels_are_needed_and_kinds_known(pixels):
    with pytest.raises(UsageError, match="labels must come with an array"):
        open_data(pixels)
    with pytest.raises(UsageError, match=r"data must be a folder, a table, .*; got int"):
        open_data(3)


def test_groups_and_given_of_arrays(pixels):
    data = open_data(pixels, LABELS, groups=np.array([1, 1, 2, 3, 4, 5, 6, 2]), given=["train"] * 4 + ["test"] * 4)
    assert data.groups.tolist() == [0, 0, 1, 2, 3, 4, 5, 1]
    assert split_data(data).dropped.tolist() == [2]


def test_lists_of_paths(class_folders):
    root = class_folders({"cat": 2, "dog": 2})
    paths = sorted(root.rglob("*.png"))
    data = open_data(paths, ["x", "x", "y", "y"])
    assert data.files == tuple(map(str, paths))
    assert data.source.read(2) == paths[2].read_bytes()


def hub_table(photo, n: int = 8, start: int = 0) -> datasets.Dataset:
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog", "emu"])}
    )
    columns = {"picture": [photo(start + i, (24, 20)) for i in range(n)], "kind": [i % 2 for i in range(n)]}
    return datasets.Dataset.from_dict(columns, features=features)


def test_hub_dataset(photo):
    data = open_data(hub_table(photo))
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1] * 4
    assert isinstance(data.source.read(0), bytes)
    from thawline.inputs.image.decode import open_image

    np.testing.assert_array_equal(np.asarray(open_image(data.source.read(5))), np.asarray(photo(5, (24, 20))))


def test_hub_splits_and_paths(photo, class_folders):
    both = datasets.DatasetDict({"train": hub_table(photo), "validation": hub_table(photo, 4, 50)})
    data = open_data(both)
    assert data.given.tolist() == ["train"] * 8 + ["val"] * 4
    assert data.files[8] == "validation#0"
    root = class_folders({"cat": 2, "dog": 2})
    files = sorted(map(str, root.rglob("*.png")))
    table = datasets.Dataset.from_dict({"file": files, "label": [0, 0, 1, 1], "who": ["a", "b", "a", "c"]})
    table = table.cast_column("file", datasets.Image())
    data = open_data(table, group_column="who")
    assert data.source.read(1) == (root / "cat/1.png").read_bytes()
    assert data.groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda t: t.remove_columns("picture"),
            {},
            "data must have one Image column, or a column of strings; got 0 Image columns among kind",
        ),
        (lambda t: t.remove_columns("kind"), {}, "data must have a label column; got picture. Give label_column"),
        (
            lambda t: datasets.DatasetDict({"train": t, "unsupervised": t}),
            {},
            "splits must be named .*; got 'unsupervised'",
        ),
        (lambda t: t.to_iterable_dataset(), {}, "got IterableDataset. Load it without streaming=True"),
        (lambda t: t, {"label_column": "kin"}, "no column 'kin'; the columns are picture, kind"),
    ],
)
def test_refused_hub_objects(photo, change, options, message):
    with pytest.raises(DataError, match=message):
        open_data(change(hub_table(photo)), **options)


def test_hub_rows_without_label(photo):
    table = hub_table(photo)
    features = table.features
    columns = {"picture": [photo(1)], "kind": [-1]}
    with pytest.raises(DataError, match="labels must not be missing; 1 of 9 rows have none"):
        open_data(datasets.concatenate_datasets([table, datasets.Dataset.from_dict(columns, features=features)]))
    assert len(list_files(table.remove_columns("kind")).files) == 8


def test_subset(pixels):
    data = open_data(pixels, LABELS, given=["train"] * 6 + ["test"] * 2)
    part = subset(data, [6, 1, 3])
    assert part.files == ("array#6", "array#1", "array#3")
    assert part.labels.tolist() == [0, 1, 1]
    assert part.given.tolist() == ["test", "train", "train"]
    np.testing.assert_array_equal(part.source.read(1), pixels[1])
    assert part.digests == (data.digests[6], data.digests[1], data.digests[3])
    np.testing.assert_array_equal(subset(part, np.array([2])).source.read(0), pixels[3])


def list_files(what):
    return list_unlabelled(what, Columns(), None)


def test_list_files_reads_nothing(class_folders, tmp_path):
    root = class_folders({"cat": 2})
    (root / "bad.jpg").write_text("text")
    asked = [root / "cat/0.png", root / "bad.jpg", root / "gone.png", root / "cat/1.png"]
    found = list_files(asked)
    assert found.files == tuple(map(str, asked))
    assert found.labels is None and found.skipped == ()
    assert found.source.read(3) == (root / "cat/1.png").read_bytes()
    assert list_files(root).files == ("bad.jpg", "cat/0.png", "cat/1.png")
    assert list_files(root / "cat/0.png").files == (str(root / "cat/0.png"),)


def test_list_files_from_tables_and_arrays(class_folders, pixels, photo, encode):
    root = class_folders({"cat": 2})
    (root / "t.csv").write_text("file\ncat/0.png\n../out.png\ngone.png\ncat/1.png\ncat/1.png\n")
    found = list_files(root / "t.csv")
    assert found.files == ("cat/0.png", "cat/1.png", "cat/1.png")
    assert [(s.file, s.reason.split(" /")[0]) for s in found.skipped] == [
        ("../out.png", "leads outside"),
        ("gone.png", "no such file"),
    ]
    pq.write_table(pa.table({"image": [encode(photo(1)), b""]}), root / "t.parquet")
    assert list_files(root / "t.parquet").files == ("t.parquet#0", "t.parquet#1")
    assert len(list_files(pixels).files) == 8


def test_list_files_of_nothing(tmp_path):
    with pytest.raises(MissingDataError, match="does not exist"):
        list_files(tmp_path / "nope.png")
    with pytest.raises(DataError, match="found no pictures"):
        list_files(tmp_path)
    with pytest.raises(DataError, match="the list: found no pictures"):
        list_files([])


def test_first_few():
    assert first_few("abcde") == "'a', 'b', 'c' and 2 more"
    assert first_few("ab") == "'a', 'b'"


def test_importing_the_room_loads_no_numpy():
    code = "import sys, thawline.data; print(sorted({'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    import thawline.data

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        thawline.data.nothing  # noqa: B018
