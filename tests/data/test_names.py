"""Names that people have on their disks: other encodings, two forms of one name, letters that steer a terminal."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thawline.data import open_data
from thawline.data.doors import list_unlabelled
from thawline.data.tables.columns import Columns
from thawline.errors import DataError

JOINED, APART = "p\u00e2querette", "pa\u0302querette"
LATIN1 = os.fsdecode("pâquerette".encode("latin-1"))
ODD = {
    "latin1": LATIN1,
    "no utf-8 at all": os.fsdecode(b"\xff\xfe\x80"),
    "a line": "a\nb",
    "a tab": "a\tb",
    "quotes": "\"a'b",
    "percent": "100%s%d",
    "html": "<b>x",
    "markup": "[bold]x[&]",
    "emoji": "\N{BLOSSOM}",
    "right to left": "a\u202eb",
    "dash": "-x",
    "formula": "=1+1",
    "blanks": "   ",
    "windows": "CON",
    "apart": APART,
    "backslash": r"a\xe9",
}


def noise(place: Path, seed: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(place, "PNG")


def pictures(root: Path, classes: dict[str, int], name: str = "{i}.png") -> Path:
    seed = sum(map(ord, str(classes)))
    for folder, n in classes.items():
        for i in range(n):
            noise(root / folder / name.format(i=i), seed := seed + 1)
    return root


def counted(data: Any) -> dict[str, int]:
    return dict(Counter(data.classes[label] for label in data.labels))


def about_forms(data: Any) -> list[str]:
    assert not any("differ only" in warning for warning in data.warnings)
    return [warning for warning in data.warnings if "in two forms" in warning]


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_odd_names_of_classes_and_files_are_read(tmp_path: Path, name: str) -> None:
    data = open_data(
        pictures(tmp_path / name, {name: 2, "other": 2}, name + "{i}.png" if "%" not in name else "{i}.png")
    )
    for text in (data.name, *data.classes, *data.files, *data.warnings):
        text.encode()
    assert len(data) == 4
    assert sorted(counted(data).values()) == [2, 2]
    assert data.source.read(0).startswith(b"\x89PNG")
    assert about_forms(data) == []


def test_a_name_that_is_no_utf8_is_written_so_that_the_file_can_be_told(tmp_path: Path) -> None:
    data = open_data(pictures(tmp_path, {LATIN1: 2, "tulip": 2}))
    assert data.classes == (r"p\xe2querette", "tulip")
    assert data.files[0] == r"p\xe2querette/0.png"
    assert data.root is not None
    assert data.source.read(1) == (data.root / LATIN1 / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (JOINED, APART),
        (APART, JOINED),
        (JOINED, JOINED),
        (APART, APART),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
    ],
)
def test_two_forms_of_a_name_are_one_class_of_a_split(tmp_path: Path, train: str, test: str) -> None:
    data = open_data(pictures(tmp_path, {f"train/{train}": 3, "train/tulip": 3, f"test/{test}": 2, "test/tulip": 2}))
    assert data.given is not None
    assert len(data.classes) == 2 and "tulip" in data.classes
    assert sorted(counted(data).values()) == [5, 5]
    assert Counter(data.given) == {"train": 6, "test": 4}
    assert len(about_forms(data)) == (train != test)


def test_two_folders_side_by_side_in_two_forms_are_one_class(tmp_path: Path) -> None:
    data = open_data(pictures(tmp_path, {JOINED: 2, APART: 3, "tulip": 2}))
    assert counted(data) == {JOINED: 5, "tulip": 2}
    assert about_forms(data) == [
        f"Class '{JOINED}' stands under names in two forms, accents joined to their letters and apart, which are taken "
        "as one."
    ]
    assert len(set(data.files)) == 7


def test_one_form_alone_keeps_the_order_of_classes(tmp_path: Path) -> None:
    assert open_data(pictures(tmp_path / "apart", {APART: 2, "pb": 2})).classes == (JOINED, "pb")
    assert open_data(pictures(tmp_path / "joined", {JOINED: 2, "pb": 2})).classes == ("pb", JOINED)


def test_labels_of_a_table_and_of_a_list_are_matched_too(tmp_path: Path) -> None:
    pictures(tmp_path, {"x": 6})
    rows = [f"x/{i}.png,{label}" for i, label in enumerate([JOINED, APART, "b", "b", APART, "b"])]
    (tmp_path / "table.csv").write_text("\n".join(["filename,label", *rows]), encoding="utf-8")
    assert counted(open_data(tmp_path / "table.csv")) == {JOINED: 3, "b": 3}
    files = [tmp_path / "x" / f"{i}.png" for i in range(4)]
    data = open_data(files, [APART, JOINED, "b", "b"], class_names=["b", APART])
    assert counted(data) == {JOINED: 2, "b": 2}
    assert len(about_forms(data)) == 1
    with pytest.raises(DataError, match=f"'{JOINED}' is not among them"):
        open_data(files, [APART, JOINED, "b", "b"], class_names=["b"])


def test_names_of_classes_by_number_are_written(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for seed, file in enumerate(files):
        noise(file, seed)
    assert open_data(files, [0, 0, 1, 1], class_names=[LATIN1, APART]).classes == (r"p\xe2querette", JOINED)


@pytest.mark.parametrize("key", [f"{JOINED}/0.png", f"{APART}/0.png"])
def test_groups_name_files_in_either_form(tmp_path: Path, key: str) -> None:
    pictures(tmp_path, {APART: 2, LATIN1: 2})
    for other in (f"{LATIN1}/0.png", r"p\xe2querette/0.png"):
        data = open_data(tmp_path, groups={key: "one", other: "one"})
        of = dict(zip(data.files, data.groups.tolist(), strict=True))
        assert of[f"{APART}/0.png"] == of[r"p\xe2querette/0.png"] != of[f"{APART}/1.png"]


def test_long_names_are_read(tmp_path: Path) -> None:
    data = open_data(pictures(tmp_path, {"x" * 250: 2, "é" * 120: 2}, "n" * 240 + "{i}.png"))
    assert len(data) == 4


def test_scans_of_files_with_odd_names_are_remembered(tmp_path: Path) -> None:
    folder = pictures(tmp_path, {LATIN1: 2, "tulip": 2})
    for file in folder.rglob("*.png"):
        os.utime(file, (1e9, 1e9))
    stamp = open_data(folder).source.stamp(0)  # type: ignore[attr-defined]
    assert stamp is not None and stamp.key.endswith(r"p\xe2querette/0.png")


def test_pictures_to_predict_on_are_named_as_they_can_be_written(tmp_path: Path) -> None:
    noise(tmp_path / os.fsdecode(b"fl\xf6wer.png"), 1)
    for what in (tmp_path, [tmp_path / os.fsdecode(b"fl\xf6wer.png")]):
        listing = list_unlabelled(what, Columns(), None)
        assert listing.files[0].endswith(r"fl\xf6wer.png")
        assert listing.source.read(0).startswith(b"\x89PNG")
