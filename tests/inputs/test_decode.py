from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from warnings import filters

import numpy as np
import pytest
from PIL import Image

from thawline.errors import UndecodableError
from thawline.inputs.image.decode import (
    Picture,
    fitted,
    open_image,
    open_picture,
    prepare,
    reduction_of,
    shrinking,
    thumbnail,
)
from thawline.records import ImagePreparation

PLAIN = ImagePreparation(input_px=(224, 224), resize_px=256, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG"])
def test_every_format_gives_the_picture(photo, encode, format):
    image = photo(1)
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    found = np.asarray(open_image(encode(image, format, **lossless)), int)
    tolerance = {"JPEG": 6, "GIF": 90}.get(format, 0)
    assert np.abs(found - np.asarray(image, int)).max() <= tolerance


def test_gif_gives_its_first_frame(photo, encode):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    found = open_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.asarray(found)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(photo, encode, mode):
    image = photo(2).convert(mode)
    found = open_image(encode(image, "TIFF"))
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_over_white(encode):
    rgba = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    rgba.putpixel((1, 0), (10, 20, 30, 255))
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    half = Image.new("LA", (1, 1), (0, 128))
    assert np.asarray(open_image(encode(rgba))).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    assert np.asarray(open_image(encode(palette, transparency=0))).tolist() == [[[255, 255, 255]]]
    assert np.asarray(open_image(encode(half)))[0, 0, 0] == 127


@pytest.mark.parametrize(
    ("values", "format", "expected"),
    [
        (np.array([[0, 257, 65535]], np.uint16), "PNG", [0, 1, 255]),
        (np.array([[0, 257, 255]], np.uint16), "TIFF", [0, 1, 1]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), "TIFF", [0, 128, 255]),
        (np.array([[0.0, 7.0, 255.0]], np.float32), "TIFF", [0, 7, 255]),
        (np.array([[-100.0, 0.0, 300.0]], np.float32), "TIFF", [0, 64, 255]),
        (np.array([[0, 7, 255]], np.int32), "TIFF", [0, 7, 255]),
        (np.array([[0, 257, 65535]], np.int32), "TIFF", [0, 1, 255]),
        (np.array([[0, 257, 514]], np.int32), "TIFF", [0, 1, 2]),
    ],
)
def test_deep_grey_is_scaled_by_its_range(encode, values, format, expected):
    assert np.asarray(open_image(encode(Image.fromarray(values), format)))[0, :, 0].tolist() == expected


def test_deep_ppm_keeps_the_range_of_its_format():
    data = b"P5 3 1 65535\n" + struct.pack(">3H", 0, 100, 200)  # dark, and not to be taken for 0..255
    assert np.asarray(open_image(data))[0, :, 0].tolist() == [0, 0, 1]


def test_values_that_are_no_numbers_are_refused_only_where_there_are_no_others(encode):
    some = encode(Image.fromarray(np.array([[0, 0.5, 1, np.inf, -np.inf, np.nan]], np.float32)), "TIFF")
    assert np.asarray(open_image(some))[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0]
    data = encode(Image.fromarray(np.full((1, 2), np.nan, np.float32)), "TIFF")
    with pytest.raises(UndecodableError, match="infinite or not a number"):
        open_image(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_and_its_thumbnail(photo, encode, format, orientation):
    image = photo(3, (160, 96))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE"]
    turn = [*turns, "ROTATE_90"][orientation - 1]
    upright = image if turn is None else image.transpose(Image.Transpose[turn])
    data = encode(image, format, exif=exif, **({"quality": 95} if format != "PNG" and format != "TIFF" else {}))
    found = open_image(data)
    assert found.size == upright.size
    assert np.abs(np.asarray(found, int) - np.asarray(upright, int)).mean() < 4
    small = np.asarray(upright.resize((16, 16), Image.Resampling.HAMMING), int)
    assert np.abs(np.asarray(thumbnail(data, 16), int) - small).mean() < 2


def test_damaged_exif_does_not_hide_a_good_picture(photo, encode):
    data = encode(photo(4), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert open_image(data).size == (160, 120)


def test_thumbnail_of_a_reduced_jpeg_is_that_of_the_whole(photo, encode):
    for size in [(1000, 750), (1003, 517), (999, 1501)]:
        image = photo(5, size)
        whole = np.asarray(image.resize((16, 16), Image.Resampling.HAMMING), int)
        reduced = np.asarray(thumbnail(encode(image, "JPEG", quality=95), 16), int)
        assert np.abs(reduced - whole).max() <= 3, size


def test_arrays_are_payloads_too():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(open_image(grey)), np.repeat(grey[..., None], 3, axis=2))
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(np.asarray(open_image(colour)), colour)
    assert thumbnail(colour, 16).size == (16, 16)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"no picture, just words\n", "^not a picture: its content is text$"),
        (bytes(range(256)), "^not a picture in any format that is read$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^a drawing without pixels: save it as PNG"),
        (b"\xff\xd8\xff\xe0\0\x10JF", "^a (damaged|truncated) JPEG file"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "^a damaged HEIC file: "),
        (png_header(50_000, 50_000), "^too large: 2500 megapixels where at most 100 are read$"),
        (png_header(12_000, 9_000), "^too large: 12000 x 9000 pixels, 108 megapixels where at most 100 are read$"),
        (png_header(1, 4_000), "^1 x 4000 pixels: a strip"),
        (png_header(9_900, 10_000), "^a truncated PNG file: its data end before the picture does$"),
    ],
)
def test_reasons(data, reason):
    for read in (open_image, lambda payload: thumbnail(payload, 16)):
        with pytest.raises(UndecodableError, match=reason):
            read(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_file_cut_short_is_never_read(photo, encode, format):
    data = encode(photo(6, (400, 300)), format)
    for share in (0.02, 0.5, 0.9):
        for read in (open_image, lambda payload: thumbnail(payload, 16)):
            with pytest.raises(UndecodableError, match=r"truncated|damaged"):
                read(data[: int(len(data) * share)])


def test_progressive_jpeg_cut_short_is_never_read(photo, encode):
    data = encode(photo(6, (800, 600)), "JPEG", progressive=True)
    for read in (open_image, lambda payload: thumbnail(payload, 16)):
        with pytest.raises(UndecodableError, match="truncated JPEG"):
            read(data[: len(data) // 2])


def test_pillows_warnings_never_leak_and_filters_come_back(encode, photo):
    palette = photo(7).convert("P")
    data = encode(palette, transparency=bytes(range(256)))  # "Palette images with Transparency ..."
    before = list(filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_image, [data] * 64))
    assert filters == before


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 501), (256, 256), (257, 256), (31, 77), (640, 401), (1, 1), (300, 3)]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize(
    ("input_px", "resize_px"),
    [(224, 256), (33, 38), *(pytest.param(*px, marks=pytest.mark.slow) for px in ((224, 224), (192, 219)))],
)
def test_prepare_is_timms_transform(photo, encode, size, interpolation, input_px, resize_px):
    transform = _timm_transform(input_px, resize_px, interpolation, "center")
    image = photo(8, size)
    preparation = replace(PLAIN, input_px=(input_px, input_px), resize_px=resize_px, interpolation=interpolation)
    cropped = size[0] != size[1] or input_px != resize_px
    _same_as_timm(
        prepare(encode(image), preparation), transform(image),
        **({"at_most_off": 2, "share": 0.02} if interpolation != "nearest" and cropped else {}),
    )  # fmt: skip


@pytest.mark.parametrize("size", [(500, 375), (224, 224), (31, 77)])
@pytest.mark.parametrize("resize_px", [224, 249])
def test_squash_is_timms_squash(photo, encode, size, resize_px):
    transform = _timm_transform(224, resize_px, "bicubic", "squash")
    plain = replace(PLAIN, crop_mode="squash", resize_px=resize_px)
    _same_as_timm(prepare(encode(photo(9, size)), plain), transform(photo(9, size)))


def test_a_crop_larger_than_the_picture_is_padded_as_torchvision_does(photo, encode):
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()
    from torchvision.transforms import CenterCrop, Compose, Resize

    for size, px in [((40, 31), 64), ((31, 40), 64), ((33, 100), 64), ((100, 33), 40), ((60, 31), 40)]:
        expected = Compose([Resize(31), CenterCrop(px)])(photo(10, size))
        preparation = replace(PLAIN, input_px=(px, px), resize_px=31, interpolation="bilinear")
        np.testing.assert_array_equal(prepare(encode(photo(10, size)), preparation), np.asarray(expected))


def _timm_transform(input_px: int, resize_px: int, interpolation: str, crop_mode: str):
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()
    from timm.data import create_transform

    crop_pct = next(p for p in (input_px / resize_px, 0.875, 0.876) if int(input_px / p) == resize_px)
    return create_transform(
        (3, input_px, input_px), interpolation=interpolation, crop_pct=crop_pct, crop_mode=crop_mode, normalize=False
    )


def _same_as_timm(found, expected, *, at_most_off=0, share=0.0):
    """Args:
    at_most_off: Levels that a value may be off.
    share: Of the values that may be off at all.
    """
    off = np.abs(found.astype(int) - expected.numpy().transpose(1, 2, 0))
    assert (off.max() <= at_most_off, (off > 0).mean() <= share) == (True, True), (off.max(), (off > 0).mean())


@pytest.mark.parametrize("size", [(500, 375), (375, 501), (640, 401), (333, 500), (128, 128)])
def test_cropping_first_is_off_in_few_values_and_never_far(photo, encode, size):
    off = []
    for input_px, resize_px in [(224, 256), (192, 219), (224, 249), (160, 182)]:
        found = prepare(encode(photo(8, size)), replace(PLAIN, input_px=(input_px, input_px), resize_px=resize_px))
        expected = _timm_transform(input_px, resize_px, "bicubic", "center")(photo(8, size))
        off.append(np.abs(found.astype(int) - expected.numpy().transpose(1, 2, 0)).ravel())
    off = np.concatenate(off)
    assert (off.max() <= 2, (off > 0).mean() < 1e-3) == (True, True), (off.max(), (off > 0).mean())


def test_a_tall_picture_and_a_squashed_one_keep_pillows_order_of_passes(photo, encode):
    for size in [(300, 900), (100, 201)]:
        transform = _timm_transform(33, 38, "bicubic", "center")
        _same_as_timm(
            prepare(encode(photo(8, size)), replace(PLAIN, input_px=(33, 33), resize_px=38)), transform(photo(8, size))
        )


@pytest.fixture
def camera_jpeg(photo, encode):
    """A JPEG of 1204 x 903 pixels, which no block size divides, lying as the EXIF orientation says."""

    def make(orientation=1, size=(1204, 903)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        return encode(photo(3, size), "JPEG", quality=95, exif=exif)

    return make


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize_px", [76, 38, 18])
def test_a_reduced_jpeg_is_prepared_as_the_whole(camera_jpeg, orientation, resize_px):
    data = camera_jpeg(orientation)
    preparation = replace(PLAIN, input_px=(resize_px - 6, resize_px - 2), resize_px=resize_px)
    picture = open_picture(data, shrinking(preparation))
    assert picture.reduction == {76: 2, 38: 4, 18: 8}[resize_px]
    assert picture.size == open_image(data).size
    found = prepare(data, preparation).astype(int)
    off = np.abs(found - fitted(open_picture(data), preparation))
    assert (off.max() <= 3, off.mean() < 0.4) == (True, True), (off.max(), off.mean())


def test_what_is_padding_in_a_reduced_jpeg_is_left_out(encode):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.zeros((1201, 1601), np.uint8)
        pixels[:, :1600:2] = pixels[:1200:2] = 255  # the last, lone row and column decide nothing
        data = encode(Image.fromarray(pixels).convert("RGB"), "JPEG", quality=95, exif=exif)
        picture = open_picture(data, lambda width, height: 100)
        left, top, right, bottom = picture.box
        assert (right - left, bottom - top) == ((1601 / 8, 1201 / 8) if orientation < 5 else (1201 / 8, 1601 / 8))
        image = picture.image
        assert (left == 0 or right == image.width) and (top == 0 or bottom == image.height)
        assert (left > 0, top > 0) == (orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8))


def test_a_reduced_jpeg_too_tall_to_be_cropped_first_is_prepared_as_the_whole(camera_jpeg):
    data, preparation = camera_jpeg(3, (403, 1301)), replace(PLAIN, input_px=(15, 15), resize_px=17)
    assert open_picture(data, shrinking(preparation)).reduction == 4
    off = np.abs(prepare(data, preparation).astype(int) - fitted(open_picture(data), preparation))
    assert (off.max() <= 3, off.mean() < 0.4) == (True, True), (off.max(), off.mean())


def test_a_box_of_the_picture_is_found_in_its_reduced_form():
    picture = Picture(Image.new("RGB", (51, 26)), (0.5, 0.25, 51, 26), 4)
    assert picture.size == (202, 103)
    assert picture.inside((0, 0, 202, 103)) == picture.box
    assert picture.inside((4, 8, 12, 16)) == (1.5, 2.25, 3.5, 4.25)


@pytest.mark.parametrize("size", [(1210, 903), (903, 1210)])
def test_how_far_a_jpeg_is_reduced(camera_jpeg, size):
    for resize_px, reduction in [(77, 1), (76, 2), (39, 2), (38, 4), (20, 4), (19, 8), (1, 8)]:
        assert reduction_of(shrinking(replace(PLAIN, resize_px=resize_px)), size) == reduction
    nearest = replace(PLAIN, resize_px=1, interpolation="nearest")
    assert open_picture(camera_jpeg(size=size), shrinking(nearest)).reduction == 1
    assert open_picture(np.zeros((903, 1210, 3), np.uint8), lambda width, height: 100).reduction == 1


def test_a_jpeg_cut_short_is_not_read_from_its_reduced_form(camera_jpeg):
    data = camera_jpeg()
    with pytest.raises(UndecodableError, match="truncated JPEG"):
        prepare(data[: len(data) * 9 // 10], replace(PLAIN, input_px=(16, 16), resize_px=18))


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_jpegs_are_refused_or_read_and_nothing_else(photo, encode, progressive):
    data = encode(photo(6, (250, 190)), "JPEG", quality=80, progressive=progressive)
    rng, small = np.random.default_rng(0), replace(PLAIN, input_px=(14, 14), resize_px=16)
    refused = 0
    for trial in range(60):
        damaged = bytearray(data)
        for position in rng.integers(2, len(data), 1 + trial % 4):
            damaged[position] = rng.integers(256)
        payload = bytes(damaged if trial % 3 else damaged[: rng.integers(1, len(data))])
        if trial % 10 == 9:
            payload = b"\xff\xd8\xff" + rng.bytes(500)
        try:
            assert prepare(payload, small).shape == (14, 14, 3)
        except UndecodableError as error:
            refused += 1
            assert str(error)
    assert 10 < refused < 60
