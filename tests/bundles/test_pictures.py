"""A bundle takes pictures as people have them, alone or mixed, and gives each the bits that its file gets."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import thawline as tl
from thawline.bundles import Bundle
from thawline.bundles.pictures import list_pictures
from thawline.errors import DataError, MissingDataError, UsageError
from thawline.inputs.image.decode import open_image


@pytest.fixture
def path(tiny_photos: Path) -> Path:
    return tiny_photos / "disc" / "disc_00.png"


class Column:
    """A column as polars has it."""

    def __init__(self, *cells: Any, name: str = "picture") -> None:
        self.cells, self.name = cells, name

    def to_list(self) -> list[Any]:
        return list(self.cells)


def pixels(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(Image.open(path))


FORMS: dict[str, Callable[[Path], Any]] = {
    "path": Path,
    "text": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "Pillow": Image.open,
    "loaded Pillow": lambda path: Image.open(path).convert("RGBA"),
    "array": pixels,
    "floats": lambda path: pixels(path).astype(np.float32) / 255,
    "array with transparency": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "open file": lambda path: path.open("rb"),
    "file in memory": lambda path: io.BytesIO(path.read_bytes()),
    "list of arrays": lambda path: [pixels(path)],
    "stack of arrays": lambda path: pixels(path)[None],
    "array of paths": lambda path: np.array([str(path)]),
    "pandas column of paths": lambda path: pd.Series([str(path)], name="file"),
    "pandas column of bytes": lambda path: pd.Series([path.read_bytes()]),
    "pandas column of arrays": lambda path: pd.Series([pixels(path)]),
    "pandas index": lambda path: pd.Index([str(path)]),
    "polars column of paths": lambda path: Column(str(path)),
    "polars column of nested lists": lambda path: Column(pixels(path).tolist()),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_every_form_gets_the_bits_of_the_file(bundle: Bundle, path: Path) -> None:
    expected = bundle.predict(path).probabilities
    for name, form in FORMS.items():
        answer = bundle.predict(form(path))
        assert len(answer) == 1, name
        assert answer.probabilities.tobytes() == expected.tobytes(), name
        assert answer.failed == (), name


def test_a_mixture_keeps_its_order_and_names(bundle: Bundle, tiny_photos: Path, path: Path) -> None:
    square, stripes = tiny_photos / "square" / "square_00.png", tiny_photos / "stripes" / "stripes_00.png"
    with path.open("rb") as file:
        answer = bundle.predict(
            [square, stripes.read_bytes(), Image.open(path), b"nothing", pixels(stripes), None, str(path), file]
        )
    assert answer.files == (str(square), "picture 2", str(path), "picture 5", str(path), str(path))
    assert [(skipped.file, skipped.reason) for skipped in answer.failed] == [
        ("picture 4", "not a picture: its content is text"),
        ("picture 6", "the cell is empty"),
    ]
    alone = bundle.predict([square, stripes, path, stripes, path, path]).probabilities
    assert answer.probabilities.tobytes() == alone.tobytes()


def test_a_stack_is_named_by_place(bundle: Bundle, path: Path) -> None:
    grey = np.stack([pixels(path)[..., 0]] * 3)
    assert bundle.predict(grey).files == ("picture 1", "picture 2", "picture 3")
    assert bundle.predict(grey[0]).files == ("picture 1",)
    assert bundle.predict(grey[0][..., None]).probabilities.tobytes() == bundle.predict(grey[0]).probabilities.tobytes()


def test_a_file_may_be_asked_about_twice(bundle: Bundle, path: Path) -> None:
    file, picture = io.BytesIO(path.read_bytes()), Image.open(path)
    file.read()
    answer = bundle.predict([file, picture, file, picture, file, picture])
    assert len(answer) == 6
    assert len({row.tobytes() for row in answer.probabilities}) == 1


def test_a_column_keeps_its_empty_cells_as_failed(bundle: Bundle, path: Path) -> None:
    answer = bundle.predict(pd.Series([str(path), None, np.nan, pd.NA, "gone.png"]))
    assert answer.files == (str(path),)
    assert [(skipped.file, skipped.reason) for skipped in answer.failed] == [
        *((f"picture {i}", "the cell is empty") for i in (2, 3, 4)),
        ("gone.png", "no such file"),
    ]


def test_pillow_is_turned_upright_and_made_rgb(path: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, mode in (("turned.png", "RGB"), ("grey.png", "L"), ("palette.png", "P"), ("deep.png", "I;16")):
        picture = Image.open(path).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        picture.save(tmp_path / name, exif=exif)
        given = list_pictures(Image.open(tmp_path / name)).source.read(0)
        assert given.dtype == (np.uint16 if mode == "I;16" else np.uint8)  # the scale of the model comes later
        assert np.array_equal(open_image(given), open_image((tmp_path / name).read_bytes())), name


def test_damaged_pictures_fail_with_their_reason(bundle: Bundle, path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:300])
    (tmp_path / "text.txt").write_text("words")
    strip = Image.new("RGB", (2000, 2))
    with (tmp_path / "text.txt").open(encoding="utf-8") as text, Image.open(tmp_path / "cut.png") as cut:
        answer = bundle.predict([cut, text, strip, io.BytesIO(), b"", path])
    assert answer.files == (str(path),)
    reasons = [skipped.reason for skipped in answer.failed]
    assert reasons[0].startswith("a truncated PNG file")
    assert reasons[1:] == [
        "the file was opened as text; open it with mode 'rb'",
        "2000 x 2 pixels: a strip, longer than 200 times its width",
        "the file is empty (0 bytes)",
        "the file is empty (0 bytes)",
    ]


def table(path: Path) -> pd.DataFrame:
    return pd.DataFrame({"file": [str(path)], "label": ["disc"]})


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (3, UsageError, r"what to predict must be a path, bytes, .* or a data set; got int\."),
        ([3.5], UsageError, r"item 1 must be a path, bytes, a picture of Pillow, .*; got float\."),
        (["a.png", {"bytes": b""}], UsageError, r"item 2 must be .*; got dict\."),
        (table(Path("a.png")), UsageError, r"one column, not a whole table; got DataFrame\. .* table\['file'\]"),
        (pd.Series(["cat", "dog"], name="label"), DataError, r"none of the 2 in label names a file, the first is 'c"),
        (np.zeros((2, 3, 8, 8), np.uint8), DataError, r"must have shape .*; got \(2, 3, 8, 8\)\. Move the chann"),
        ([np.zeros((3, 8, 9), np.uint8)], DataError, r"item 1 must be an array .*; got shape \(3, 8, 9\)\. Move the"),
        ([b"", np.zeros((8, 8), np.int64) + 300], DataError, r"item 2: images must be uint8, .*; got int64 from 300"),
        ([np.zeros((8, 8), bool)], DataError, r"item 1: images must be uint8"),
        ([np.zeros((0, 8), np.uint8)], DataError, r"item 1 must be an array .*; got shape \(0, 8\)"),
        ([[[1, 2], [3]]], DataError, r"item 1 must be a picture; its rows differ in length"),
        ([], DataError, "the list: found no pictures"),
        (pd.Series([], dtype=object), DataError, "the list: found no pictures"),
        ("gone.png", MissingDataError, "gone.png does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(asked: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        list_pictures(asked)


def test_text_in_a_column_may_be_missing_files_but_not_all(bundle: Bundle, path: Path) -> None:
    answer = bundle.predict(Column(str(path), "gone.png"))
    assert len(answer) == 1
    assert answer.failed[0].reason == "no such file"


def test_folders_and_tables_still_are_given_alone(bundle: Bundle, tiny_photos: Path) -> None:
    assert len(bundle.predict(tiny_photos)) == 30
    with pytest.raises(DataError, match="is a folder, given among other files"):
        bundle.predict([tiny_photos, tiny_photos / "disc" / "disc_00.png"])


def test_a_table_names_its_column(bundle: Bundle, tiny_photos: Path, path: Path) -> None:
    (tiny_photos / "t.csv").write_text("what,number\ndisc_00.png,1\ngone.png,2\n")
    answer = bundle.predict(tiny_photos / "t.csv", file_column="what", root=path.parent)
    assert answer.files == ("disc_00.png",)
    assert answer.failed[0].file == "gone.png"


def test_the_data_that_were_opened_must_be_as_they_were(bundle: Bundle, tiny_photos: Path, path: Path) -> None:
    data = tl.open_data(tiny_photos)
    path.write_bytes((tiny_photos / "square" / "square_00.png").read_bytes())
    with pytest.raises(DataError, match=r"disc_00\.png has changed since"):
        bundle.predict(data)
