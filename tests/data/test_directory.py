"""Folders that hold class folders, tables, or both."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thawline.data import open_data
from thawline.errors import DataError

FILES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
TABLE = "\n".join(["file,label", *(f"{file},{file[:3]}" for file in FILES)])


@pytest.fixture
def pets(class_folders):
    """cat/0..2.png and dog/0..2.png."""
    return class_folders({"cat": 3, "dog": 3})


@pytest.fixture
def contest(pets):
    """train/cat0.png ..., test/z.png, without class folders."""
    for part in ("train", "test"):
        (pets / part).mkdir()
    for file in FILES:
        name = file.replace("/", "")
        shutil.copy(pets / file, pets / "train" / name)
    shutil.copy(pets / "cat/0.png", pets / "test/z.png")
    for name in ("cat", "dog"):
        shutil.rmtree(pets / name)
    (pets / "sample_submission.csv").write_text("id,breed\nz,cat\n")
    return pets


IDS = "\n".join(["id,breed", *(f"{file.replace('/', '')[:-4]},{file[:3]}" for file in FILES)])


@pytest.mark.parametrize("unlabelled", ["id\nz\n", "id,breed\nz,\n", "id,width\nz,640\n", "image\nz.png\n"])
def test_a_test_table_without_labels_is_left_out(contest, unlabelled):
    (contest / "train.csv").write_text(IDS)
    (contest / "test.csv").write_text(unlabelled)
    data = open_data(contest)
    assert data.classes == ("cat", "dog")
    assert len(data) == 6
    assert data.given is None
    assert data.warnings[0] == (
        "test.csv has no labels and is left out. Label its pictures afterwards: thawline predict RUN "
        f"{contest / 'test.csv'}"
    )


def test_so_is_one_in_parquet(contest):
    pq.write_table(pa.table({"id": ["train/cat0", "train/dog0"], "label": ["cat", "dog"]}), contest / "train.parquet")
    pq.write_table(pa.table({"id": ["z"]}), contest / "test.parquet")
    data = open_data(contest, trainable=False)
    assert len(data) == 2
    assert "test.parquet has no labels" in data.warnings[0]


def test_a_label_column_of_any_name_is_that_of_the_test_table_too(contest):
    (contest / "train.csv").write_text(IDS.replace("breed", "what"))
    (contest / "test.csv").write_text("id,what\nz,cat\n")
    assert open_data(contest).given.tolist().count("test") == 1
    (contest / "test.csv").write_text("id,kind\nz,cat\n")
    assert open_data(contest).given is None


@pytest.mark.parametrize("name", ["labels.csv", "trainLabels.csv", "metadata.csv"])
def test_the_only_table_is_read_if_there_are_no_class_folders(contest, name):
    (contest / name).write_text(IDS)
    data = open_data(contest)
    assert data.classes == ("cat", "dog")
    assert len(data) == 6
    assert data.warnings[0] == f"{contest} has no class folders: labels are read from {name}, its only table."


@pytest.mark.parametrize("names", [("Training_set.csv", "Testing_set.csv"), ("train_labels.csv", "test_ids.csv")])
def test_tables_that_say_train_and_test_in_a_word(contest, names):
    (contest / names[0]).write_text(IDS)
    (contest / names[1]).write_text("id\nz\n")
    data = open_data(contest)
    assert len(data) == 6
    assert data.given is None
    assert data.warnings[:2] == (
        f"{contest} has no class folders: labels are read from {names[1]}, {names[0]}.",
        f"{names[1]} has no labels and is left out. Label its pictures afterwards: thawline predict RUN "
        f"{contest / names[1]}",
    )
    (contest / names[1]).write_text("id,breed\nz,cat\n")
    assert sorted(open_data(contest).given) == ["test"] + ["train"] * 6


def test_a_split_column_counts_if_one_table_has_all_labels(contest):
    lines = IDS.splitlines()
    split = ["is_valid", *("True" if i % 3 == 2 else "False" for i in range(6))]
    (contest / "train.csv").write_text("\n".join(f"{line},{cell}" for line, cell in zip(lines, split, strict=True)))
    (contest / "test.csv").write_text("id\nz\n")
    assert open_data(contest).given.tolist() == ["train", "train", "val"] * 2
    (contest / "test.csv").write_text("id,breed\nz,cat\n")
    assert sorted(open_data(contest).given) == ["test"] + ["train"] * 6


def test_so_it_is_beside_its_pictures(contest):
    (contest / "train" / "metadata.jsonl").write_text('{"file_name": "cat0.png", "label": "cat"}\n' * 2)
    with pytest.raises(DataError, match="only 'cat'"):
        open_data(contest / "train")


def test_of_several_tables_one_must_be_named(contest):
    shutil.rmtree(contest / "test")
    for name in ("a.csv", "b.csv"):
        (contest / "train" / name).write_text(IDS)
    with pytest.raises(DataError, match=r"6 pictures in none.* Or give one of its tables: a.csv, b.csv"):
        open_data(contest / "train")


def test_a_table_of_something_else_beside_loose_pictures(contest):
    (contest / "train" / "log.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(DataError, match="found 6 pictures in none"):
        open_data(contest / "train")


def test_a_table_beside_class_folders_is_named(pets):
    (pets / "labels.csv").write_text(TABLE.replace(",cat", ",x"))
    data = open_data(pets)
    assert data.classes == ("cat", "dog")
    assert data.warnings[0].startswith("Class folders are read; labels.csv beside them is not.")
    for name in ("class_names.csv", "sampleSubmission.csv", "README.md", ".hidden.csv"):
        (pets / "labels.csv").rename(pets / name)
        assert not [note for note in open_data(pets).warnings if "beside" in note]
        (pets / name).rename(pets / "labels.csv")


def test_class_folders_beside_a_training_table_are_named(pets):
    (pets / "train.csv").write_text(TABLE.replace(",cat", ",x").replace(",dog", ",y"))
    data = open_data(pets)
    assert data.classes == ("x", "y")
    assert data.warnings[0] == (
        "Labels are read from train.csv; the names of the folders beside (cat, dog) are not used."
    )


def test_a_training_table_of_something_else(pets):
    (pets / "train.csv").write_text("epoch,loss\n1,2\n")
    data = open_data(pets)
    assert data.classes == ("cat", "dog")
    assert data.warnings[0] == "Class folders are read; train.csv beside them is not: it is no table of pictures."
    with pytest.raises(DataError, match=r"train.csv: expected a file column"):
        open_data(pets, root=pets)


def test_missing_files_of_part_tables_are_listed(pets):
    (pets / "train.csv").write_text(TABLE + "\ncat/9.png,cat")
    (pets / "test.csv").write_text("file,label\ncat/8.png,cat\ndog/0.png,dog\ncat/1.png,cat")
    data = open_data(pets)
    assert [s.file for s in data.skipped] == ["cat/8.png", "cat/9.png"]
    assert np.sum(data.given == "test") == 2
