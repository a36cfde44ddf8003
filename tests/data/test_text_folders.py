"""Folders of texts: told from folders of pictures by what lies in them; what is not read is said."""

from __future__ import annotations

import pytest

from thawline.data import open_data, split_data
from thawline.data.doors import list_unlabelled
from thawline.data.tables.columns import Columns
from thawline.errors import DataError

TEXTS = ["a good film", "bad and boring", "a fine cast", "never again", "what a joy", "a terrible plot"]
PNG = b"\x89PNG\r\n\x1a\n"


def label(i: int) -> str:
    return "neg" if i % 2 else "pos"


@pytest.fixture
def folder(tmp_path):
    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def test_class_folders(folder):
    files = {f"{label(i)}/{i}{suffix}": text for i, text in enumerate(TEXTS) for suffix in (".txt", ".md")}
    files = {name: f"{text} {name}" for name, text in files.items()}
    data = open_data(folder(files | {"pos/README.txt": "notes", "pos/report.pdf": b"%PDF\0", "notes.txt": "more"}))
    assert data.kind == "text"
    assert data.classes == ("neg", "pos")
    assert sorted(data.files) == sorted(files)
    assert data.source.read(data.files.index("pos/0.txt")) == b"a good film pos/0.txt"
    assert [(skipped.file, skipped.reason.split(":")[0]) for skipped in data.skipped] == [
        ("pos/report.pdf", "a document")
    ]
    assert "1 text in no class folder is left out; first notes.txt." in data.warnings


def test_reviews_in_train_and_test_folders_beside_texts_without_labels(folder):
    files = {
        f"{part}/{label(i)}/{i}_7.txt": f"{text} {part}" for part in ("train", "test") for i, text in enumerate(TEXTS)
    }
    beside = {"train/unsup/0_0.txt": "?", "train/urls_pos.txt": "http", "train/labeledBow.feat": "9", "README": "x"}
    data = open_data(folder(files | beside | {"imdb.vocab": "the", "imdbEr.txt": "0.1"}))
    assert data.classes == ("neg", "pos")
    split = split_data(data)
    assert (len(split.train), len(split.test)) == (6, 6)
    said = " ".join(data.warnings)
    assert "Folders of texts without labels are left out: 'train/unsup'." in said
    assert "texts in train are in no class folder and are left out" in said
    assert "first imdbEr.txt" in said


def test_files_without_suffix_are_texts_if_their_content_is(folder):
    files = {f"alt.{label(i)}/{49960 + i}": text.encode() + b" caf\xe9" for i, text in enumerate(TEXTS)}
    data = open_data(folder(files))
    assert data.kind == "text"
    assert "3 files in alt.neg have no suffix and are read as texts: the content says so." in data.warnings
    assert any("6 of 6 texts are not UTF-8" in note for note in data.warnings)
    with pytest.raises(DataError, match="none of its 6 files can be used"):
        open_data(folder({name: bytes(range(9)) for name in files}))


def test_pictures_with_notes_beside_them_are_pictures(class_folders, folder):
    root = class_folders({"cat": 3, "dog": 3})
    for path in sorted(root.glob("*/*.png")):
        path.with_suffix(".txt").write_text("0 0.5 0.5 1 1")
    assert open_data(root).kind == "image"
    for path in sorted(root.glob("cat/*.png")):
        path.unlink()
    with pytest.raises(DataError, match=r"class 'cat' has no picture.*To read the 6 texts .* move its 3 pictures out"):
        open_data(root)


def test_a_picture_among_many_texts_is_left_out(folder):
    files = {f"{label(i)}/{i}.txt": f"text number {i}" for i in range(40)}
    data = open_data(folder(files | {"pos/banner.png": PNG}))
    assert (data.kind, len(data)) == ("text", 40)
    assert [(one.file, one.reason) for one in data.skipped] == [
        ("pos/banner.png", "a picture, where texts were expected")
    ]


def test_misnamed_pictures_stay_pictures(class_folders):
    root = class_folders({"cat": 3, "dog": 3})
    for path in sorted(root.glob("*/*.png")):
        path.rename(path.with_suffix(".txt"))
    assert open_data(root).kind == "image"


def test_encodings_and_odd_files(folder):
    texts = [text.encode("utf-16") for text in TEXTS[:2]] + [b"\xef\xbb\xbf" + TEXTS[2].encode(), *TEXTS[3:]]
    files = {f"{label(i)}/{i}.txt": text for i, text in enumerate(texts)}
    data = open_data(folder(files | {"pos/e.txt": b"", "pos/z.txt": b"a\0b", "neg/b.txt": b" \n"}))
    assert len(data) == 6
    assert {one.file: one.reason for one in data.skipped} == {
        "pos/e.txt": "the text is empty",
        "pos/z.txt": "it holds zero bytes, as no text does",
        "neg/b.txt": "the text is nothing but blanks",
    }


def test_a_table_may_name_files_of_texts(folder):
    files = {f"in/{i}.txt": text for i, text in enumerate(TEXTS)}
    rows = [f"{name},{label(i)}" for i, name in enumerate(files)]
    data = open_data(folder(files | {"t.csv": "\n".join(["filename,label", *rows])}) / "t.csv")
    assert (data.kind, data.files) == ("text", tuple(files))
    assert data.source.read(0) == b"a good film"


def test_texts_to_predict_on(folder):
    root = folder({f"in/{i}.txt": text for i, text in enumerate(TEXTS)} | {"in/x.png": PNG})
    listing = list_unlabelled(root, Columns(), None, input_kind="text")
    assert (listing.input_kind, len(listing.files)) == ("text", 6)
    assert [one.file for one in listing.skipped] == ["in/x.png"]
    one = list_unlabelled(str(root / "in/0.txt"), Columns(), None, input_kind="text")
    assert one.source.read(0) == b"a good film"
