"""Texts in memory: lists, columns, arrays, data sets of Hugging Face, streams; and what is a path after all."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import datasets
import numpy as np
import pytest

from thawline.data import open_data
from thawline.data.doors import list_unlabelled
from thawline.data.streams import list_stream
from thawline.data.tables.columns import Columns
from thawline.errors import DataError, MissingDataError, UsageError

TEXTS = ["a good film", "bad and boring", "a fine cast", "never again", "what a joy", "a terrible plot"]
LABELS = [1, 0] * 3


class Column:
    """What pandas and polars have in common."""

    def __init__(self, cells):
        self.cells = cells

    def to_list(self):
        return list(self.cells)

    def __iter__(self):
        return iter(self.cells)


def texts_of(listing):
    return [listing.source.read(row) for row in range(len(listing.files))]


@pytest.mark.parametrize(
    "what", [TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object), Column(TEXTS)], ids=lambda what: type(what)
)
def test_texts_in_memory(what):
    data = open_data(what, LABELS)
    assert (data.kind, data.files[0], data.classes) == ("text", "text#0", ("0", "1"))
    assert texts_of(data) == TEXTS
    assert texts_of(list_unlabelled(what, Columns(), None, input_kind="text")) == TEXTS


def test_words_are_texts_and_missing_cells_are_left_out():
    assert open_data(["good", "bad", "fine", "poor"], LABELS[:4], kind="texts").kind == "text"
    assert open_data(["good", "bad", "fine", "poor"], LABELS[:4]).kind == "text"
    data = open_data([*TEXTS, None, float("nan"), " "], [*LABELS, 1, 1, 0])
    assert (len(data), [one.file for one in data.skipped]) == (6, ["text#6", "text#7", "text#8"])
    with pytest.raises(DataError, match=r"the list: a text was expected; text 2 has list instead"):
        open_data(["a b", "c d", ["e"]], [1, 0, 1], kind="texts")
    with pytest.raises(DataError, match="got 5 labels for 6 samples"):
        open_data(TEXTS, LABELS[:5])


def test_strings_that_name_files_are_paths(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i}.txt").write_text(text)
    paths = [str(tmp_path / f"{i}.txt") for i in range(6)]
    data = open_data(paths, LABELS)
    assert (data.kind, texts_of(data)[0]) == ("text", b"a good film")
    with pytest.raises(DataError, match=r"2 of 2 files cannot be read. 2 files, first a.jpg: no such file"):
        open_data(["a.jpg", "b.jpg"], [1, 0])


def test_a_whole_table_of_pandas_is_refused_with_the_next_step():
    class Frame:
        columns = ("text", "label")

    with pytest.raises(UsageError, match=r"data must be one column of a Frame.*open_data\(table\['text'\]"):
        open_data(Frame(), LABELS)


@pytest.mark.parametrize("text", ["I love it", "N/A", "and/or", "x" * 5000, "two\nlines", "a\0b", "😀"])
def test_a_string_is_a_text(text):
    listing = list_unlabelled(text, Columns(), None, input_kind="text")
    assert (texts_of(listing), listing.files) == ([text], ("text 1",))


@pytest.mark.parametrize("name", ["missing.csv", "missing.txt", "/no/such/folder", "./missing"])
def test_a_string_that_can_only_be_a_path_is_missed(name):
    with pytest.raises(MissingDataError, match=r"does not exist. Give a text, a folder of texts, or a CSV"):
        list_unlabelled(name, Columns(), None, input_kind="text")


def test_a_table_of_the_other_kind_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text\n" + "\n".join(TEXTS))
    assert texts_of(list_unlabelled(path, Columns(), None, input_kind="text")) == TEXTS
    with pytest.raises(DataError, match="expected pictures, as the model reads them; found texts"):
        list_unlabelled(path, Columns(), None)


def test_data_sets_of_hugging_face():
    features = datasets.Features({
        "id": datasets.Value("string"), "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["neg", "pos"]),
    })  # fmt: skip
    cells = {"id": list("abcdef"), "text": TEXTS, "label": LABELS}
    table = datasets.Dataset.from_dict(cells, features=features)
    data = open_data(datasets.DatasetDict({"train": table, "test": table.select([0, 1])}))
    assert (data.kind, data.classes, data.files[0]) == ("text", ("neg", "pos"), "train#0")
    assert texts_of(data) == [*TEXTS, *TEXTS[:2]]
    assert any("2 samples of the training set are in the test set too" in note for note in data.warnings)
    strings = table.rename_column("text", "said").rename_column("label", "sentiment")
    assert texts_of(open_data(strings, text_column="said")) == TEXTS
    assert texts_of(list_unlabelled(table, Columns(), None, input_kind="text")) == TEXTS
    with pytest.raises(DataError, match="there is no column 'words'"):
        open_data(table, text_column="words")


@pytest.mark.parametrize(
    ("content", "files", "texts"),
    [
        ("I love it\n\nhate it, really\n\n", ("line 1", "line 3"), ["I love it", "hate it, really"]),
        ("Question, please answer\r\nme", ("line 1", "line 2"), ["Question, please answer", "me"]),
        ('{"text": "a b"}\n{"text": "c"}\n', ("line 1", "line 2"), ["a b", "c"]),
        ("{not json\n", ("line 1",), ["{not json"]),
        ('id,text\n1,abc def\n2,"x,\ny"\n', ("line 2", "line 4"), ["abc def", "x,\ny"]),
    ],
)
def test_a_stream_is_lines_or_a_table(content, files, texts):
    listing = list_stream(io.BytesIO(content.encode()), Columns())
    there = [row for row, text in enumerate(listing.source.texts) if text is not None]
    assert tuple(listing.files[row] for row in there) == files
    assert [listing.source.read(row) for row in there] == texts


def test_streams_that_hold_no_texts():
    with pytest.raises(DataError, match="standard input: expected one text in each line; there is nothing in it"):
        list_stream(io.BytesIO(b" \n"), Columns())
    with pytest.raises(DataError, match="standard input: a text was expected in each line; it holds zero bytes"):
        list_stream(io.BytesIO(b"\0\1"), Columns())
    with pytest.raises(DataError, match=r"^standard input: text_column 'b' is not in the table"):
        list_stream(io.BytesIO(json.dumps({"a": "x y"}).encode()), Columns(text="b"))


def test_texts_are_opened_and_split_without_pillow_and_tokenizers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in zip(TEXTS, LABELS, strict=True)))
    (tmp_path / "c").mkdir()
    for i, text in enumerate(TEXTS):
        (tmp_path / "c" / str(LABELS[i])).mkdir(exist_ok=True)
        (tmp_path / "c" / str(LABELS[i]) / f"{i}.txt").write_text(text)
    program = (
        "import sys\n"
        "from thawline.data import open_data, split_data\n"
        "for place in sys.argv[1:]:\n"
        "    split_data(open_data(place))\n"
        "print([name for name in ('PIL', 'tokenizers', 'transformers', 'torch') if name in sys.modules])\n"
    )
    asked = [sys.executable, "-c", program, path, tmp_path / "c"]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == "[]"
