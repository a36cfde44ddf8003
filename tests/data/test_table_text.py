"""Tables as text: encodings, delimiters, headers, rows that are odd."""

from __future__ import annotations

import codecs
import gzip
import json

import pytest

from thawline.data import open_data
from thawline.data.doors import list_unlabelled
from thawline.data.tables import text as table_text
from thawline.data.tables.columns import Columns
from thawline.errors import DataError

ROWS = [f"{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(3)]


@pytest.fixture
def pets(class_folders):
    """cat/0..2.png and dog/0..2.png."""
    return class_folders({"cat": 3, "dog": 3})


@pytest.fixture
def table(pets):
    def make(lines, name="t.csv", encoding="utf-8", end="\n"):
        path = pets / name
        path.write_bytes(end.join([*lines, ""]).encode(encoding))
        return path

    return make


def opens_whole(data):
    assert data.files == tuple(row.split(",")[0] for row in ROWS)
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    return data.warnings


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["label, filename", *(", ".join(reversed(row.split(","))) for row in ROWS)], "t.csv"),
        (["  filename , label ", *(f"  {row.replace(',', ' , ')}" for row in ROWS)], "t.csv"),
        (['"filename", "label"', *('"{}", "{}"'.format(*row.split(",")) for row in ROWS)], "t.csv"),
        (["filename\tlabel", *(row.replace(",", "\t") for row in ROWS)], "t.csv"),
        (["filename,label", *ROWS], "t.tsv"),
        (["filename; label", *(row.replace(",", "; ") for row in ROWS)], "t.csv"),
        (["filename|label", *(row.replace(",", "|") for row in ROWS)], "t.csv"),
        (["sep=;", "filename;label", *(row.replace(",", ";") for row in ROWS)], "t.csv"),
        (["filename,label,", *(f"{row}," for row in ROWS)], "t.csv"),
        (["filename,label", *(f"{row},," for row in ROWS)], "t.csv"),
        (["Unnamed: 0,filename,label", *(f"{i},{row}" for i, row in enumerate(ROWS))], "t.csv"),
        ([",filename,label", *(f"{i},{row}" for i, row in enumerate(ROWS))], "t.csv"),
        (['"filename","label"', *(f'"{i}",{row}' for i, row in enumerate(ROWS, 1))], "t.csv"),
        (["", "# taken on Monday, at noon", "filename,label", *ROWS[:2], "# a break", *ROWS[2:], ""], "t.csv"),
        (["# file label", *(row.replace(",", " ") for row in ROWS)], "t.txt"),
        (["filename,label", *(line for row in ROWS for line in (row, "", ","))], "t.csv"),
        (["filename,label,note", *(f'{row},"two\nlines, here"' for row in ROWS)], "t.csv"),
        (["filename,label,a,a", *(f"{row},1,2" for row in ROWS)], "t.csv"),
        (["filename,label,note", *ROWS], "t.csv"),
    ],
    ids=[
        "blanks", "more blanks", "blanks and quotes", "tabs", "commas in tsv", "semicolons", "bars", "declared",
        "trailing delimiter", "delimiters at the end", "index", "index without name", "R", "comments",
        "comment as header", "empty lines", "line ends in quotes", "two columns of one name", "short rows",
    ],
)  # fmt: skip
def test_tables_that_need_no_word(table, lines, name):
    assert not [note for note in opens_whole(open_data(table(lines, name))) if "classes have fewer" not in note]


@pytest.mark.parametrize(
    ("encoding", "mark", "said"),
    [
        ("utf-16", b"", "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("latin-1", b"", r"Windows-1252 \(Latin-1\)"),
        ("cp1252", b"", r"Windows-1252 \(Latin-1\)"),
    ],
)
def test_the_encoding_is_said(pets, encoding, mark, said):
    lines = ["filename,label", *(row.replace(",dog", ",d\u00f6g") for row in ROWS), ""]
    (pets / "t.csv").write_bytes(mark + "\n".join(lines).encode(encoding))
    data = open_data(pets / "t.csv")
    assert data.classes == ("cat", "d\u00f6g")
    assert any(
        note == f"t.csv is not UTF-8; it was read as {said.replace(chr(92), '')}. Save it as UTF-8 if names look wrong."
        for note in data.warnings
    )


def test_utf8_needs_no_word(table):
    opens_whole(open_data(table(["filename,label", *ROWS], encoding="utf-8-sig")))
    assert not [w for w in open_data(table(["filename,label", *ROWS], encoding="utf-8-sig")).warnings if "UTF" in w]


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends(table, end):
    opens_whole(open_data(table(["filename,label", *ROWS], end=end)))


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (ROWS, "t.csv"),
        ([",".join(reversed(row.split(","))) for row in ROWS], "t.csv"),
        ([row.replace(",", " ") for row in ROWS], "labels.txt"),
        ([" ".join(reversed(row.split(","))) for row in ROWS], "labels.lst"),
        ([row.replace(",", "\t") for row in ROWS], "t.tsv"),
    ],
)
def test_no_header(table, lines, name):
    notes = opens_whole(open_data(table(lines, name)))
    assert notes[0].startswith(f"{name} has no header row: file names are read from column ")


def test_a_list_of_names_alone(table):
    listing = list_unlabelled(table([row.split(",")[0] for row in ROWS], "files.txt"), Columns(), None)
    assert len(listing.files) == 6
    assert listing.columns == {"file": "file"}
    assert listing.warnings == ("files.txt has no header row: file names are read from column 1.",)


@pytest.mark.parametrize(
    "lines",
    [
        ["0001,cat", "0002,dog", "0003,cat"],
        ["p1,cat", "p2,dog", "p3,cat", "p4,dog"],
        [f"{row},12" for row in ROWS],
    ],
    ids=["numbers", "values that come again", "three columns"],
)
def test_a_first_line_that_looks_like_data(table, lines):
    with pytest.raises(DataError, match=r"t.csv: the first line looks like data, .*Add a header row such as filename"):
        open_data(table(lines))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["filename,label", *ROWS[:3], "cat, black.png,cat,"], "line 5 has 4 cells, but the header has 2. Put a cell"),
        (["filename,label,note", *ROWS[:2], 'cat/2.png,cat,"', *ROWS[3:]], "the quote in line 4 is never closed"),
        (["filename,label", "cat/0.png"], "line 2 has 1 cells, but the header has 2"),
        (["where,kind,n", *(f"{row},1" for row in ROWS), "cat/0.png"], "expected a label column"),
        (["where,kind", *ROWS, "cat/0.png"], "line 8 has 1 cells, but the header has 2"),
    ],
)
def test_refused_rows(table, lines, message):
    with pytest.raises(DataError, match=message):
        open_data(table(lines))


def test_json_lines(table):
    objects = [dict(zip(("file_name", "label"), row.split(","), strict=True), box=[1, 2]) for row in ROWS]
    opens_whole(open_data(table([*map(json.dumps, objects), ""], "metadata.jsonl")))
    both = " ".join(map(json.dumps, objects[:2]))
    with pytest.raises(DataError, match=r"metadata.jsonl: line 1 is no JSON object. Write one in each line"):
        open_data(table([both], "metadata.jsonl"))
    with pytest.raises(DataError, match="line 2 is no JSON object"):
        open_data(table([json.dumps(objects[0]), "[" * 2000], "metadata.jsonl"))
    with pytest.raises(DataError, match="the file is empty"):
        open_data(table([""], "metadata.jsonl"))


def test_packed_tables(pets, monkeypatch):
    text = "\n".join(["filename,label", *ROWS])
    (pets / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    data = open_data(pets / "t.csv.gz")
    opens_whole(data)
    assert data.name == "t"
    monkeypatch.setattr(table_text, "_MAX_UNPACKED", 50)
    with pytest.raises(DataError, match=r"unpacks to more than 0 MiB. Unpack it yourself"):
        open_data(pets / "t.csv.gz")
    (pets / "t.csv.gz").write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(DataError, match="cannot be unpacked: "):
        open_data(pets / "t.csv.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04sheet", r"t.csv is an Excel workbook or another zip file. Save the sheet as CSV \(UTF-8\)."),
        (b"\xd0\xcf\x11\xe0sheet", "t.csv is an Excel workbook. Save"),
        (b"PAR1....", "t.csv is a Parquet file. Name it .parquet."),
        (b"filename\x01\x02,label", "this is no text, and so no table"),
        ("filename,label".encode("utf-16")[:-1], "breaks off in the middle of a character"),
    ],
)
def test_other_files_named_like_tables(pets, content, message):
    (pets / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_data(pets / "t.csv")


@pytest.mark.parametrize("name", ["t.xlsx", "t.XLS", "t.ods"])
def test_workbooks(pets, name):
    (pets / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"is a workbook. Save the sheet as CSV \(UTF-8\), and give that file."):
        open_data(pets / name)
