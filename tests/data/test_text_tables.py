"""Tables of texts: which column holds them, what is said of the others, and what their cells may hold."""

from __future__ import annotations

import pytest

from thawline.data import open_data, split_data
from thawline.errors import DataError

TEXTS = [
    "How far is it from Denver to Aspen?", "What county is Modesto in?", "Who was Galileo?", "What is an atom?",
    "When did Hawaii become a state?", "How tall is the Sears Building?", "Why does the moon turn orange?",
    "What is autism, and who has it?",
]  # fmt: skip
LABELS = ["number", "place", "person", "what"] * 2


@pytest.fixture
def table(tmp_path):
    def write(*rows, header="text,label", name="t.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
        return path

    return write


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


ROWS = [f"{quoted(text)},{label}" for text, label in zip(TEXTS, LABELS, strict=True)]


def texts_of(dataset):
    return [dataset.source.read(row) for row in range(len(dataset))]


def test_a_table_of_texts_is_opened_and_split(table):
    data = open_data(table(*ROWS))
    assert data.kind == "text"
    assert texts_of(data) == TEXTS
    assert [data.classes[label] for label in data.labels] == LABELS
    assert data.files[0] == "t.csv#2"
    assert len(split_data(data).test) == 4


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Review Text,sentiment", ""),
        ("text,category", ""),
        ("sentence,what", "Labels are read from column 'what', the only one beside the texts"),
        ("v2,v1", "Texts are read from column 'v2', whose cells are sentences"),
    ],
)
def test_columns_of_texts_and_labels_are_found_by_name_and_by_content(table, header, said):
    data = open_data(table(*ROWS, header=header))
    assert texts_of(data) == TEXTS
    assert said in " ".join(data.warnings)


def test_of_two_columns_of_texts_one_is_read_and_the_other_named(table):
    rows = [f"{row},Is it number {i} of all?" for i, row in enumerate(ROWS)]
    data = open_data(table(*rows, header="question1,same,question2"))
    assert texts_of(data) == TEXTS
    assert any("Column 'question2' holds texts as well and is not read" in note for note in data.warnings)


def test_a_column_may_be_named(table):
    path = table(*(f"{i},{row}" for i, row in enumerate(ROWS)), header="n,words,label")
    assert texts_of(open_data(path, text_column="words")) == TEXTS
    with pytest.raises(DataError, match=r"text_column 'word' is not in the table.*Did you mean 'words'"):
        open_data(path, text_column="word")
