"""Links that lead out of a data folder are read if that is asked for, and only then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from thawline.data import open_data
from thawline.data.folders.opening import list_samples
from thawline.errors import DataError, UsageError

Make = Callable[..., Path]


@pytest.fixture
def store(class_folders: Make) -> Path:
    return class_folders({"cat": 3, "dog": 3}, "store")


def linked(tmp_path: Path, store: Path) -> Path:
    root = tmp_path / "linked"
    for file in sorted(store.glob("*/*")):
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / file.parent.name / file.name).symlink_to(file)
    return root


def test_links_to_files(tmp_path: Path, store: Path) -> None:
    root = linked(tmp_path, store)
    with pytest.raises(DataError, match=r"3 links in cat, first cat/0.png: each a link that leads out.*--follow-links"):
        open_data(root)
    data = open_data(root, follow_links=True)
    assert data.files == tuple(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3))
    assert data.skipped == ()
    assert open_data(**(data.opened or {})).digests == data.digests  # a run that is resumed reads the same
    assert list_samples(root).files == ()
    assert len(list_samples(root, follow_links=True).files) == 6


def test_one_class_of_links_among_others(class_folders: Make, store: Path) -> None:
    root = class_folders({"eel": 2, "fox": 2})
    (root / "cat").symlink_to(store / "cat")
    with pytest.raises(DataError, match=r"class 'cat' has no picture\. cat: a link that leads out.*--follow-links"):
        open_data(root)
    assert open_data(root, follow_links=True).classes == ("cat", "eel", "fox")
    assert open_data(root, drop_empty_classes=True).classes == ("eel", "fox")


@pytest.mark.parametrize("wrapped", [False, True])
def test_links_to_parts_and_to_the_data(tmp_path: Path, class_folders: Make, store: Path, wrapped: bool) -> None:
    root = class_folders({"train/cat": 2, "train/dog": 2})
    (root / "test").symlink_to(store)
    if wrapped:
        (tmp_path / "outer").mkdir()
        (tmp_path / "outer/data").symlink_to(root)
        root = tmp_path / "outer"
        with pytest.raises(DataError, match="data: a link that leads outside"):
            open_data(root)
    else:
        assert any("test is a link that leads outside the folder" in warning for warning in open_data(root).warnings)
    data = open_data(root, follow_links=True)
    assert Counter(data.given) == {"train": 4, "test": 6}


def test_circles_end_and_no_file_is_read_twice(tmp_path: Path, class_folders: Make, store: Path) -> None:
    root = class_folders({"cat": 2, "dog": 2})
    (root / "cat/self").symlink_to(root / "cat")
    (root / "cat/up").symlink_to(root)
    (root / "cat/out").symlink_to(store / "cat")
    (root / "cat/out_again").symlink_to(store / "cat")
    (root / "cat/same.png").symlink_to(root / "cat/0.png")
    (root / "dog/loop").symlink_to(root / "dog/loop")
    (store / "cat/back").symlink_to(tmp_path)
    data = open_data(root, follow_links=True)
    assert Counter(data.classes[label] for label in data.labels) == {"cat": 5, "dog": 2}
    assert {skipped.file: skipped.reason for skipped in data.skipped} == {
        "cat/self": "a link that leads in a circle",
        "cat/up": "a link that leads in a circle",
        "cat/out/back": "a link that leads in a circle",
        "cat/out_again": "a link to a folder that is read already",
        "cat/same.png": "a link to a file that is read already",
        "dog/loop": "a link that leads nowhere",
    }


def test_many_ways_through_few_folders_take_little_time(class_folders: Make) -> None:
    root = class_folders({"cat": 2, "dog": 2})
    for i in range(30):
        (root / f"cat/n{i}").mkdir()
    for i in range(29):
        for name in ("a", "b"):
            (root / f"cat/n{i}/{name}").symlink_to(root / f"cat/n{i + 1}")
    assert len(open_data(root, follow_links=True)) == 4


def test_a_table_has_no_level_and_an_array_no_links(store: Path) -> None:
    table = store / "table.csv"
    table.write_text("filename,label\ncat/0.png,cat\ndog/0.png,dog\n")
    with pytest.raises(
        UsageError, match=r"class_level \(--class-level\) goes with a folder of class folders, not with"
    ):
        open_data(table, class_level=1)
    with pytest.raises(
        UsageError, match=r"follow_links \(--follow-links\) goes with a folder or a table, not with a list"
    ):
        open_data([store / "cat" / "0.png"], ["cat"], follow_links=True)
