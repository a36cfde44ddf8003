"""Tables of texts: which column holds them, what is said of the others, and what their cells may hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from thawline.data import open_data, split_data
from thawline.data.tables import text as table_text
from thawline.errors import DataError, UsageError

TEXTS = [
    "How far is it from Denver to Aspen?", "What county is Modesto in?", "Who was Galileo?", "What is an atom?",
    "When did Hawaii become a state?", "How tall is the Sears Building?", "Why does the moon turn orange?",
    "What is autism, and who has it?",
]  # fmt: skip
LABELS = ["number", "place", "person", "thing"] * 2


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


ROWS = [f"{quoted(text)},{label}" for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.fixture
def table(tmp_path):
    def write(*rows, header="text,label", name="t.csv", encoding="utf-8", end="\n"):
        path = tmp_path / name
        path.write_bytes(end.join([*([header] if header else []), *rows, ""]).encode(encoding))
        return path

    return write


def texts_of(dataset):
    return [dataset.source.read(row) for row in range(len(dataset))]


def labels_of(dataset):
    return [dataset.classes[label] for label in dataset.labels]


def rows_of(*columns):
    return [",".join(quoted(str(cell)) for cell in row) for row in zip(*columns, strict=True)]


def test_a_table_of_texts_is_opened_and_split(table):
    data = open_data(table(*ROWS))
    assert data.kind == "text"
    assert texts_of(data) == TEXTS
    assert labels_of(data) == LABELS
    assert data.files[0] == "t.csv#2"
    assert len(split_data(data).test) == 4


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Review Text,sentiment", ""),
        ("text,category", ""),
        ("utterance,intent", ""),
        ("sentence,what", "Labels are read from column 'what', the only one beside the texts"),
        ("v2,v1", "Texts are read from column 'v2', whose cells are sentences"),
        ("reviewText,v1", "Labels are read from column 'v1', the only one beside the texts"),
    ],
)
def test_columns_of_texts_and_labels_are_found_by_name_and_by_content(table, header, said):
    data = open_data(table(*ROWS, header=header))
    assert texts_of(data) == TEXTS
    assert said in " ".join(data.warnings)


def test_words_alone_are_texts_if_their_column_says_so(table):
    assert texts_of(open_data(table(*rows_of("abcdefgh", LABELS)))) == list("abcdefgh")
    with pytest.raises(DataError, match=r"or a column of texts named text, texts or alike; found word, label"):
        open_data(table(*rows_of("abcdefgh", LABELS), header="word,label"))


def test_ids_dates_and_numbers_are_no_labels(table):
    days, users = [f"2024-01-{i + 1:02}" for i in range(8)], [f"u{i}" for i in range(8)]
    data = open_data(table(*rows_of(days, users, TEXTS, ["a", "b"] * 4, range(8)), header="day,user,said,mood,n"))
    assert texts_of(data) == TEXTS
    assert labels_of(data) == ["a", "b"] * 4
    assert "Labels are read from column 'mood', the only one whose values come again and again." in data.warnings


def test_of_columns_of_flags_none_is_taken_for_the_labels_alone(table):
    rows = rows_of(range(8), TEXTS, [1, 0] * 4, [0] * 8, [0] * 8)
    with pytest.raises(DataError, match=r"Name it with label_column \(--label-column\), or several with commas"):
        open_data(table(*rows, header="id,comment_text,toxic,severe,obscene"))


def test_of_two_columns_of_texts_one_is_read_and_the_other_named(table):
    others = [f"Is it number {i} of all?" for i in range(8)]
    data = open_data(table(*rows_of(TEXTS, ["0", "1"] * 4, others), header="question1,same,question2"))
    assert texts_of(data) == TEXTS
    assert labels_of(data) == ["0", "1"] * 4
    assert any("Column 'question2' holds texts as well and is not read" in note for note in data.warnings)
    body = open_data(table(*rows_of(others, TEXTS, LABELS), header="title,body,label"))
    assert any("Texts are read from column 'body'. Column 'title' holds texts" in note for note in body.warnings)
    with pytest.raises(DataError, match=r"columns 'a', 'b' hold texts. Name the one to read: --text-column a"):
        open_data(table(*rows_of(others, TEXTS, LABELS), header="a,b,label"))
    assert texts_of(open_data(table(*rows_of(others, TEXTS, LABELS), header="a,b,label"), text_column="b")) == TEXTS


def test_a_column_may_be_named(table):
    path = table(*rows_of(range(8), TEXTS, LABELS), header="n,words,label")
    assert texts_of(open_data(path, text_column="words")) == TEXTS
    with pytest.raises(DataError, match=r"text_column 'word' is not in the table.*Did you mean 'words'"):
        open_data(path, text_column="word")
    with pytest.raises(UsageError, match=r"text_column \(--text-column\) and file_column \(--file-column\) exclude"):
        open_data(path, text_column="words", file_column="n")


def test_a_table_that_names_pictures_is_one_of_pictures(table, tmp_path):
    (tmp_path / "below").mkdir()
    for i in range(8):
        Image.new("RGB", (9, 9), (i * 30, 99, 0)).save(tmp_path / "below" / f"ISIC_{i}.png")
    ids = [f"ISIC_{i}" for i in range(8)]
    for header, names in (("file,text,label", [f"below/{i}.png" for i in ids]), ("image_id,text,label", ids)):
        data = open_data(table(*rows_of(names, TEXTS, LABELS), header=header))
        assert data.kind == "image"
        assert data.files == tuple(names)
    assert open_data(table(*rows_of(range(8), TEXTS, LABELS), header="id,text,label")).kind == "text"
    with pytest.raises(DataError, match=r"column 'image' may name pictures, none of which is there, and column 'text'"):
        open_data(table(*rows_of([f"lost{i}" for i in range(8)], TEXTS, LABELS), header="image,text,label"))


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([f"{label}\t{text}" for text, label in zip(TEXTS, LABELS, strict=True)], "t.tsv"),
        ([f"{label}\t{text}" for text, label in zip(TEXTS, LABELS, strict=True)], "t.csv"),
        ([f"{label},{quoted(text)},,,0" for text, label in zip(TEXTS, LABELS, strict=True)], "t.csv"),
    ],
)
def test_without_a_header_row_texts_and_labels_are_told_by_what_they_are(table, rows, name):
    data = open_data(table(*rows, header="", name=name))
    assert texts_of(data) == TEXTS
    assert labels_of(data) == LABELS
    assert data.warnings[0] == f"{name} has no header row: texts are read from column 2, labels from column 1."


def test_a_name_of_a_column_that_comes_again_is_a_label(table):
    rows = [f"{quoted(text)},{label}" for text, label in zip(TEXTS, ["question", "comment"] * 4, strict=True)]
    assert texts_of(open_data(table(*rows, header=""))) == TEXTS


def test_a_quote_between_tabs_is_a_sign_of_the_text_unless_it_ends_the_cell(table):
    texts = ['"Never again', *TEXTS[1:5], 'he said "no"', '"quoted" word', '"closed in the end"']
    data = open_data(table(*(f"{x}\t{y}" for x, y in zip(texts, LABELS, strict=True)), header="text\tlabel"))
    assert texts_of(data) == [*texts[:-1], "closed in the end"]
    several = [f"{text}\nand more, in a second line" for text in TEXTS]
    rows = [f"{quoted(x)}\t{y}" for x, y in zip(several, LABELS, strict=True)]
    assert texts_of(open_data(table(*rows, header="text\tlabel"))) == several


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_sign_arrives_as_it_was_written(table, encoding, end):
    texts = [
        "😀 fine 👍🏽", "שלום עולם, again", "مرحبا بالعالم", "# a heading, no comment", "two\nlines\r\nhere\rand here",
        "  blanks around  ", "再见 世界 你好吗", "tab\there",
    ]  # fmt: skip
    data = open_data(table(*rows_of(texts, LABELS), encoding=encoding, end=end))
    assert texts_of(data) == texts


def test_control_characters_zero_bytes_and_lone_surrogates_are_read_and_remarked(tmp_path):
    texts = ["a zero \0 byte", "a bell \a rings", "half a smile \ud83d", *TEXTS[3:]]
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, LABELS, strict=True)]
    path.write_text("\n".join(lines), encoding="utf-8")
    data = open_data(path)
    assert texts_of(data) == texts
    assert any("2 of 8 texts hold control characters" in note for note in data.warnings)
    csv = tmp_path / "t.csv"
    csv.write_text("text,label\n" + "\n".join(rows_of(texts[:2] + TEXTS[2:], LABELS)), encoding="utf-8")
    assert texts_of(open_data(csv)) == [*texts[:2], *TEXTS[2:]]


def test_lines_of_another_encoding_are_read_and_counted(table):
    path = table(*ROWS, '"gr\u00fcn und gut",thing')
    path.write_bytes(path.read_bytes() + '"caf\u00e9 au lait",thing\n'.encode("cp1252"))
    data = open_data(path)
    assert texts_of(data)[-2:] == ["gr\u00fcn und gut", "caf\u00e9 au lait"]
    assert data.warnings[0] == (
        "1 line of t.csv is no UTF-8 and was read as Windows-1252, unlike the others. Save the table as UTF-8."
    )


def test_a_text_of_a_megabyte_is_read_and_more_than_memory_is_refused(table, monkeypatch):
    long = "word " * 210_000
    path = table(*ROWS, f"{quoted(long)},thing")
    assert texts_of(open_data(path))[-1] == long
    monkeypatch.setattr(table_text, "MAX_TEXT", 2**20)
    with pytest.raises(DataError, match=r"holds more than 1 MiB of text. Split the table, or draw from it."):
        open_data(path)


def test_a_small_parquet_file_of_much_text_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["word " * 20_000] * 100, "label": ["a", "b"] * 50}), path)
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(table_text, "MAX_TEXT", 2**22)
    with pytest.raises(DataError, match="holds more than 4 MiB of text"):
        open_data(path)


@pytest.mark.parametrize("text", [TEXTS, [text.encode() for text in TEXTS]], ids=["strings", "bytes"])
def test_parquet(tmp_path, text):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": text, "label": LABELS}), path)
    data = open_data(path)
    assert texts_of(data) == TEXTS
    assert data.files[0] == "t.parquet#0"


def test_json_lines_packed(tmp_path):
    lines = [json.dumps({"id": i, "text": x, "label": y}) for i, (x, y) in enumerate(zip(TEXTS, LABELS, strict=True))]
    path = tmp_path / "t.jsonl"
    path.write_bytes("\n".join(lines).encode())
    assert texts_of(open_data(path)) == TEXTS
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress("\n".join(["text,label", *ROWS]).encode()))
    assert texts_of(open_data(packed)) == TEXTS


def test_empty_texts_are_left_out_named_and_counted(table):
    data = open_data(table(*ROWS, '"",thing', '"  ",place', ",person"))
    assert texts_of(data) == TEXTS
    assert data.warnings[0] == (
        "3 of 11 texts cannot be used and are left out. 2 samples, first t.csv#10: the cell is empty. t.csv#11: the "
        "text is nothing but blanks."
    )
    with pytest.raises(DataError, match="3 of 11 texts cannot be read"):
        open_data(table(*ROWS, '"",thing', '"  ",place', ",person"), strict=True)


def test_copies_and_contradictions_up_to_case_blanks_and_punctuation(table):
    data = open_data(table(*ROWS, '"what is an ATOM",thing', "Who was Galileo?,person", "who was galileo,place"))
    assert len(set(data.groups.tolist())) == 8
    assert any("2 of 11 samples are near copies of another (the same text up to case" in note for note in data.warnings)
    assert any(
        "1 text stands under two classes with identical content up to case, blanks and punctuation, for one t.csv#4 "
        "(person) and t.csv#12 (place)." in note
        for note in data.warnings
    )


def test_numbers_as_labels_many_classes_and_a_class_seen_once(table):
    assert open_data(table(*rows_of(TEXTS, [0, 1] * 4))).classes == ("0", "1")
    texts = [f"text number {i} of all" for i in range(77 * 3)]
    data = open_data(table(*rows_of(texts, [f"intent_{i % 77}" for i in range(77 * 3)]), header="text,category"))
    assert len(data.classes) == 77
    with pytest.raises(DataError, match="class 'rare' has one sample, which cannot be both trained on and tested"):
        open_data(table(*ROWS, "seen once,rare"))
    assert labels_of(open_data(table(*ROWS, "seen once,rare"), trainable=False)).count("rare") == 1


def test_split_columns_groups_and_draws_work_as_for_pictures(table):
    sets = ["train"] * 4 + ["test"] * 4
    data = open_data(table(*rows_of(TEXTS, LABELS, sets, range(8)), header="text,label,split,who"), group_column="who")
    assert split_data(data).test.tolist() == [4, 5, 6, 7]
    many = [f"text number {i} of all" for i in range(200)]
    drawn = [open_data(table(*rows_of(many, ["a", "b"] * 100)), most=40, seed=seed) for seed in (0, 0, 1)]
    assert [len(data) for data in drawn] == [40] * 3
    assert drawn[0].files == drawn[1].files != drawn[2].files


@pytest.fixture
def folder(tmp_path):
    def write(train, test, names=None):
        for name, rows in (("train", train), ("test", test)):
            (tmp_path / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")
        if names is not None:
            (tmp_path / "class_names.txt").write_text("\n".join(names), encoding="utf-8")
        return tmp_path

    return write


def test_a_folder_of_tables_names_its_classes_if_the_names_fit(folder):
    rows = ["text,label", *rows_of(TEXTS, [0, 1, 2, 3] * 2)]
    named = folder(rows, ["text,label", "What is it now?,0"], ["what", "where", "who", "how"])
    data = open_data(named)
    assert data.classes == ("what", "where", "who", "how")
    assert any("Names of the 4 classes are read from the class_names file" in note for note in data.warnings)
    others = open_data(folder(rows, ["text,label", "What is it now?,0"], ["what", "where", "who"]))
    assert others.classes == ("0", "1", "2", "3")
    assert any("class_names file beside the tables is not used: it has 3 names" in note for note in others.warnings)


def test_the_test_table_is_read_as_the_training_table(folder):
    train = ["text,label,title", *rows_of(TEXTS, LABELS, LABELS)]
    data = open_data(folder(train, ["title,text,label", "x,What is it now?,thing", "x,Who was Galileo?,person"]))
    assert texts_of(data)[:2] == ["What is it now?", "Who was Galileo?"]
    assert any("1 samples of the training set are in the test set too" in note for note in data.warnings)
    unlabelled = open_data(folder(train, ["id,text", "1,What is it now?"]))
    assert any("Label its texts afterwards: thawline predict RUN" in note for note in unlabelled.warnings)


def test_names_beside_a_single_table_are_those_of_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "class_names.txt").write_text("spam\nham\nother\n")
    rows = "".join(f"a text about the number {i},{i % 2}\n" for i in range(8))
    (tmp_path / "test.csv").write_text(f"text,label\n{rows}")
    data = open_data(tmp_path / "test.csv", trainable=False)
    assert data.classes == ("spam", "ham")
    assert any("read from the class_names file beside the table" in note for note in data.warnings)
    (tmp_path / "class_names.txt").write_text("spam\n")
    assert open_data(tmp_path / "test.csv", trainable=False).classes == ("0", "1")
