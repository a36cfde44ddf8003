"""Data sets of pictures deeper than 8 bits: one scale for all, said, remembered, and the same by every door."""

from __future__ import annotations

import io
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from thawline.data import open_data
from thawline.data.scan_store import ScanStore
from thawline.data.sources import Stamp
from thawline.errors import DataError
from thawline.records import ValueScale
from thawline.scale.paths import cache_root

TWELVE = (ValueScale("uint16", 0, 4095),)
SAID = re.compile(r"(\d+) of (\d+) pictures hold 16-bit numbers that reach only [34],\d{3} of 65,535: read as 12 bits")


def deepened(path: Path, factor: float = 4095 / 255, kind: str = "grey png") -> Path:
    """Write a picture again with deeper samples, under its own name; return its path."""
    image = Image.open(path).convert("L" if "grey" in kind else "RGB")
    values = np.rint(np.asarray(image, np.float64) * factor)
    path.unlink()
    if kind == "grey png":
        Image.fromarray(values.astype(np.uint16)).save(path)
        return path
    target = path.with_suffix(".tif")
    match kind:
        case "planar":
            planes = np.ascontiguousarray(np.moveaxis(values.astype(np.uint16), 2, 0))
            tifffile.imwrite(target, planes, photometric="rgb", planarconfig="separate")
        case "rgb":
            tifffile.imwrite(target, values.astype(np.uint16), photometric="rgb")
        case "float":
            tifffile.imwrite(target, (values / (255 * factor)).astype(np.float32), photometric="rgb")
        case "grey white":
            tifffile.imwrite(target, 4095 - values.astype(np.uint16), photometric="miniswhite")
    return target


@pytest.fixture
def deep_photos(tiny_photos: Path) -> Path:
    """The tiny photos in grey, with 12 bits of 16."""
    for path in sorted(tiny_photos.rglob("*.png")):
        deepened(path)
    return tiny_photos


@pytest.fixture
def grey_photos(_tiny_photos: Path, tmp_path: Path) -> Path:
    """The same with 8 bits."""
    for path in sorted(_tiny_photos.rglob("*.png")):
        target = tmp_path / "grey" / path.relative_to(_tiny_photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(target)
    return tmp_path / "grey"


def test_12_bits_look_as_8_do_and_it_is_said(deep_photos, grey_photos):
    deep, plain = open_data(deep_photos), open_data(grey_photos)
    assert (deep.scales, plain.scales) == (TWELVE, ())
    assert [SAID.match(warning) is not None for warning in deep.warnings].count(True) == 1
    assert not any("bits" in warning for warning in plain.warnings)
    assert np.abs(deep.sketches.astype(int) - plain.sketches).max() <= 1
    np.testing.assert_array_equal(deep.groups, plain.groups)


@pytest.mark.parametrize(
    ("kind", "factor", "scales"),
    [("planar", 257, ()), ("rgb", 257, ()), ("rgb", 16383 / 255, (ValueScale("uint16", 0, 16383),)),
     ("planar", 4, (ValueScale("uint16", 0, 1023),)), ("float", 1, (ValueScale("float", 0, 1),)),
     ("grey white", 4095 / 255, TWELVE)],
)  # fmt: skip
def test_other_kinds_look_as_8_bits_do(tiny_photos, _tiny_photos, grey_photos, kind, factor, scales):
    plain = open_data(grey_photos if "grey" in kind else _tiny_photos)
    for path in sorted(tiny_photos.rglob("*.png")):
        deepened(path, factor, kind)
    deep = open_data(tiny_photos)
    assert deep.scales == scales
    assert deep.skipped == ()
    assert np.abs(deep.sketches.astype(int) - plain.sketches).max() <= 1


def test_the_second_opening_recalls_what_the_first_found(deep_photos, monkeypatch):
    old = 10**9
    monkeypatch.setattr("thawline.data.scan_store._SETTLED_NS", -old)
    first = open_data(deep_photos)
    monkeypatch.setattr("thawline.inputs.image.kind.look", lambda payload: pytest.fail("read again"))
    again = open_data(deep_photos)
    assert (again.scales, again.warnings, again.digests) == (first.scales, first.warnings, first.digests)
    np.testing.assert_array_equal(again.sketches, first.sketches)


def test_8_and_12_bits_side_by_side_are_each_read_by_their_own(tiny_photos):
    shallow = open_data(tiny_photos)
    paths = sorted(tiny_photos.rglob("*.png"))
    for path in paths[::2]:
        deepened(path)
    mixed = open_data(tiny_photos)
    assert mixed.scales == TWELVE
    [said] = filter(None, map(SAID.match, mixed.warnings))
    assert said.groups() == (str(len(paths[::2])), str(len(paths)))
    np.testing.assert_array_equal(mixed.sketches[1::2], shallow.sketches[1::2])


def test_copies_in_8_and_in_12_bits_are_near_copies(deep_photos, grey_photos):
    for path in sorted(grey_photos.rglob("*.png")):
        path.replace(deep_photos / path.parent.name / f"shallow_{path.name}")
    data = open_data(deep_photos)
    pairs = {}
    for file, group in zip(data.files, data.groups, strict=True):
        pairs.setdefault(Path(file).name.removeprefix("shallow_"), set()).add(int(group))
    assert {len(groups) for groups in pairs.values()} == {1}


def test_a_given_test_set_does_not_decide(deep_photos, tmp_path):
    for folder in sorted(deep_photos.iterdir()):
        for i, path in enumerate(sorted(folder.iterdir())):
            target = tmp_path / "split" / ("test" if i < 3 else "train") / folder.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    brightest = next((tmp_path / "split" / "test").rglob("*.png"))
    Image.fromarray(np.asarray(Image.open(brightest)) * np.uint16(16)).save(brightest)
    data = open_data(tmp_path / "split")
    assert data.scales == TWELVE
    [beyond] = [warning for warning in data.warnings if "beyond that scale" in warning]
    assert brightest.name in beyond and "in the test set" in beyond


def test_samples_that_were_drawn_are_judged_alike(deep_photos):
    drawn = open_data(deep_photos, most=9)
    assert 0 < drawn.drawn < 30
    assert drawn.scales == TWELVE


# Arrays


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64", ">u2", ">f4"])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_deep_arrays_are_read_by_one_scale(dtype, channels):
    pixels = np.random.default_rng(0).integers(0, 4096, (8, 20, 24, *channels)).astype(dtype)
    pixels[0, 0, 0] = 4095
    data = open_data(pixels, ["a", "b"] * 4)
    name = "float" if "f" in dtype else np.dtype(dtype).newbyteorder("=").name
    assert data.scales == (ValueScale(name, 0, 4095),)
    shallow = open_data(np.rint(pixels * (255 / 4095)).astype(np.uint8), ["a", "b"] * 4)
    assert np.abs(data.sketches.astype(int) - shallow.sketches).max() <= 1


def test_float_arrays_from_0_to_1_are_those_of_8_bits():
    pixels = np.random.default_rng(0).random((8, 20, 24, 3))
    data = open_data(pixels, ["a", "b"] * 4)
    assert data.scales == (ValueScale("float", 0, 1),)
    assert not any("floating" in warning for warning in data.warnings)


def test_arrays_of_different_types_have_different_digests():
    pixels = np.zeros((4, 8, 8), np.uint16) + np.arange(4, dtype=np.uint16)[:, None, None]
    digests = {open_data(pixels.astype(dtype), list("abab")).digests for dtype in ("uint8", "uint16", "int16")}
    assert len(digests) == 3


# Bytes in tables


def test_16_bit_png_in_parquet_and_in_a_hub_data_set(tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, payloads = np.random.default_rng(0), []
    for _ in range(8):
        values = rng.integers(0, 4096, (20, 24)).astype(np.uint16)
        values[0, 0] = 4095
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        payloads.append(file.getvalue())
    labels = ["a", "b"] * 4
    pq.write_table(pa.table({"image": payloads, "label": labels}), tmp_path / "t.parquet")
    table = open_data(tmp_path / "t.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = {"image": [{"bytes": payload, "path": None} for payload in payloads], "label": labels}
    hub = open_data(datasets.Dataset.from_dict(rows, features=features))
    assert table.scales == hub.scales == TWELVE
    assert any(map(SAID.match, table.warnings))
    np.testing.assert_array_equal(table.sketches, hub.sketches)


# Refusals


def test_a_folder_of_a_kind_that_is_not_read_names_the_kind(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(3):
            tifffile.imwrite(
                tmp_path / label / f"{i}.tif", np.zeros((6, 16, 16), np.uint16) + i, photometric="minisblack",
                planarconfig="separate",
            )  # fmt: skip
    with pytest.raises(DataError) as refused:
        open_data(tmp_path)
    assert "a planar TIFF of 16 bits (grey, 6 bands), which is not read" in str(refused.value)
    assert "Save it as PNG" in str(refused.value)


# The store of an earlier version


def test_rows_of_the_store_from_before_stay_for_jpeg_alone(monkeypatch):
    path = cache_root() / "scan.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    store = ScanStore(path)
    from thawline.data.scan_store import Look

    stamps = [Stamp(f"/data/{name}", 1, 1, 1, 1) for name in ("a.jpg", "b.PNG", "c.tif", "d.JPEG", "e.parquet#x#1")]
    for stamp in stamps:
        store.remember(stamp, Look("0" * 64, bytes(768)))
    store.flush()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert set(ScanStore(path).recall(stamps)) == {stamps[0], stamps[3]}
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (2,)
