"""Every file below a class folder is used, or listed with its reason; no class vanishes without a word."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thawline.data import open_data
from thawline.data.folders.opening import list_samples
from thawline.data.passed_over import sentences
from thawline.errors import DataError
from thawline.records import Skipped

Make = Callable[..., Path]
DICOM = bytes(128) + b"DICM" + bytes(300)
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'


def packed(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        zipfile.ZipFile(file, "w").writestr("a.txt", "x")
    else:
        np.save(file, np.zeros((4, 4)))
    return file.getvalue()


@pytest.fixture
def pets(class_folders: Make) -> Path:
    return class_folders({"cat": 3, "dog": 3})


def add(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("{}.dcm", DICOM, "6 files in rose end in .dcm: each a DICOM file: convert it to PNG with a DICOM tool"),
        ("IM{}", DICOM, "6 files in rose have no suffix: each a DICOM file: convert it to PNG"),
        ("{}.npy", packed("npy"), "6 files in rose end in .npy: each a NumPy array"),
        ("{}", packed("npy"), "6 files in rose have no suffix: each a NumPy array"),
        ("{}.nii.gz", gzip.compress(bytes(400)), "each a medical volume: save its slices as PNG"),
        ("{}.nii", bytes(344) + b"n+1\0", "each a medical volume"),
        ("{}.svg", SVG, "6 files in rose end in .svg: each a drawing without pixels: save it as PNG"),
        ("{}.NEF", b"MM\0*" + bytes(500), "6 files in rose end in .nef: each a raw file of a camera: develop it"),
        ("{}.cr2", b"II*\0" + bytes(500), "each a raw file of a camera"),
        ("{}.psd", b"8BPS" + bytes(99), "each a file of a picture editor: save it as PNG"),
        ("{}.mp4", b"\0\0\0\x18ftypisom" + bytes(99), "each a video: save its frames as JPEG"),
        ("{}.pdf", b"%PDF-1.4\n", "each a document: save its pages as PNG"),
        ("{}.zip", packed("zip"), "each an archive: unpack it"),
        ("{}.ico", b"\0\0\1\0\1\0" + bytes(99), "each a picture in a format that is not read: save it as PNG or JPEG"),
        ("{}.jpg.download", b"\xff\xd8\xff\xe0", "6 files in rose end in .download: each an unfinished download"),
        ("{}.txt", b"not here", "holds no picture, only 6 files of other kinds (.txt)"),
        (".{}.jpg", b"hidden", "The folder rose is empty."),
        ("{}", bytes(range(40)), "6 files in rose have no suffix: not a picture in any format that is read"),
        ("p{}/scan.dcm", DICOM, "6 files in 6 folders of rose end in .dcm: each a DICOM file"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,  # archives hold the time
)  # fmt: skip
def test_a_class_that_would_vanish_stops(pets: Path, name: str, content: bytes, said: str) -> None:
    add(pets, {f"rose/{name.format(i)}": content for i in range(6)})
    with pytest.raises(DataError) as refused:
        open_data(pets)
    text = str(refused.value)
    assert "class 'rose' has no picture. " in text
    assert said in text
    assert "--drop-empty-classes (drop_empty_classes=True)" in text
    data = open_data(pets, drop_empty_classes=True)
    assert data.classes == ("cat", "dog")
    assert any("Left out: class 'rose' has no picture" in warning for warning in data.warnings)
    assert open_data(pets, trainable=False).classes == ("cat", "dog")


def test_an_empty_class_folder(pets: Path) -> None:
    (pets / "rose").mkdir()
    with pytest.raises(DataError, match=r"class 'rose' has no picture\. The folder rose is empty\. Put that right"):
        open_data(pets)
    (pets / "tulip/inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"The same holds for 1 more\."):
        open_data(pets)
    assert open_data(pets, drop_empty_classes=True).classes == ("cat", "dog")


def test_an_empty_folder_beside_the_folder_of_classes(class_folders: Make) -> None:
    root = class_folders({"pets/cat": 2, "pets/dog": 2, "rest": 0})
    with pytest.raises(DataError, match=r"The folder rest is empty\. Put that right, remove the folder rest, or go on"):
        open_data(root)
    data = open_data(root, drop_empty_classes=True)
    assert data.classes == ("cat", "dog")
    assert "Folders beside 'pets' are left out: 'rest'." in data.warnings
    (root / "rest").rmdir()
    assert open_data(root).classes == ("cat", "dog")


def test_empty_folders_of_a_split(class_folders: Make) -> None:
    counts = {"train/cat": 3, "train/dog": 3, "train/eel": 0, "test/cat": 1, "test/dog": 1, "test/eel": 2}
    root = class_folders(counts)
    with pytest.raises(
        DataError, match=r"class 'eel' has no picture to train on\. The folder train/eel is empty.*folder train/eel,"
    ):
        open_data(root)
    data = open_data(root, drop_empty_classes=True)
    assert (data.classes, len(data)) == (("cat", "dog"), 8)
    data = open_data(class_folders(counts | {"train/eel": 2, "test/eel": 0}, "whole"))
    assert data.classes == ("cat", "dog", "eel")
    assert any("'eel' has no picture in a part of the data. The folder test/eel is empty." in w for w in data.warnings)


def test_a_class_of_unreadable_files(pets: Path) -> None:
    add(pets, {f"rose/{i}.jpg": b"version https://git-lfs.github.com/spec/v1\noid" for i in range(4)})
    with pytest.raises(DataError, match=r"no file of class 'rose' can be read\. 4 files in rose end in \.jpg: each"):
        open_data(pets)
    data = open_data(pets, drop_empty_classes=True)
    assert (data.classes, sorted(set(data.labels.tolist())), len(data.skipped)) == (("cat", "dog"), [0, 1], 4)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (".download", "download"),
        (".crdownload", "download"),
        (".part", "download"),
        (".bak", "backup"),
        ("~", "backup"),
    ],
)
def test_half_of_a_class_is_left_out_with_a_word(class_folders: Make, ending: str, reason: str) -> None:
    pets = class_folders({"cat": 3, "dog": 5})
    for i in range(2):
        (pets / f"dog/{i}.png").rename(pets / f"dog/{i}.png{ending}")
    data = open_data(pets)
    assert Counter(data.classes[label] for label in data.labels) == {"cat": 3, "dog": 3}
    assert [skipped.file for skipped in data.skipped] == [f"dog/{i}.png{ending}" for i in range(2)]
    assert all(reason in skipped.reason for skipped in data.skipped)
    assert data.warnings[0].startswith("2 of 8 files cannot be used and are left out. 2 files in dog end in ")
    with pytest.raises(DataError, match=r"2 of 8 files cannot be read\. 2 files in dog end in"):
        open_data(pets, strict=True)


@pytest.mark.parametrize("name", ["rose_{}", "{}.jpg_large", "{}.dat", "{}.JPG_orig", "p/{}.1"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_content_decides_where_the_name_says_nothing(
    pets: Path, photo: Callable[..., Image.Image], encode: Callable[..., bytes], name: str, form: str
) -> None:
    add(pets, {f"rose/{name.format(i)}": encode(photo(900 + i, (40, 30)), form) for i in range(2)})
    data = open_data(pets)
    assert (data.classes, len(data), data.skipped) == (("cat", "dog", "rose"), 8, ())
    assert any("2 files in rose " in w and "are read as pictures: the content says so" in w for w in data.warnings)
    assert open_data(pets, strict=True).classes == data.classes


def test_pictures_with_the_names_of_notes_are_read_where_there_are_no_others(
    pets: Path, photo: Callable[..., Image.Image], encode: Callable[..., bytes]
) -> None:
    add(pets, {f"hen/{i}.txt": encode(photo(900 + i), "JPEG") for i in range(4)} | {"hen/list.csv": b"a,b"})
    data = open_data(pets)
    assert Counter(data.labels.tolist())[data.classes.index("hen")] == 4
    assert any("4 files in hen end in .txt and are read as pictures" in warning for warning in data.warnings)
    assert not data.skipped


def test_what_nobody_misses_needs_no_word(pets: Path) -> None:
    names = "a.txt b.json c.xml d.csv e.md Thumbs.db desktop.ini .DS_Store ._0.png README LICENSE 0.png:Zone.Identifier"
    add(pets, {f"cat/{name}": b"x\0" for name in names.split()})
    add(pets, {"cat/0.mat": b"MATLAB 5.0\0\1", "cat/0.png.cat": b"1 2 3", "cat/1.pts": b"4 5", "dog/2.nef": b"MM\0*"})
    data = open_data(pets, strict=True)
    assert (len(data), data.skipped) == (6, ())
    assert all("fewer than 10" in warning for warning in data.warnings)


def test_a_lone_raw_file_or_note_is_listed(pets: Path) -> None:
    add(pets, {"cat/9.mat": b"MATLAB 5.0\0\1", "cat/other.pts": b"4 5", "dog/9.nef": b"MM\0*"})
    assert [skipped.file for skipped in open_data(pets).skipped] == ["cat/9.mat", "cat/other.pts", "dog/9.nef"]


def test_pipes_and_files_that_cannot_be_opened(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(pets / "cat/pipe")
    add(pets, {"dog/empty": b""})
    reasons = {skipped.file: skipped.reason for skipped in open_data(pets).skipped}
    assert reasons == {"cat/pipe": "not a regular file", "dog/empty": "the file is empty (0 bytes)"}


def test_ordinary_files_are_not_opened_when_they_are_listed(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    add(pets, {"cat/notes.txt": b"x"})
    monkeypatch.setattr("thawline.data.folders.collecting.read_file", refuse)
    monkeypatch.setattr(Path, "resolve", lambda self, strict=False: self)
    assert len(list_samples(pets).files) == 6


def test_loose_pictures_are_counted(pets: Path, photo: Callable[..., Image.Image]) -> None:
    photo(1, (40, 30)).save(pets / "loose.png")
    assert any("1 picture in no class folder is left out; first loose.png." in w for w in open_data(pets).warnings)


def test_a_folder_to_predict_on_lists_what_it_passes_over(pets: Path) -> None:
    add(
        pets,
        {
            "a.dcm": DICOM,
            "dog/b.jpg.part": b"\xff\xd8\xff",
            "notes.txt": b"x",
            "dog/c": (pets / "dog/0.png").read_bytes(),
        },
    )
    listing = list_samples(pets)
    assert len(listing.files) == 7
    assert [skipped.file for skipped in listing.skipped] == ["a.dcm", "dog/b.jpg.part"]


def test_a_folder_of_other_files_alone(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    add(tmp_path, {"photos.zip": packed("zip")})
    with pytest.raises(DataError, match=r"none of its files can be used\. photos\.zip: an archive: unpack it\."):
        open_data(tmp_path)
    photo(1, (30, 20)).save(tmp_path / "picture", "PNG")
    with pytest.raises(DataError, match=r"expected one folder for each class; found 1 pictures in none"):
        open_data(tmp_path)


def test_sentences() -> None:
    alike = [Skipped(f"a/{i}.x", "a thing") for i in range(3)]
    assert sentences([*alike, Skipped("b.jpg", "torn")]) == ["3 files in a end in .x: each a thing.", "b.jpg: torn."]
    spread = [Skipped(f"a/p{i}/s.x", "odd") for i in range(5)]
    assert sentences(spread) == ["5 files in 5 folders of a end in .x: odd."]
    many = [Skipped(f"{i}.jpg", f"reason {i}") for i in range(9)]
    assert sentences(many)[4:] == ["5 more are listed with their reasons."]
    assert sentences([Skipped(f"array#{i}", "torn") for i in range(2)]) == ["2 samples, first array#0: torn."]


def test_class_names_without_samples_are_said(photo: Callable[..., Image.Image]) -> None:
    pictures = np.stack([np.asarray(photo(i, (20, 20))) for i in range(6)])
    data = open_data(pictures, [0, 0, 0, 2, 2, 2], class_names=["cat", "dog", "eel"])
    assert data.classes == ("cat", "eel")
    assert any("1 of 3 class names has no sample and stand for no class here: 'dog'." in w for w in data.warnings)
