from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from warnings import filters

import numpy as np
import pytest
from PIL import Image

from thawline.data.decode import open_image, prepare, thumbnail
from thawline.errors import UndecodableError
from thawline.records import Preprocessing

PLAIN = Preprocessing(input_px=(224, 224), resize_px=256, mean=(0.5,) * 3, std=(0.5,) * 3)


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


def test_infinite_values_are_refused(encode):
    data = encode(Image.fromarray(np.array([[0, np.inf]], np.float32)), "TIFF")
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
        (bytes(range(256)), "^not a picture: no JPEG, PNG, WebP, GIF, BMP, TIFF or PPM$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^not a picture: its content is text$"),
        (b"\xff\xd8\xff\xe0\0\x10JF", "^a (damaged|truncated) JPEG file"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC or AVIF"),
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
@pytest.mark.parametrize(("input_px", "resize_px"), [(224, 256), (224, 224), (192, 219), (33, 38)])
def test_prepare_is_timms_transform(photo, encode, size, interpolation, input_px, resize_px):
    transform = _timm_transform(input_px, resize_px, interpolation, "center")
    image = photo(8, size)
    preprocessing = replace(PLAIN, input_px=(input_px, input_px), resize_px=resize_px, interpolation=interpolation)
    _same_as_timm(prepare(encode(image), preprocessing), transform(image))


@pytest.mark.parametrize("size", [(500, 375), (224, 224), (31, 77)])
@pytest.mark.parametrize("resize_px", [224, 249])
def test_squash_is_timms_squash(photo, encode, size, resize_px):
    transform = _timm_transform(224, resize_px, "bicubic", "squash")
    plain = replace(PLAIN, crop_mode="squash", resize_px=resize_px)
    _same_as_timm(prepare(encode(photo(9, size)), plain), transform(photo(9, size)))


def test_a_crop_larger_than_the_picture_is_padded_as_torchvision_does(photo, encode):
    from thawline.backbones.timm_import import import_timm

    import_timm()
    from torchvision.transforms import CenterCrop, Compose, Resize

    for size in [(40, 31), (31, 40), (33, 100)]:
        expected = Compose([Resize(31), CenterCrop(64)])(photo(10, size))
        found = prepare(
            encode(photo(10, size)), replace(PLAIN, input_px=(64, 64), resize_px=31, interpolation="bilinear")
        )
        np.testing.assert_array_equal(found, np.asarray(expected))


def _timm_transform(input_px: int, resize_px: int, interpolation: str, crop_mode: str):
    from thawline.backbones.timm_import import import_timm

    import_timm()
    from timm.data import create_transform

    crop_pct = next(p for p in (input_px / resize_px, 0.875, 0.876) if int(input_px / p) == resize_px)
    return create_transform(
        (3, input_px, input_px), interpolation=interpolation, crop_pct=crop_pct, crop_mode=crop_mode, normalize=False
    )


def _same_as_timm(found, expected):
    np.testing.assert_array_equal(found, expected.numpy().transpose(1, 2, 0))
