from __future__ import annotations

import csv
import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thawline.data import open_data, sources
from thawline.data.tables import text as table_text
from thawline.errors import DataError, UsageError


@pytest.fixture
def pets(class_folders):
    """cat/0..2.png and dog/0..2.png."""
    return class_folders({"cat": 3, "dog": 3})


ROWS = [f"{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(3)]


@pytest.fixture
def write(pets):
    def make(*lines: str, header: str = "filename,label", name: str = "labels.csv", encoding: str = "utf-8"):
        path = pets / name
        path.write_bytes("".join(line + "\n" for line in (header, *lines)).encode(encoding))
        return path

    return make


def test_csv(write, pets):
    data = open_data(write(*ROWS))
    assert data.name == "labels"
    assert data.files == tuple(row.split(",")[0] for row in ROWS)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.source.read(4) == (pets / "dog/1.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [("l.tsv", "\t", "utf-8"), ("l.csv", ";", "utf-8"), ("l.csv", ",", "utf-8-sig"), ("l.csv", "\t", "utf-8")],
)
def test_delimiters_and_byte_order_mark(write, name, delimiter, encoding):
    rows = [row.replace(",", delimiter) for row in ROWS]
    assert len(open_data(write(*rows, "", header=f"Image{delimiter}Class", name=name, encoding=encoding))) == 6


def test_named_columns_groups_and_split(write):
    parts = ["train", "Train", "test", "training", "valid", "test"]
    rows = [f"{row},{part},p{i % 3}" for i, (row, part) in enumerate(zip(ROWS, parts, strict=True))]
    data = open_data(
        write(*rows, header="pic,what,fold,patient"),
        file_column="pic",
        label_column="what",
        split_column="fold",
        group_column="patient",
    )
    assert data.given.tolist() == ["train", "train", "test", "train", "val", "test"]
    assert data.groups.tolist() == [0, 1, 2, 0, 1, 2]


def test_an_empty_group_is_a_group_of_its_own(write):
    data = open_data(write(*(f"{row}," for row in ROWS), header="file,label,patient"), group_column="patient")
    assert data.groups.tolist() == list(range(6))


def test_numbers_and_their_names(write):
    rows = [f"{name}/{i}.png,{label}" for name, label in (("cat", 10), ("dog", 9)) for i in range(3)]
    assert open_data(write(*rows)).classes == ("9", "10")
    data = open_data(write(*rows), class_names=[f"c{i}" for i in range(11)])
    assert data.classes == ("c9", "c10")
    assert data.labels.tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(DataError, match="class_names must name every label; got 3 names, and label 9"):
        open_data(write(*rows), class_names=["a", "b", "c"])
    with pytest.raises(DataError, match="class_names must name every label; 'dog' is not among them"):
        open_data(write(*ROWS), class_names=["cat"])


def test_ids_without_suffix(write):
    rows = [row.replace(".png", "") for row in ROWS]
    assert len(open_data(write(*rows, header="id,breed"), label_column="breed")) == 6


def test_root(write, pets, tmp_path):
    path = write(*ROWS)
    moved = tmp_path / "labels.csv"
    path.rename(moved)
    assert len(open_data(moved, root=pets)) == 6


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["hello,1"], "word,label", "expected a file column named filename, file, .*; found word, label"),
        ([f"{row},1" for row in ROWS], "file,kind,n", "expected a label column named label, .*; found file, kind, n"),
        ([row.split(",")[0] for row in ROWS], "file", "expected a column of labels; found only file. Add one, or"),
        (ROWS, "file,file", "the table has two columns 'file'"),
        ([f"{row},x" for row in ROWS], "file,label,label", "the table has two columns 'label'"),
        ([*ROWS, "/etc/passwd,cat"], "file,label", r"1 of 7 files leads outside .*pets, .*'/etc/passwd' \(line 8\)"),
        ([*ROWS, "cat/1.png,dog"], "file,label", r"'cat/1.png' is 'cat' and 'dog' \(lines 3 and 8\). Keep one row"),
        ([*ROWS, "cat/1.png,"], "file,label", "line 8 has no label"),
        ([*ROWS, "cat/1.png, "], "file,label", "line 8 has no label"),
        ([*ROWS, ",cat"], "file,label", "line 8 names no file"),
        ([*ROWS, "cat/1.png"], "file,label", "line 8 has 1 cells, but the header has 2"),
        ([], "file,label", "expected one row for each sample; the table has no rows"),
        ([], "", "expected a header row such as filename,label; the table is empty"),
        (
            [*ROWS, "x" * 200_000 + ",cat"],
            "file,label",
            "column 'file' must hold file names; line 8 has 200,000 charac",
        ),
        (['"' + "x\n" * 9_000_000 + '",cat'], "file,label", "not a readable table: .* more than 16,777,216 characters"),
        (["x" * 17_000_000 + ",cat"], "file,label", "a line is longer than 16,777,216 characters"),
    ],
)
def test_refused_tables(write, lines, header, message):
    with pytest.raises(DataError, match="labels.csv: " + message):
        open_data(write(*lines, header=header))


def test_a_cell_is_bounded_whatever_a_library_allows(write):
    before = csv.field_size_limit(2**31 - 1)
    try:
        with pytest.raises(DataError, match="a quoted cell goes on for more than 16,777,216 characters"):
            open_data(write('"' + ("x" * 2**23 + "\n") * 3 + '",cat', header="file,label"))
    finally:
        csv.field_size_limit(before)


def test_a_named_column_that_is_not_there(write):
    with pytest.raises(
        DataError, match=r"label_column 'lable' is not in the table, which has file, label. Did you mean 'label'"
    ):
        open_data(write(*ROWS, header="file,label"), label_column="lable")


def test_links_out_of_the_folder_are_refused(write, pets, tmp_path):
    (tmp_path / "out.png").write_bytes((pets / "cat/0.png").read_bytes())
    (pets / "in.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(DataError, match=r"1 of 7 files leads outside .*: 'in.png' \(line 8\).*--root (.*)") as caught:
        open_data(write(*ROWS, "in.png,cat"))
    assert len(open_data(pets / "labels.csv", root=str(caught.value).rpartition("--root ")[2])) == 7


def test_a_split_column_with_another_word(write):
    with pytest.raises(DataError, match="the split column must say train, val or test; got 'fold1' in line 2"):
        open_data(write(*(f"{row},fold1" for row in ROWS), header="file,label,split"), split_column="split")


def test_a_table_that_cannot_be_opened(write, monkeypatch):
    path = write(*ROWS)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(DataError, match=r"labels.csv cannot be opened: Permission denied\."):
        open_data(path)


def test_too_many_rows(write, monkeypatch):
    monkeypatch.setattr(table_text, "MAX_ROWS", 4)
    with pytest.raises(DataError, match="more than 4 rows"):
        open_data(write(*ROWS))


def png(photo, seed: int) -> bytes:
    buffer = io.BytesIO()
    photo(seed, (40, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images(photo):
    return [png(photo, seed) for seed in range(9)]


def test_parquet_of_bytes(tmp_path, images):
    pq.write_table(pa.table({"image": images, "label": [1, 0, 1] * 3}), tmp_path / "t.parquet", row_group_size=2)
    data = open_data(tmp_path / "t.parquet", class_names=["no", "yes"])
    assert data.files[:2] == ("t.parquet#0", "t.parquet#1")
    assert data.classes == ("no", "yes")
    assert [data.source.read(i) for i in range(9)] == images


def test_parquet_as_hugging_face_writes_it(tmp_path, images):
    cells = [{"bytes": image, "path": None} for image in images]
    pq.write_table(pa.table({"img": cells, "label": ["a", "b", "a"] * 3}), tmp_path / "t.parquet")
    data = open_data(tmp_path / "t.parquet")
    assert data.classes == ("a", "b")
    assert data.source.read(4) == images[4]


def test_parquet_of_paths(pets):
    files = [row.split(",")[0] for row in ROWS]
    pq.write_table(pa.table({"path": files, "label": [0, 0, 0, 1, 1, 1]}), pets / "t.parquet")
    assert len(open_data(pets / "t.parquet")) == 6
    pq.write_table(pa.table({"path": [*files, files[0]], "label": [0, 0, 0, 1, 1, 1, 0]}), pets / "t.parquet")
    data = open_data(pets / "t.parquet")
    assert len(data) == 6
    assert data.warnings[0] == "1 row repeats another and is left out; first cat/0.png (rows 0 and 6)."


def test_kept_row_groups_are_bounded(tmp_path, images, monkeypatch):
    monkeypatch.setattr(sources, "_ROW_GROUPS_BYTES", len(images[0]) * 3)
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet", row_group_size=2)
    source = sources.ParquetSource(tmp_path / "t.parquet", "image")
    for i in (0, 8, 3, 1, 8, 0):
        assert source.read(i) == images[i]
        assert len(source._kept) <= 2
    monkeypatch.setattr(sources, "_ROW_GROUPS_BYTES", 10)
    with pytest.raises(DataError, match=r"row group 0 holds 0.0 GiB, which is read at once"):
        sources.ParquetSource(tmp_path / "t.parquet", "image")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": [b"x"], "mask": [b"y"], "label": [1]}, {}, "several columns hold bytes: image, mask"),
        ({"image": [b"x"], "label": [1.5]}, {}, "labels must be text or whole numbers; got 1.5 in row 0"),
        ({"image": [b"x"], "label": [None]}, {}, "row 0 has no label"),
        (
            {"image": [b"x"], "label": [[1]]},
            {"target": "class"},
            "column 'label' must hold text or numbers; it holds list",
        ),
        ({"image": [b"x"], "label": [1]}, {"image_column": "img"}, "image_column 'img' is not in the table"),
        (
            {"image": [b"x"], "label": [1]},
            {"image_column": "label"},
            "image_column 'label' must hold bytes; it holds int64",
        ),
        ({"image": [b"x"], "kind": [1], "n": [1]}, {}, "expected a label column .*; found image, kind, n"),
        (
            {"image": [b"x"], "label": [["a"]]},
            {"target": "class"},
            "it holds list.* Read them as labels, .*--target labels",
        ),
    ],
)
def test_refused_parquet(tmp_path, columns, options, message):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "t.parquet", **options)


def test_a_file_that_is_not_parquet(tmp_path, write):
    (tmp_path / "t.parquet").write_text("hello")
    with pytest.raises(DataError, match=r"t.parquet: not a readable Parquet file"):
        open_data(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="image_column needs a Parquet file"):
        open_data(write(*ROWS), image_column="x")


def test_empty_cells_and_damaged_row_groups(tmp_path, images):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [*images, None, b""], "label": [0, 1] * 5 + [0]}), path, row_group_size=4)
    data = open_data(path)
    assert [(s.file, s.reason) for s in data.skipped] == [
        ("t.parquet#9", "the cell is empty"),
        ("t.parquet#10", "the cell is empty"),
    ]
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    data = open_data(path)
    assert len(data.skipped) >= 4
    assert "cannot be read" in data.skipped[0].reason or "damaged" in data.skipped[0].reason


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_folder_of_part_tables(pets, images, suffix):
    (pets / "class_names.txt").write_text("0 cat\n1 dog\n")
    if suffix == "parquet":
        pq.write_table(pa.table({"image": images[:6], "label": [0, 1] * 3}), pets / "train.parquet")
        pq.write_table(pa.table({"image": images[6:], "label": [1, 0, 1]}), pets / "test.parquet")
    else:
        (pets / "train.csv").write_text("file,label\ncat/0.png,0\ncat/1.png,0\ndog/0.png,1\ndog/1.png,1\n")
        (pets / "test.csv").write_text("file,label\ncat/2.png,0\ndog/2.png,1\n")
    data = open_data(pets)
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    n_test = 3 if suffix == "parquet" else 2
    assert data.given.tolist() == ["test"] * n_test + ["train"] * (len(data) - n_test)
    assert data.source.read(n_test) == (images[0] if suffix == "parquet" else (pets / "cat/0.png").read_bytes())


def test_part_tables_that_do_not_fit(pets, images):
    pq.write_table(pa.table({"image": images[:6], "label": [0, 1] * 3}), pets / "train.parquet")
    pq.write_table(pa.table({"image": images[6:], "label": ["b", "a", "b"]}), pets / "test.parquet")
    with pytest.raises(DataError, match="labels are text in one table and numbers in another"):
        open_data(pets)
    (pets / "train.csv").write_text("x")
    with pytest.raises(DataError, match=r"train.csv and train.parquet are both the training set"):
        open_data(pets)


def test_class_names_files(pets, images):
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2] * 3}), pets / "train.parquet")
    (pets / "class_names.txt").write_text("big cat\ndog\n\nbird\n")
    assert open_data(pets).classes == ("big cat", "dog", "bird")
    (pets / "class_names.txt").write_bytes(b"caf\xe9\ndog\nbird")
    with pytest.raises(DataError, match=r"class_names.txt: expected UTF-8 text"):
        open_data(pets)
    (pets / "class_names.txt").unlink()
    (pets / "class_names.csv").write_text("label,wnid,name\n1,n1,crane\n0,n0,crane\n2,n2,pole\n")
    assert open_data(pets).classes == ("crane (0)", "crane (1)", "pole")
    (pets / "class_names.csv").write_text("label,name\n1,a\n0,b\n3,c\n")
    with pytest.raises(DataError, match=re.escape("expected the labels 0 to 2, each once")):
        open_data(pets)


def test_groups_of_tables_are_a_column(write):
    with pytest.raises(UsageError, match="groups does not go with a table; give group_column instead"):
        open_data(write(*ROWS), groups=[1] * 6)


def test_real_parquet(real_data):
    data = open_data(real_data / "fashion_mnist_small")
    assert len(data) == 8000
    assert data.classes[:2] == ("T-shirt/top", "Trouser")
    assert np.bincount(data.labels[data.given == "test"]).tolist() == [200] * 10
