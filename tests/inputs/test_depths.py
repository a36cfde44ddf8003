"""Pictures deeper than 8 bits: what one look finds, what a data set decides, what is refused and by which name."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from thawline.errors import UndecodableError
from thawline.inputs.image import open_image
from thawline.inputs.image.deep import Deep
from thawline.inputs.image.kind import look, scales_of, settled
from thawline.inputs.image.scales import Depth, Extra, Ranges, alone, extra_from, together
from thawline.records import ValueScale


def tiff(pixels, **how):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **how)
    return file.getvalue()


def grey(encode, greatest, dtype=np.uint16, size=(40, 48), seed=0):
    rng = np.random.default_rng(seed)
    values = np.linspace(0, greatest, size[0] * size[1]).reshape(size) * rng.uniform(0.9, 1, size)
    values.flat[-1] = greatest
    return encode(Image.fromarray(values.astype(dtype)), "PNG" if dtype == np.uint16 else "TIFF")


# One scale for all


@pytest.mark.parametrize(
    ("greatest", "white"),
    [(200, 255), (255, 255), (500, 511), (1023, 1023), (1024, 2047), (3000, 4095), (4095, 4095), (9000, 16383),
     (16383, 16383), (40000, 65535), (65535, 65535)],
)  # fmt: skip
def test_the_fewest_bits_that_hold_every_value_are_taken(encode, greatest, white):
    scales = scales_of([grey(encode, greatest // 3), grey(encode, greatest)])
    assert scales == (() if white == 65535 else (ValueScale("uint16", 0, white),))


def test_a_darker_picture_stays_darker(encode):
    bright, dark = grey(encode, 4095), grey(encode, 1023)
    scales = scales_of([bright, dark])
    assert np.asarray(open_image(bright, scales)).max() == 255
    assert np.asarray(open_image(dark, scales)).max() == 64


def test_8_bits_stretched_to_16_are_not_stretched_again_however_dark(encode):
    values = (np.arange(1, 65, dtype=np.uint16) * 257).reshape(8, 8)
    assert scales_of([encode(Image.fromarray(values))]) == ()
    assert scales_of([encode(Image.fromarray(values)), encode(Image.fromarray(values + 1))]) != ()


def test_files_of_full_range_are_read_as_before(encode):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = np.asarray(open_image(encode(Image.fromarray(values)), scales_of([encode(Image.fromarray(values))])))
    before = np.rint(values.astype(np.float32) * (255.0 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(found, np.repeat(before[..., None], 3, 2))
    colours = np.stack([values, values.T, values[::-1]], axis=2)
    for data in (tiff(colours, photometric="rgb"), tiff(colours, photometric="rgb", byteorder=">")):
        np.testing.assert_array_equal(np.asarray(open_image(data)), colours >> 8)
        np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("reaches", "black", "white"),
    [
        ([("float", 0, 0.4)], 0, 1),
        ([("float", 0, 1), ("float", 0, 200)], 0, 255),
        ([("float", 0, 1.2)], 0, 1.2),
        ([("float", 0.1, 40)], 0, 40),
        ([("float", 0, 3900)], 0, 4095),
        ([("float", -0.5, 0.5), ("float", 0, 2)], -0.5, 2),
        ([("float", 0, 1e6)], 0, 1e6),
        ([("float", 0, 0)], 0, 1),
        ([("int16", 0, 900)], 0, 1023),
        ([("int16", -1024, 3071)], -1024, 3071),
        ([("int16", -5, -5)], -5, -4),
        ([("uint32", 0, 70000)], 0, 131071),
        ([("uint32", 0, 2**32 - 1)], 0, 2**32 - 1),
        ([("int32", 0, 200)], 0, 255),
    ],
)
def test_the_scale_of_other_numbers(reaches, black, white):
    depths = [Depth(*reach) for reach in reaches]
    assert together(depths) == ValueScale(depths[0].values, black, white)


def test_each_type_of_number_has_a_scale_of_its_own(encode):
    scales = scales_of([grey(encode, 4095), grey(encode, 300, np.float32), encode(Image.new("RGB", (9, 9), "red"))])
    assert scales == (ValueScale("uint16", 0, 4095), ValueScale("float", 0, 511))


# What a look keeps


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
def test_the_sketch_of_a_data_set_is_that_of_the_picture_in_8_bits(photo, encode, colours, white_is_zero):
    image = photo(3) if colours == 3 else photo(3).convert("L")
    deep = np.rint(np.asarray(image) * (4095 / 255)).astype(np.uint16)
    if white_is_zero and colours == 3:
        pytest.skip("there is no such file")
    stored = 4095 - deep if white_is_zero else deep
    data = tiff(stored, photometric="rgb" if colours == 3 else "miniswhite" if white_is_zero else "minisblack")
    wanted, extra = look(encode(image))
    assert extra == b""
    dark, extra = look(data)
    found = settled({0: extra}, dark[None], np.ones(1, bool), ["a.tif"])
    assert np.abs(found.sketches[0].astype(int) - wanted).max() <= 1
    assert found.scales == (ValueScale("uint16", 0, 4095),)


def test_what_a_look_keeps_survives_the_store():
    extra = Extra(Depth("float", -1.5, 7.0, holes=True), np.arange(768, dtype=np.float32).reshape(16, 16, 3), True)
    found = extra_from(extra.to_bytes())
    assert (found.depth, found.pages) == (extra.depth, True)
    np.testing.assert_array_equal(found.raw, extra.raw)
    assert extra_from(Extra(None, None, True).to_bytes()) == Extra(None, None, True)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_look_at_8_bits_keeps_nothing_more(photo, encode, format):
    sketch, extra = look(encode(photo(0), format))
    assert (sketch.shape, extra) == ((16, 16, 3), b"")


def test_the_test_set_does_not_decide_and_what_goes_beyond_is_said(encode):
    files = [grey(encode, 4000, seed=1), grey(encode, 4095, seed=2), grey(encode, 60000, seed=3)]
    looks = [look(data) for data in files]
    extras = {row: extra for row, (_, extra) in enumerate(looks)}
    sketches = np.stack([sketch for sketch, _ in looks])
    found = settled(extras, sketches, np.array([True, True, False]), ["a.png", "b.png", "c.png"])
    assert found.scales == (ValueScale("uint16", 0, 4095),)
    assert "read as 12 bits" in found.remarks[0]
    assert "1 of them goes beyond that scale, in the test set; first c.png, which reaches 60,000" in found.remarks[1]
    assert (found.sketches[2] == 255).mean() > 0.8


def test_pictures_of_fewer_bits_beside_others_of_full_range_are_said(encode):
    files = [grey(encode, 4095), grey(encode, 65535)]
    extras = {row: look(data)[1] for row, data in enumerate(files)}
    found = settled(extras, np.zeros((2, 16, 16, 3), np.uint8), np.ones(2, bool), ["a.png", "b.png"])
    assert found.scales == ()
    [said] = found.remarks
    assert "1 of 2 pictures of 16 bits reach only 4,095 or less, the others 65,535" in said and "a.png" in said


def test_values_in_a_narrow_band_are_said(encode):
    """Thermal cameras count from an offset."""
    warm = [encode(Image.fromarray(np.linspace(33069, 36863, 400).reshape(20, 20).astype(np.uint16)))] * 2
    extras = {row: look(data)[1] for row, data in enumerate(warm)}
    found = settled(extras, np.zeros((2, 16, 16, 3), np.uint8), np.ones(2, bool), ["a.png", "b.png"])
    assert found.scales == ()
    [said] = found.remarks
    assert "lie between 33,069 and 36,863, 6% of the range" in said and "subtract 33,069" in said
    lower = encode(Image.fromarray(np.linspace(0, 36863 - 33069, 400).reshape(20, 20).astype(np.uint16)))
    assert scales_of([lower]) == (ValueScale("uint16", 0, 4095),), "what the sentence advises helps"


def test_further_pages_are_said_once_and_smaller_copies_are_not(encode):
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    several = encode(first, "TIFF", save_all=True, append_images=[second])
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((20, 20, 3), np.uint8), photometric="rgb")
        writer.write(np.zeros((10, 10, 3), np.uint8), photometric="rgb", subfiletype=1)
    assert np.asarray(open_image(several))[0, 0].tolist() == [255, 0, 0]
    assert look(file.getvalue())[1] == b""
    found = settled({1: look(several)[1]}, np.zeros((2, 16, 16, 3), np.uint8), np.ones(2, bool), ["a", "b"])
    assert found.remarks == [
        "1 of 2 files hold several pages; the first of each is read, the others are left out, for one b."
    ]


# Predictions


def test_ranges_beyond_the_scale_of_a_model_are_said():
    ranges = Ranges()
    ranges.note(Deep(np.array([[0, 5000]], np.uint16)))
    ranges.note(Deep(np.array([[0, 100]], np.uint16)))
    [said] = ranges.remarks((ValueScale("uint16", 0, 4095),))
    assert said.startswith("2 pictures with 16-bit numbers from 0 to 5,000 go beyond the scale")
    assert ranges.remarks((ValueScale("uint16", 0, 8191),)) == []
    [said] = ranges.remarks(())
    assert "white is 65,535" in said


# Kinds that are refused by their names


@pytest.mark.parametrize(
    ("pixels", "how", "name"),
    [
        (np.zeros((5, 20, 20), np.uint16), {"planarconfig": "separate", "photometric": "minisblack"},
         "a planar TIFF of 16 bits (grey, 5 bands), which is not read"),
        (np.zeros((20, 20, 2), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"},
         "a TIFF of 16 bits (grey, 2 bands), which is not read"),
        (np.zeros((20, 20), np.complex64), {}, "a TIFF of 64 complex bits (grey), which is not read"),
        (np.zeros((20, 20, 3), np.uint16), {"photometric": "cielab"},
         "a TIFF of 16 bits (CIELab), which is not read"),
        (np.zeros((20, 20), np.uint64), {}, "a TIFF of 64 bits (grey), which is not read"),
        (np.zeros((20, 20), np.uint16), {"photometric": "cfa"}, "a TIFF of 16 bits (raw sensor), which is not read"),
    ],
)  # fmt: skip
def test_a_sound_file_that_is_not_read_is_refused_by_its_kind(pixels, how, name):
    if how.get("photometric") == "cfa":
        data = bytearray(tiff(pixels, photometric="minisblack"))
        at = data.index(struct.pack("<HHI", 262, 3, 1))
        data[at + 8 : at + 10] = struct.pack("<H", 32803)
        data = bytes(data)
    else:
        data = tiff(pixels, **how)
    with pytest.raises(UndecodableError) as refused:
        open_image(data)
    assert str(refused.value).startswith(name)
    assert "Save it as PNG, or as TIFF" in str(refused.value)
    assert "damaged" not in str(refused.value)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"planarconfig": "separate"}, {"tile": (16, 16)}])
def test_deep_files_cut_short_are_refused(how):
    shape = (3, 48, 48) if "planarconfig" in how else (48, 48, 3)
    data = tiff(np.random.default_rng(0).integers(0, 65535, shape, np.uint16), photometric="rgb", **how)
    at = struct.unpack_from("<I", data, 4)[0]
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    assert at < page.dataoffsets[-1], "the tags come first, the samples are cut"
    cut = data[: page.dataoffsets[-1] + page.databytecounts[-1] // 2]
    with pytest.raises(UndecodableError, match=r"truncated|damaged"):
        open_image(cut)


def test_a_bomb_of_samples_is_refused_before_it_is_decoded():
    small = tiff(np.zeros((64, 64, 3), np.float32), photometric="rgb", compression="zlib")
    data = bytearray(small)
    for tag in (256, 257, 278):
        at = next(i for i in range(len(data)) if data[i : i + 2] == struct.pack("<H", tag) and data[i + 3] == 0)
        data[at + 8 : at + 12] = struct.pack("<I", 9000)
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableError, match="too large"):
            open_image(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_jpeg_2000_whose_low_bits_cannot_be_had_is_refused_where_they_hold_the_picture():
    import cv2

    values = np.linspace(0, 65535, 64 * 64 * 3).reshape(64, 64, 3)
    full, twelve, shallow, dark = (
        cv2.imencode(".jp2", (values / by).astype(kind))[1].tobytes()
        for by, kind in ((1, np.uint16), (16, np.uint16), (257, np.uint8), (2570, np.uint8))
    )
    assert np.asarray(open_image(full)).max() > 250 < np.asarray(open_image(shallow)).max()
    assert np.asarray(open_image(dark)).max() < 32
    with pytest.raises(UndecodableError, match=r"a JPEG 2000 picture of 16 bits .* Save it as PNG or TIFF of 16 bits"):
        open_image(twelve)


def test_grey_jpeg_2000_of_16_bits_is_judged():
    import cv2

    values = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = cv2.imencode(".jp2", values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    scales = scales_of([data])
    assert scales == (ValueScale("uint16", 0, 4095),)
    assert np.abs(np.asarray(open_image(data, scales))[..., 0] - values * (255 / 4095)).max() <= 0.51


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (128, 128)}, {"rowsperstrip": 7}])
def test_files_of_many_pieces_are_read_piece_by_piece(monkeypatch, how):
    """Pillow takes a large piece for a bomb, and memory should not hold everything twice."""
    monkeypatch.setattr("thawline.inputs.image.tiff._AT_ONCE_BYTES", 3000)
    values = np.random.default_rng(0).integers(0, 65536, (300, 200, 3), np.uint16)
    np.testing.assert_array_equal(np.asarray(open_image(tiff(values, photometric="rgb", **how))), values >> 8)


def test_as_many_pixels_as_of_8_bits_are_read(monkeypatch):
    """One strip without compression is no bomb, however large."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 200 * 3)
    values = np.random.default_rng(0).integers(0, 65536, (300, 200, 3), np.uint16)
    np.testing.assert_array_equal(
        np.asarray(open_image(tiff(values, photometric="rgb", rowsperstrip=300))), values >> 8
    )


def test_a_look_leaves_the_array_of_its_owner_alone():
    values = np.array([[0, np.nan], [1, np.inf]], np.float32)
    look(values)
    assert np.isnan(values[0, 1]) and np.isinf(values[1, 1])


# Texts in PNG


def png_with(photo, *chunks):
    file = io.BytesIO()
    photo.save(file, "PNG")
    data = file.getvalue()
    made = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:33] + made + data[33:], data[:-12] + made + data[-12:]


LONG = zlib.compress(b"x" * 2_000_000)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"parameters\0\0" + LONG),
        (b"iTXt", b"workflow\0\1\0\0\0" + LONG),
        (b"iTXt", b"workflow\0\0\0\0\0" + b"y" * 2_000_000),
        (b"tEXt", b"prompt\0" + b"y" * 2_000_000),
        (b"iCCP", b"profile\0\0" + LONG),
        (b"zTXt", b"Raw profile type exif\0\0" + LONG),
    ],
    ids=lambda chunk: f"{chunk[0].decode()} {chunk[1][:8].decode()}",
)
def test_png_with_a_long_text_is_read(photo, encode, chunk):
    before, behind = png_with(photo(1), chunk)
    wanted = np.asarray(open_image(encode(photo(1))))
    for data in (before, behind):
        np.testing.assert_array_equal(np.asarray(open_image(data)), wanted)
        np.testing.assert_array_equal(look(data)[0], look(encode(photo(1)))[0])


def test_png_with_more_text_than_memory_is_read_in_little(photo, encode):
    bomb = zlib.compress(b"x" * 30_000_000, 9)
    chunks = [(b"zTXt", b"a\0\0" + bomb), *[(b"tEXt", b"b\0" + b"z" * 900_000)] * 80]  # 102 MB of text
    data, _ = png_with(photo(1), *chunks)
    limits = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(open_image(encode(photo(1)))))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(data)
    finally:
        tracemalloc.stop()
    assert (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY) == limits


def test_deep_png_with_a_long_text_keeps_its_depth(encode):
    values = np.linspace(0, 4095, 3 * 30 * 40).reshape(30, 40, 3).astype(np.uint16)
    import cv2

    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    body = b"parameters\0\0" + LONG
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    for at in (33, len(data) - 12):
        long = data[:at] + chunk + data[at:]
        assert scales_of([long]) == (ValueScale("uint16", 0, 4095),)
        np.testing.assert_array_equal(open_image(long, scales_of([long])), open_image(data, scales_of([data])))


# Turned, transparent, coloured otherwise


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colours", [1, 3])
def test_deep_pictures_are_turned_upright(photo, encode, orientation, colours):
    image = photo(2) if colours == 3 else photo(2).convert("L")
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = np.asarray(open_image(encode(image, "PNG", exif=exif)))
    values = np.asarray(image).astype(np.uint16) * 16
    data = tiff(
        values, photometric="rgb" if colours == 3 else "minisblack", extratags=[(274, "H", 1, orientation, True)]
    )
    scales = scales_of([data, tiff(np.array([[4095]] * 2, np.uint16))])
    found = np.asarray(open_image(data, scales)).astype(int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1
    sketch, extra = look(data)
    turned = settled({0: extra}, sketch[None], np.ones(1, bool), ["a"]).sketches[0].astype(int)
    assert np.abs(turned - look(encode(image, "PNG", exif=exif))[0]).max() <= 1


@pytest.mark.parametrize(("lab", "rgb"), [((0, 0, 0), 0), ((255, 0, 0), 255), ((137, 0, 0), 128)])
def test_lab_is_read(encode, lab, rgb):
    data = encode(Image.new("LAB", (8, 8), (lab[0], 128, 128)), "TIFF")
    assert tifffile.TiffFile(io.BytesIO(data)).pages[0].asarray()[0, 0].tolist() == list(lab)
    assert np.abs(np.asarray(open_image(data)).astype(int) - rgb).max() <= 2


def test_an_open_picture_of_pillow_is_read_from_its_file_where_loading_loses_samples(tmp_path):
    import cv2

    from thawline.inputs.image.decode import payload_from

    values = np.linspace(0, 4095, 3 * 30 * 40).reshape(30, 40, 3).astype(np.uint16)
    planar = tiff(np.ascontiguousarray(np.moveaxis(values, 2, 0)), photometric="rgb", planarconfig="separate")
    (tmp_path / "a.tif").write_bytes(planar)
    for data in (planar, tiff(values, photometric="rgb"), cv2.imencode(".png", values[..., ::-1])[1].tobytes()):
        assert payload_from(Image.open(io.BytesIO(data))) == data
    with Image.open(tmp_path / "a.tif") as image:
        assert payload_from(image) == planar
        image.load()
        with pytest.raises(UndecodableError, match="planar TIFF of 16 bits that Pillow has loaded wrongly"):
            payload_from(image)
    eight = tiff((values >> 4).astype(np.uint8), photometric="rgb")
    np.testing.assert_array_equal(payload_from(Image.open(io.BytesIO(eight))), values >> 4)


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa"])
def test_rare_modes_with_transparency_are_laid_over_white(mode):
    from thawline.inputs.image.decode import pixels_of

    rgba = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    image = rgba.convert("LA").convert("La") if mode == "La" else rgba.convert(mode)
    assert np.abs(pixels_of(image).astype(int) - 127).max() <= 1


def test_a_colour_map_of_small_numbers_is_one_of_8_bits(encode):
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    data = bytearray(encode(image, "TIFF"))
    at, n = next(
        (struct.unpack_from("<I", data, i + 8)[0], 768)
        for i in range(len(data) - 12)
        if data[i : i + 8] == struct.pack("<HHI", 320, 3, 768)
    )
    wanted = np.asarray(open_image(bytes(data)))
    values = np.frombuffer(bytes(data[at : at + 2 * n]), "<u2")
    data[at : at + 2 * n] = (values >> 8).astype("<u2").tobytes()
    np.testing.assert_array_equal(np.asarray(open_image(bytes(data))), wanted)


def test_the_value_that_stands_for_a_missing_one_is_black(encode):
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[:4] = -9999
    data = tiff(values, extratags=[(42113, "s", 0, "-9999", True)])
    assert scales_of([data]) == (ValueScale("float", 0, 1),)
    assert np.asarray(open_image(data, scales_of([data])))[:4].max() == 0


def test_heights_are_not_scaled_by_the_number_that_stands_for_none():
    values = np.linspace(0, 3000, 400).reshape(20, 20).astype(np.int16)
    values[:4] = -32768
    data = tiff(values, extratags=[(42113, "s", 0, "-32768", True)])
    assert scales_of([data]) == (ValueScale("float", 0, 4095),)
    found = np.asarray(open_image(data, scales_of([data])))[..., 0]
    assert found[:4].max() == 0 and np.abs(found[4:] - values[4:] * (255 / 4095)).max() <= 0.51


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_samples_without_gaps_fill_the_range(bits, byteorder):
    values = np.linspace(0, 2**bits - 1, 21 * 37).astype(np.uint16).reshape(21, 37)
    ones = ((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    rows = np.packbits(ones.reshape(21, -1), axis=1).tobytes()
    fields = {256: 37, 257: 21, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 21, 279: len(rows)}
    order = byteorder
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in fields.items())
    start = 8 + len(rows) + len(rows) % 2
    data = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start) + rows + bytes(len(rows) % 2)
    data += struct.pack(order + "H", len(fields)) + entries + bytes(4)
    found = np.asarray(open_image(data, scales_of([data])))[..., 0].astype(float)
    assert np.abs(found - values * (255 / (2**bits - 1))).max() <= 0.51
    assert scales_of([data]) == ()


def test_a_picture_alone_is_read_by_its_type():
    assert alone(Depth("uint16", 0, 9)) == ValueScale("uint16", 0, 65535)
    assert alone(Depth("float", 0, 0.5)) == ValueScale("float", 0, 1)
    assert alone(Depth("float", -2, 2)) == ValueScale("float", -2, 2)
