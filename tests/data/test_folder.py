from __future__ import annotations

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from thawline.data import open_data
from thawline.errors import DataError, MissingDataError, UsageError


def but_rare(data):
    """The warnings without the one about few samples, which all these tiny data sets earn."""
    assert "have fewer than 10 samples" in data.warnings[-1]
    return data.warnings[:-1]


def classes_of(data) -> dict[str, int]:
    return dict(Counter(data.classes[label] for label in data.labels))


def test_class_folders(class_folders):
    data = open_data(class_folders({"dog": 3, "cat": 2}))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert data.files == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png")
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.groups.tolist() == [0, 1, 2, 3, 4]
    assert data.given is None
    assert data.skipped == but_rare(data) == ()
    assert np.asarray(Image.open(data.root / data.files[3])).shape == (30, 40, 3)
    assert data.source.read(3) == (data.root / "dog/1.png").read_bytes()


def test_numeric_classes_are_sorted_by_number(class_folders):
    assert open_data(class_folders({"10": 2, "9": 2, "1": 2})).classes == ("1", "9", "10")


def test_a_single_folder_around_the_classes_is_passed_through(class_folders):
    data = open_data(class_folders({"all/cat": 2, "all/dog": 2}))
    assert data.classes == ("cat", "dog")
    assert data.files[0] == "all/cat/0.png"


def test_folders_below_a_class_belong_to_it(class_folders):
    data = open_data(class_folders({"cat/old": 2, "cat/new": 1, "dog": 2}))
    assert classes_of(data) == {"cat": 3, "dog": 2}


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "dev"])
def test_split_folders(class_folders, val):
    counts = {"train/cat": 3, "train/dog": 2, f"{val}/cat": 1, "test/cat": 1, "test/dog": 2}
    data = open_data(class_folders(counts))
    assert data.classes == ("cat", "dog")
    assert Counter(data.given) == {"train": 5, "val": 1, "test": 3}
    assert {file.split("/")[0] for file, part in zip(data.files, data.given, strict=True) if part == "val"} == {val}


def test_a_class_may_be_called_train(class_folders):
    data = open_data(class_folders({"train": 2, "bus": 2}))
    assert data.classes == ("bus", "train")
    assert data.given is None


def test_what_lies_beside_the_split_folders_is_said(class_folders):
    root = class_folders({"train/cat": 2, "train/dog": 2, "extra/cat": 1, "test": 3})
    data = open_data(root)
    assert len(data) == 4
    assert but_rare(data) == (
        "Folders beside the train and test folders are left out: 'extra'.",
        "3 pictures in test are in no class folder and are left out.",
    )


def test_stray_files_are_passed_over_silently(class_folders):
    root = class_folders({"cat": 2, "dog": 2, ".git": 1})
    for name in ("readme.txt", "cat/.DS_Store", "cat/._0.jpg", "dog/notes.txt", "dog/Thumbs.db"):
        (root / name).write_text("x")
    data = open_data(root)
    assert len(data) == 4
    assert data.skipped == ()


def test_unreadable_files_are_listed_and_left_out(class_folders):
    root = class_folders({"cat": 3, "dog": 3})
    whole = (root / "cat/0.png").read_bytes()
    (root / "cat/0.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat/zero.jpg").write_bytes(b"")
    (root / "dog/text.jpg").write_text("hello")
    (root / "dog/lies.jpg").write_bytes((root / "dog/0.png").read_bytes()[:])
    (root / "dog/phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    data = open_data(root)
    assert [(skipped.file, skipped.reason) for skipped in data.skipped] == [
        ("cat/0.png", "a truncated PNG file: its data end before the picture does"),
        ("cat/zero.jpg", "the file is empty (0 bytes)"),
        ("dog/phone.HEIC", "a damaged HEIC file: Invalid input: Unspecified: No meta box found"),
        ("dog/text.jpg", "not a picture: its content is text"),
    ]
    assert classes_of(data) == {"cat": 2, "dog": 4}  # a PNG called .jpg is fine
    assert data.source.read(2) == (root / data.files[2]).read_bytes()
    assert data.warnings[0] == (
        "4 of 10 files cannot be used and are left out. cat/0.png: a truncated PNG file: its data end before the "
        "picture does. cat/zero.jpg: the file is empty (0 bytes). dog/phone.HEIC: a damaged HEIC file: Invalid input: "
        "Unspecified: No meta box found. dog/text.jpg: not a picture: its content is text."
    )
    with pytest.raises(
        DataError, match=r"pets: 4 of 10 files cannot be read. cat/0.png: a truncated .*\. cat/zero.jpg"
    ):
        open_data(root, strict=True)


def test_links_that_lead_outside_are_skipped(class_folders, tmp_path):
    root = class_folders({"cat": 2, "dog": 2})
    outside = class_folders({"secret": 1}, "elsewhere")
    (root / "cat/out.png").symlink_to(outside / "secret/0.png")
    (root / "cat/in.png").symlink_to(root / "cat/0.png")
    (root / "cat/lost.png").symlink_to(root / "nowhere.png")
    (root / "dog/folder").symlink_to(root / "cat")
    (root / "bird").symlink_to(outside / "secret")
    (root / "dog/circle.png").symlink_to(root / "dog/circle.png")
    unread = "which is read with --follow-links (follow_links=True)"
    with pytest.raises(DataError, match=r"class 'bird' has no picture\. bird: a link that leads outside the folder"):
        open_data(root)
    data = open_data(root, drop_empty_classes=True)
    assert {skipped.file: skipped.reason for skipped in data.skipped} == {
        "cat/out.png": f"a link that leads outside the folder, {unread}",
        "cat/lost.png": "a link that leads nowhere",
        "dog/circle.png": "a link that leads nowhere",
        "dog/folder": f"a link to a folder, {unread}",
        "bird": f"a link that leads outside the folder, {unread}",
    }
    assert classes_of(data) == {"cat": 3, "dog": 2}


def test_links_that_would_lead_in_circles_or_out_by_a_split_folder(class_folders, tmp_path):
    outside = class_folders({"cat": 2, "dog": 2}, "elsewhere")
    root = class_folders({"train/cat": 2, "train/dog": 2})
    (root / "test").symlink_to(outside)
    data = open_data(root)
    assert [file.split("/")[0] for file in data.files] == ["train"] * 4
    assert but_rare(data) == (
        "Folders beside the train and test folders are left out: 'test'.",
        "test is a link that leads outside the folder, which is read with --follow-links (follow_links=True).",
    )
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle" / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(DataError, match=r"can be used. circle: a link to a folder"):
        open_data(tmp_path / "circle")


def test_a_folder_that_cannot_be_listed(class_folders, monkeypatch):
    root = class_folders({"cat": 2, "dog": 2})

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"pets cannot be listed: Permission denied\."):
        open_data(root)


def test_groups_of_a_folder(class_folders):
    data = open_data(class_folders({"cat": 2, "dog": 3}), groups={"cat/0.png": "p1", "dog/2.png": "p1"})
    assert data.groups.tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(UsageError, match="groups of a folder must be a mapping"):
        open_data(data.root, groups=[1, 2])


def test_missing_path(tmp_path):
    with pytest.raises(MissingDataError, match=r"nope does not exist. Give a folder of class folders"):
        open_data(tmp_path / "nope")


def test_a_single_picture(class_folders):
    with pytest.raises(DataError, match=r"0.png: expected a folder or a table \(\.csv, .*\); got a single file"):
        open_data(class_folders({"cat": 2}) / "cat/0.png")


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match="expected one folder of pictures for each class; found no pictures"):
        open_data(tmp_path)


def test_loose_pictures(class_folders):
    with pytest.raises(DataError, match=r"expected one folder for each class; found 3 pictures in none. Put each"):
        open_data(class_folders({"cat": 3}) / "cat")


def test_one_class(class_folders):
    with pytest.raises(DataError, match="expected two classes or more; found only 'cat'"):
        open_data(class_folders({"cat": 3}))


def test_a_class_with_one_picture(class_folders):
    with pytest.raises(DataError, match="class 'dog' has one sample, which cannot be both trained on and tested"):
        open_data(class_folders({"cat": 3, "dog": 1}))
    assert len(open_data(class_folders({"train/cat": 1, "train/dog": 1, "test/cat": 1}, "given"))) == 3


def test_a_class_that_the_given_split_does_not_train(class_folders):
    with pytest.raises(DataError, match="the given split has no training sample of class 'dog'"):
        open_data(class_folders({"train/cat": 2, "train/cow": 2, "test/dog": 2}))


def test_every_file_unreadable(class_folders):
    root = class_folders({"cat": 2, "dog": 2})
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"4 of 4 files cannot be read. 2 files in cat end in .png: the file is empty"):
        open_data(root)


def test_no_file_of_a_class_readable(class_folders):
    root = class_folders({"cat": 2, "dog": 2})
    for path in (root / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no file of class 'dog' can be read"):
        open_data(root)


def test_only_links_outside(class_folders, tmp_path):
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(class_folders({name: 2}) / name)
    with pytest.raises(DataError, match=r"none of its 2 files .*\. 2 links, first cat: each a link that leads outside"):
        open_data(tmp_path / "linked")


def test_all_black_pictures(class_folders):
    root = class_folders({"cat": 4, "dog": 4})
    for i, path in enumerate((root / "cat").iterdir()):
        Image.new("RGB", (30 + i, 30), (i % 3,) * 3).save(path)
    assert but_rare(open_data(root)) == (
        "4 of 8 pictures have almost no contrast (all black, or all of one colour), as if they had been saved wrongly; "
        "look at cat/0.png before you believe a score.",
    )


def test_copies_and_contradictions_are_said(class_folders):
    root = class_folders({"cat": 3, "dog": 3})
    shutil.copy(root / "cat/0.png", root / "cat/copy.png")
    shutil.copy(root / "cat/1.png", root / "dog/other.png")
    data = open_data(root)
    assert but_rare(data) == (
        "2 of 8 samples repeat the content of another. Copies stay on one side of the split.",
        "1 picture stands under two classes with identical content, for one cat/1.png (cat) and dog/other.png (dog).",
    )
    assert data.groups[0] == data.groups[data.files.index("cat/copy.png")]


def test_columns_do_not_go_with_folders(class_folders):
    root = class_folders({"cat": 2, "dog": 2})
    with pytest.raises(UsageError, match="columns can be named for tables"):
        open_data(root, label_column="x")
    with pytest.raises(UsageError, match="labels go with arrays and lists of paths"):
        open_data(root, ["cat"])
    with pytest.raises(UsageError, match="given does not go with a folder"):
        open_data(root, given=["train"])
    with pytest.raises(UsageError, match="kind must be one of auto, folder"):
        open_data(root, kind="floder")


def test_real_folders(real_data):
    bees = open_data(real_data / "hymenoptera")
    assert (len(bees), bees.classes, Counter(bees.given)) == (398, ("ants", "bees"), {"train": 245, "test": 153})
    flowers = open_data(real_data / "flowers5_128")
    assert flowers.warnings[0].startswith("6 of 4317 samples repeat")
    assert any(warning.startswith("4 pictures stand under two classes") for warning in flowers.warnings)
    black = open_data(real_data / "brain_mri_black")
    assert black.warnings[0].startswith("253 of 253 pictures have almost no contrast")
    assert os.fspath(black.root) == os.fspath(real_data / "brain_mri_black")


def test_rare_classes_are_said(class_folders):
    data = open_data(class_folders({"cat": 12, "dog": 4, "eel": 3}))
    assert data.warnings == (
        "2 of 3 classes have fewer than 10 samples ('eel' has 3): their scores, and the choice of settings, "
        "will be uncertain.",
    )
    assert open_data(class_folders({"ant": 10, "bee": 10}, folder="enough")).warnings == ()
