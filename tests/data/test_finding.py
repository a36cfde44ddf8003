"""Files that are not where, or not called what, a table says."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from thawline.data import open_data
from thawline.data.doors import list_unlabelled
from thawline.data.tables.columns import Columns
from thawline.data.tables.finding import Folder
from thawline.errors import DataError, MissingDataError

BY_NAME = "found by name in images/; first "
NAMES = [f"{name}{i}" for name in ("cat", "dog") for i in range(3)]


@pytest.fixture
def pictures(class_folders, tmp_path):
    """data/images/cat0.jpg ... dog2.jpg."""
    made = class_folders({"cat": 3, "dog": 3})
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for name in NAMES:
        shutil.move(made / name[:3] / f"{name[3]}.png", images / f"{name}.jpg")
    return images


def table(folder: Path, write, name="t.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f'"{write(each)}",{each[:3]}' for each in NAMES]
    (folder / name).write_text("\n".join(["filename,label", *rows]), encoding="utf-8")
    return folder / name


def opens_whole(data):
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(set(data.digests)) == 6
    return list(data.warnings)


@pytest.mark.parametrize(
    "write",
    [
        lambda name: f"images/{name}.jpg",
        lambda name: f"./images/{name}.jpg",
        lambda name: f"images/../images//{name}.jpg",
        lambda name: f"images/{name}",
        lambda name: f" images/{name}.jpg ",
    ],
)
def test_names_that_need_no_word(pictures, write):
    notes = opens_whole(open_data(table(pictures.parent, write)))
    assert not [note for note in notes if "file name" in note]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda name: f"images\\{name}.jpg",
            r"6 file names with backslashes: these are read as slashes; first images\c",
        ),
        (lambda name: f".\\images\\{name}", "6 file names with backslashes"),
        (lambda name: f"images/{name}.JPG", "6 file names differ in case from the files; first images/cat0.JPG, which"),
        (lambda name: f"Images/{name.upper()}.jpg", "6 file names differ in case"),
        (lambda name: f"{name}.jpg", "6 file names are not where the table says; the pictures were " + BY_NAME),
        (lambda name: name, BY_NAME),
        (lambda name: f"/home/other/proj/images/{name}.jpg", BY_NAME),
        (lambda name: f"/home/other/proj/pics/{name}.jpg", BY_NAME),
        (lambda name: f"C:\\Users\\other\\images\\{name}.jpg", BY_NAME),
        (lambda name: f"D:/images/{name}.JPG", BY_NAME),
        (lambda name: f"file:///home/other/images/{name}.jpg", BY_NAME),
        (lambda name: f"https://example.org/a%20b/{name}.jpg?raw=1", BY_NAME),
        (lambda name: f"../elsewhere/images/{name}.jpg", BY_NAME),
        (lambda name: f"images/{name}.png", "found by name with another suffix in images/"),
    ],
)
def test_names_that_are_read_and_said(pictures, write, said):
    notes = opens_whole(open_data(table(pictures.parent, write)))
    assert any(said in note for note in notes), notes


def test_numbers_that_lost_their_zeros(pictures):
    for i, name in enumerate(NAMES):
        (pictures / f"{name}.jpg").rename(pictures / f"{i:05d}.jpg")
    notes = opens_whole(open_data(table(pictures.parent, NAMES.index)))
    assert any("found by name with zeros before the number in images/" in note for note in notes)


def test_ids_with_dots(pictures):
    for name in NAMES:
        (pictures / f"{name}.jpg").rename(pictures / f"pat.{name}.v1.jpg")
    opens_whole(open_data(table(pictures.parent, lambda name: f"images/pat.{name}.v1")))


def test_the_longest_tail_wins(pictures, photo):
    decoy = pictures.parent / "b" / "images"
    decoy.mkdir(parents=True)
    (pictures.parent / "a").mkdir()
    pictures = pictures.rename(pictures.parent / "a" / "images")
    for i, name in enumerate(NAMES):
        photo(50 + i).save(decoy / f"{name}.jpg")
    data = open_data(table(pictures.parents[1], lambda name: f"/mnt/x/b/images/{name}.jpg"))
    assert data.source.read(0) == (decoy / "cat0.jpg").read_bytes()


def test_two_folders_with_the_same_names_are_refused(pictures):
    shutil.copytree(pictures, pictures.parent / "thumbs")
    path = table(pictures.parent, lambda name: f"{name}.jpg")
    with pytest.raises(DataError, match=r"t.csv: 6 file names may lie in .* or in .*, such as 'cat0.jpg'") as caught:
        open_data(path)
    assert "data/images" in str(caught.value)
    assert "data/thumbs" in str(caught.value)
    opens_whole(open_data(path, root=rooted(caught)))


def test_names_in_class_folders_are_told_by_their_labels(pictures):
    for name in NAMES:
        (pictures / name[:3]).mkdir(exist_ok=True)
        (pictures / f"{name}.jpg").rename(pictures / name[:3] / f"{name[3]}.jpg")
    path = table(pictures.parent, lambda name: f"{name[3]}.jpg")
    notes = opens_whole(open_data(path))
    assert any("found by name in images/cat/, images/dog/; first 0.jpg, which is images/cat/0.jpg" in n for n in notes)
    with pytest.raises(
        DataError, match=r"6 file names may lie in .*/images/cat or in .*/images/dog.* Name one: --root"
    ):
        list_unlabelled(path, Columns(), None)
    (pictures / "cat" / "0.jpg").rename(pictures / "cat" / "7.jpg")
    (pictures / "dog" / "1.jpg").rename(pictures / "dog" / "8.jpg")
    path.write_text("file\n7.jpg\n8.jpg\n2.jpg\n")
    with pytest.raises(DataError, match=r"1 file name may lie in .* Write the folders before the names in the table\."):
        list_unlabelled(path, Columns(), None)


def test_a_root_that_is_not_there(pictures):
    path = table(pictures.parent, lambda name: f"images/{name}.jpg")
    with pytest.raises(MissingDataError, match=r"root .*/imgs is no folder. Give the folder that the file names of"):
        open_data(path, root=pictures.parent / "imgs")


def test_of_a_train_and_a_test_folder_the_table_means_its_own(pictures):
    pictures.rename(pictures.parent / "train")
    shutil.copytree(pictures.parent / "train", pictures.parent / "test")
    data = open_data(table(pictures.parent, lambda name: name, "train.csv"))
    assert "found by name in train/" in opens_whole(data)[0]


def test_pictures_in_several_parts(pictures):
    (pictures.parent / "part_2").mkdir()
    for name in NAMES[1::2]:
        (pictures / f"{name}.jpg").rename(pictures.parent / "part_2" / f"{name}.jpg")
    notes = opens_whole(open_data(table(pictures.parent, lambda name: name)))
    assert any("in images/, part_2/;" in note for note in notes)


def test_few_that_were_set_apart_are_not_fetched_back(pictures):
    (pictures / "held_out").mkdir()
    (pictures / "cat2.jpg").rename(pictures / "held_out" / "cat2.jpg")
    data = open_data(table(pictures, lambda name: f"{name}.jpg"))
    assert len(data) == 5
    assert [(s.file, s.reason) for s in data.skipped] == [
        ("cat2.jpg", "no such file (one of that name is held_out/cat2.jpg)")
    ]


def test_names_in_the_other_form(pictures):
    names = {name: f"gänse{name}" for name in NAMES}
    for form, other in (("NFD", "NFC"), ("NFC", "NFD")):
        folder = pictures.parent / form / unicodedata.normalize(form, "blüten")
        folder.mkdir(parents=True)
        for name, new in names.items():
            shutil.copy(pictures / f"{name}.jpg", folder / unicodedata.normalize(form, f"{new}.jpg"))
        write = lambda name, other=other: unicodedata.normalize(other, f"blüten/{names[name]}.jpg")  # noqa: E731
        notes = opens_whole(open_data(table(folder.parent, write)))
        assert not [note for note in notes if "file name" in note]


@pytest.mark.parametrize("write", [r"images/fl\xf6wer_{}.jpg", "images/fl\u00f6wer_{}.jpg", r"images/fl\xf6wer_{}"])
def test_names_that_are_no_utf8(pictures, write):
    for name in NAMES:
        raw = os.fsencode(pictures) + b"/fl\xf6wer_%b.jpg" % name.encode()
        (pictures / f"{name}.jpg").rename(os.fsdecode(raw))
    opens_whole(open_data(table(pictures.parent, write.format)))


def test_some_missing(pictures):
    path = table(pictures.parent, lambda name: f"images/{'gone_' if name in ('cat1', 'dog0') else ''}{name}.jpg")
    data = open_data(path)
    assert len(data) == 4
    assert [s.file for s in data.skipped] == ["images/gone_cat1.jpg", "images/gone_dog0.jpg"]
    first = "2 files in images, first images/gone_cat1.jpg: no such file."
    assert data.warnings[0] == f"2 of 6 files cannot be used and are left out. {first}"
    with pytest.raises(DataError, match=f"2 of 6 files cannot be read. {first}"):
        open_data(path, strict=True)


def test_a_class_whose_files_are_all_missing(pictures, photo):
    photo(77).save(pictures / "emu0.jpg")
    path = table(pictures.parent, lambda name: f"images/{'gone_' * name.startswith('cat')}{name}.jpg")
    path.write_text(path.read_text() + "\nimages/emu0.jpg,emu\nimages/dog0.jpg,dog")
    with pytest.raises(DataError, match=r"no file of class 'cat' is there \(3 rows\), for one 'images/gone_cat0.jpg'"):
        open_data(path)
    data = open_data(path, drop_empty_classes=True, trainable=False)
    assert data.classes == ("dog", "emu")
    assert "Left out: 1 class without a file that is there ('cat')." in data.warnings


@pytest.mark.parametrize(
    ("write", "place", "message"),
    [
        (lambda name: f"other/x{name}.jpg", "data", "6 of 6 files are not in .*/data: 'other/xcat0.jpg'.* Give root "),
        (lambda name: f"images/{name}.jpg", "data/tables/a", "The first are in (.*/data): give it as root"),
        (lambda name: f"{name}.jpg", "data/tables", "The first are in (.*/data/images): give it as root"),
        (lambda name: f"{name}.jpg", "empty", "There is no picture below that folder. Give root"),
        (lambda name: f"https://example.org/{name}.jpg", "empty", "addresses on the web, and nothing is downloaded"),
        (lambda name: f"about {name}", "data", "If column 'filename' does not hold file names, name the one that does"),
    ],
)
def test_most_missing(pictures, tmp_path, write, place, message):
    path = table(tmp_path / place, write)
    with pytest.raises(DataError, match=message) as caught:
        open_data(path)
    if "give it as root" in message:
        opens_whole(open_data(path, root=str(caught.value).rpartition("--root ")[2].rstrip(").")))


def rooted(caught) -> str:
    return str(caught.value).rpartition("--root ")[2].strip("'")


@pytest.mark.parametrize(
    "write", [lambda p, n: f"{p}/{n}.jpg", lambda p, n: f"file://{p}/{n}.jpg", lambda p, n: f"{p}/{n}"]
)
def test_absolute_paths_name_the_one_root(pictures, tmp_path, write):
    path = table(tmp_path / "tables here", lambda name: write(pictures, name))
    with pytest.raises(
        DataError, match=r"6 of 6 files lead outside .*, where nothing is read unasked: .*cat0"
    ) as caught:
        open_data(path)
    assert rooted(caught) == str(pictures.resolve())
    opens_whole(open_data(path, root=rooted(caught)))
    with pytest.raises(DataError, match="One root holds them all: --root"):
        list_unlabelled(path, Columns(), None)
    assert len(list_unlabelled(path, Columns(), Path(rooted(caught))).files) == 6


def test_one_root_for_files_inside_and_outside(pictures, tmp_path):
    here = tmp_path / "tables"
    shutil.copytree(pictures, here / "near")
    write = lambda name: f"near/{name}.jpg" if name.startswith("cat") else f"../data/images/{name}.jpg"  # noqa: E731
    path = table(here, write)
    with pytest.raises(DataError, match="3 of 6 files lead outside") as caught:
        open_data(path)
    opens_whole(open_data(path, root=rooted(caught)))
    listing = list_unlabelled(path, Columns(), None)
    assert len(listing.files) == 3
    assert len(listing.skipped) == 3
    assert "3 of 6 files lead outside" in listing.warnings[0]


def test_links_that_lead_outside(pictures, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    for name in NAMES:
        (here / f"{name}.jpg").symlink_to(pictures / f"{name}.jpg")
    path = table(here, lambda name: f"{name}.jpg")
    with pytest.raises(DataError, match="6 of 6 files lead outside") as caught:
        open_data(path)
    opens_whole(open_data(path, root=rooted(caught)))
    (here / "linked").symlink_to(pictures, target_is_directory=True)
    with pytest.raises(DataError, match="6 of 6 files lead outside") as caught:
        open_data(table(here, lambda name: f"linked/{name}.jpg"))
    opens_whole(open_data(path, root=rooted(caught)))


def test_links_are_followed_when_asked(pictures, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "linked").symlink_to(pictures, target_is_directory=True)
    (here / "one.jpg").symlink_to(pictures / "cat0.jpg")
    path = table(here, lambda name: "one.jpg" if name == "cat0" else f"linked/{name}.jpg")
    opens_whole(open_data(path, follow_links=True))
    assert len(list_unlabelled(path, Columns(), None, follow_links=True).files) == 6
    path = table(here, lambda name: f"../data/images/{name}.jpg")
    with pytest.raises(DataError, match="6 of 6 files lead outside"):
        open_data(path, follow_links=True)


def test_files_of_another_kind_are_named(pictures):
    for name in NAMES:
        (pictures / f"{name}.jpg").rename(pictures / f"{name}.dcm")
    with pytest.raises(DataError, match=r"6 of 6 files are not in .* There is cat0.dcm instead: a DICOM file: convert"):
        open_data(table(pictures, lambda name: name))


def test_links_inside_are_followed(pictures):
    (pictures.parent / "linked").symlink_to(pictures, target_is_directory=True)
    opens_whole(open_data(table(pictures.parent, lambda name: f"linked/{name}.jpg")))
    (pictures / "cat0.jpg").rename(pictures.parent / "first.jpg")
    (pictures / "cat0.jpg").symlink_to("../first.jpg")
    opens_whole(open_data(pictures.parent / "t.csv"))
    (pictures.parent / "first.jpg").unlink()
    assert open_data(pictures.parent / "t.csv").skipped[0].reason == "a link that leads nowhere"


def test_each_folder_is_listed_once(pictures, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    path = table(pictures.parent, lambda name: f"images/{name}.jpg")
    list_unlabelled(path, Columns(), None)
    assert sorted(listed) == [str(pictures.resolve())]
    listed.clear()
    list_unlabelled(table(pictures.parent, lambda name: f"{name}.jpg"), Columns(), None)
    assert sorted(listed) == sorted({str(pictures.resolve()), str(pictures.parent.resolve())})


def test_what_cannot_be_listed_is_empty(tmp_path):
    assert not Folder(str(tmp_path / "gone")).holds("a.jpg")


def test_a_folder_is_no_file(pictures):
    (pictures / "dog3.jpg").mkdir()
    path = table(pictures.parent, lambda name: f"images/{name if name != 'dog2' else 'dog3'}.jpg")
    assert [s.file for s in open_data(path).skipped] == ["images/dog3.jpg"]
