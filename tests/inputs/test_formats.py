"""Formats are told by their first bytes; JPEG 2000, AVIF and HEIC are read, within the limits of the others."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from thawline.errors import UndecodableError
from thawline.inputs.image.decode import open_image, thumbnail
from thawline.inputs.image.formats import format_of, isolated_format, promises_picture, why_no_picture

Photo = Callable[..., Image.Image]
Encode = Callable[..., bytes]


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, **options)
    return file.getvalue()


def resized(data: bytes, box: bytes, width: int, height: int) -> bytes:
    """Write another size into the header: box ``ihdr`` of JPEG 2000, ``ispe`` of AVIF and HEIC."""
    at = data.index(box) + (4 if box == b"ihdr" else 8)
    first, second = (height, width) if box == b"ihdr" else (width, height)
    return data[:at] + struct.pack(">II", first, second) + data[at + 8 :]


@pytest.mark.parametrize("form", ["JPEG2000", "AVIF", "HEIC"])
def test_the_pixels_are_right(photo: Photo, encode: Encode, form: str) -> None:
    image = photo(3, (120, 80))
    data = heic(image) if form == "HEIC" else encode(image, form, quality=95)
    read = np.asarray(open_image(data), dtype=int)
    assert read.shape == (80, 120, 3)
    assert np.abs(read - np.asarray(image, dtype=int)).mean() < 3
    assert thumbnail(data, 16).size == (16, 16)
    assert format_of(data[:512]) == isolated_format(data[:512]) == form


def test_jpeg_2000_without_a_container_and_in_grey(photo: Photo, encode: Encode) -> None:
    image = photo(3, (120, 80))
    assert np.array_equal(open_image(encode(image, "JPEG2000", no_jp2=True)), image)
    grey = image.convert("L")
    assert np.array_equal(open_image(encode(grey, "JPEG2000")), grey.convert("RGB"))


@pytest.mark.parametrize("form", ["AVIF", "HEIC"])
def test_the_rotation_of_the_camera_is_applied(photo: Photo, encode: Encode, form: str) -> None:
    image, exif = photo(3, (120, 80)), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    tags = exif.tobytes()
    data = heic(image, exif=tags) if form == "HEIC" else encode(image, form, quality=95, exif=tags)
    read = np.asarray(open_image(data), dtype=int)
    assert np.abs(read - np.rot90(np.asarray(image, dtype=int), -1)).mean() < 3


@pytest.mark.parametrize(("form", "box"), [("JPEG2000", b"ihdr"), ("AVIF", b"ispe"), ("HEIC", b"ispe")])
def test_the_size_is_judged_before_anything_is_decoded(
    photo: Photo, encode: Encode, form: str, box: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo(3, (120, 80))
    data = heic(image) if form == "HEIC" else encode(image, form)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for width, height in ((12_000, 12_000), (16_000, 16_000), (5, 15_000)):
        with pytest.raises(UndecodableError, match=r"^too large: |a strip, longer than"):
            open_image(resized(data, box, width, height))


@pytest.mark.parametrize(("form", "box"), [("JPEG2000", b"ihdr"), ("HEIC", b"ispe")])
def test_a_header_that_lies_about_the_size(photo: Photo, encode: Encode, form: str, box: bytes) -> None:
    data = heic(photo(3, (120, 80))) if form == "HEIC" else encode(photo(3, (120, 80)), form)
    with pytest.raises(UndecodableError, match=r"^a damaged"):
        open_image(resized(data, box, 10, 10))


@pytest.mark.parametrize("form", ["JPEG2000", "AVIF", "HEIC"])
def test_cut_files_are_damaged(photo: Photo, encode: Encode, form: str) -> None:
    data = heic(photo(3, (120, 80))) if form == "HEIC" else encode(photo(3, (120, 80)), form)
    for end in (40, len(data) // 2):
        with pytest.raises(UndecodableError, match=r"^a (damaged|truncated) (JPEG ?2000|AVIF|HEI[CF]) file"):
            open_image(data[:end])


def test_a_missing_decoder_is_named(photo: Photo, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UndecodableError, match=r"a HEIC picture, which needs one more package: pip install 'thaw"):
        open_image(data)
    jp2 = encode(photo(1, (40, 30)), "JPEG2000")
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UndecodableError, match=r"in JPEG 2000, which the installed Pillow does not read: save"):
        open_image(jp2)


def test_nothing_is_registered_with_pillow() -> None:
    """Other code in the process sees no format that it did not ask for, and the start loads no decoder."""
    code = (
        "import sys, io\nfrom PIL import Image\nfrom thawline.inputs.image.decode import open_image\n"
        "assert 'pillow_heif' not in sys.modules and 'PIL.AvifImagePlugin' not in sys.modules\n"
        "try:\n    open_image(b'\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic' + bytes(9))\nexcept ValueError:\n    pass\n"
        "assert 'HEIF' not in Image.OPEN\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\xff\xd8\xff\xe1", "JPEG"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BMW is a maker of cars, and more", None),
        (b"P6\n3 3\n255\n", "PPM"),
        (b"P5x", None),
        (b"Programme", None),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", None),
        (b"", None),
    ],
)
def test_first_bytes(head: bytes, found: str | None) -> None:
    assert format_of(head) == found


@pytest.mark.parametrize(
    ("head", "name", "reason"),
    [
        (b"", "a", "the file is empty"),
        (bytes(128) + b"DICM", "a", "a DICOM file: convert it to PNG"),
        (b"hello", "a.dcm", "a DICOM file"),
        (b"\x93NUMPY\1\0", "a.jpg", "a NumPy array"),
        (b"PK\3\4" + bytes(9), "a.npz", "a NumPy array"),
        (b"PK\3\4" + bytes(9), "a.docx", "a document"),
        (b"\x1f\x8b\x08\0", "a.nii.gz", "a medical volume"),
        (b"\x1f\x8b\x08\0", "a.svg.gz", "a drawing"),
        (b"\x1f\x8b\x08\0", "a.jpg", "an archive"),
        (b"\0\0\0\x18ftypcrx ", "a", "a raw file of a camera"),
        (b"\0\0\0\x18ftypqt  ", "a.jpg", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a.jpg", "a video"),
        (b"  <!DOCTYPE html>", "a.jpg", "a web page, as a failed download leaves behind"),
        (b"version https://git-lfs.github.com/spec/v1", "a.png", "a pointer of Git LFS"),
        (b"../train/0001.jpg", "a.jpg", "a link that was unpacked or copied as text"),
        (b"\xff\x0a\0\0", "a.jxl", "a picture in a format that is not read"),
        (b"\0\1\2\3", "a.xyz", "not a picture in any format that is read"),
    ],
)
def test_what_is_no_picture_is_named(head: bytes, name: str, reason: str) -> None:
    assert why_no_picture(head, name).startswith(reason)


def test_names_that_promise_a_picture() -> None:
    assert all(map(promises_picture, ("a.JPG", "a.b.jp2", "a.avif", "a.HEIC", "a.j2k")))
    assert not any(map(promises_picture, ("a", "a.jpg.download", ".jpg", "jpg", "a.dcm")))
