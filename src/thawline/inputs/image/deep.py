"""Pictures whose samples are deeper than 8 bits, as they are stored: 16 and 32 bits, with a sign or without, floats."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

from thawline.errors import UndecodableError
from thawline.inputs.image.limits import refuse_size
from thawline.inputs.image.png import without_texts
from thawline.inputs.image.tiff import Layout, is_deep, layout_of, read_samples
from thawline.inputs.image.upright import orientation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Deep(NamedTuple):
    """The samples of one picture as its file holds them."""

    samples: NDArray[Any]
    """(H, W) grey or (H, W, 3) RGB. uint8 is what it is; other types need a scale, see ``scales``."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W), 0 = transparent."""
    premultiplied: bool = False
    """Whether the colours were multiplied by ``alpha`` already."""
    inverted: bool = False
    """Whether the smallest value is white."""
    high_byte: bool = False
    """Whether 16 bits of full range become 8 by leaving out the low byte, as Pillow does with colours, not by rounding.
    """
    declared: bool = False
    """Whether the file says what its greatest value may be, and that has been carried to 65,535."""
    orientation: int = 1
    """As EXIF counts."""


def deep_samples(data: bytes, image: ImageFile.ImageFile) -> Deep | None:
    """Return the samples of an open picture, not yet loaded; None if it has 8 bits, for Pillow to decode.

    Raises:
        UndecodableError: A kind of TIFF that is not read.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.mode not in ("P", "PA") and max(image.tag_v2.get(258, (1,))) <= 8:
            return None
        layout = layout_of(data)
        return tiff_samples(data, layout) if is_deep(layout) else None
    if image.format == "PNG" and image.tile and str(image.tile[0].args) in _PNG_16:
        return _deep_png(data, image, str(image.tile[0].args))
    if image.format == "PPM" and image.mode == "RGB" and _greatest(image) == 65535:
        return _deep_ppm(data, image)
    if not image.mode.startswith("I") and image.mode != "F":
        if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA", "LA"):
            _refuse_lost_bits(data, image)
        return None
    declared = image.format == "PPM" and image.mode == "I" and _greatest(image) not in (None, 65535)
    return pixels_with_depth(image)._replace(declared=declared)


def deep_file(image: Image.Image) -> bytes | None:
    """Return the file behind an open picture of Pillow that would lose samples on loading; None for any other.

    Raises:
        UndecodableError: Pillow has loaded it, and mixed up its bands.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if max(tags.get(258, (1,))) <= 8 or image.tell() != 0:
            return None
        if not image.tile and tags.get(284) == 2 and image.mode in ("RGB", "RGBA"):
            raise UndecodableError(
                "a planar TIFF of 16 bits that Pillow has loaded wrongly: give its path or its bytes"
            )
    elif not (isinstance(image, PngImagePlugin.PngImageFile) and image.tile and str(image.tile[0].args) in _PNG_16):
        return None
    if not image.tile or image.fp is None or not image.fp.seekable():
        return None  # loaded, and perhaps changed since
    at = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(at)
    return data


def pixels_with_depth(image: Image.Image) -> Deep:
    """Return the samples of a picture of Pillow in one of its deep modes, I, I;16 or F."""
    image.load()
    values = np.asarray(image)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        values = values.astype(np.uint16)  # Pillow widens what these files hold
    return Deep(values.astype(values.dtype.newbyteorder("=")), orientation=orientation_of(image))


def unnamed_samples(data: bytes) -> Deep | None:
    """Return the samples of a sound picture that Pillow cannot open; None if it is no such picture.

    Raises:
        UndecodableError: It is one, and not read or damaged; says of which kind.
    """
    if data[:2] in (b"II", b"MM"):
        layout = layout_of(data)
        return tiff_samples(data, layout)
    return _colour_pfm(data) if data[:3] in (b"PF\n", b"PF ", b"PF\r") else None


def tiff_samples(data: bytes, layout: Layout) -> Deep:
    """Return the samples of the first page of a TIFF file.

    Raises:
        UndecodableError: A kind that is not read, or damaged.
    """
    values = read_samples(data, layout)  # (H, W, samples)
    what, orientation = layout.photometric, layout.orientation
    if what == "palette":
        return Deep(layout.through_colour_map(values[..., 0]), orientation=orientation)
    if what == "CMYK":
        image = Image.frombytes("CMYK", (layout.width, layout.height), _high_byte(values[..., :4]).tobytes())
        return Deep(np.asarray(image.convert("RGB")), orientation=orientation)
    n = layout.colours
    samples = values[..., 0] if n == 1 else values[..., :n]
    alpha = _high_byte(values[..., n]) if layout.alpha else None
    return Deep(
        samples,
        alpha=alpha,
        premultiplied=layout.alpha == "premultiplied",
        inverted=what == "white is zero",
        high_byte=n == 3,
        declared=layout.is_packed,
        orientation=orientation,
    )


def _high_byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Reduce values whose full range is known, as those of transparency and of inks, to 8 bits."""
    if values.dtype.kind == "f":
        return np.asarray(np.rint(np.nan_to_num(values) * 255).clip(0, 255), dtype=np.uint8)
    return np.asarray(values >> (8 * values.dtype.itemsize - 8), dtype=np.uint8)


# JPEG 2000

_LEAST_HIGH_BYTE = 32
"""Colours of which no high byte reaches this were saved with 13 bits or fewer, or nearly black."""


def _refuse_lost_bits(data: bytes, image: ImageFile.ImageFile) -> None:
    """Refuse colours of 16 bits that use few of them: Pillow gives the high byte of each alone.

    Source:
        ITU-T T.800, A.5.1: after the marker SIZ, bits less one stand behind 38 bytes.
    """
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 42 >= len(data) or (data[at + 42] & 0x7F) + 1 < 16:
        return
    image.load()
    highest = max(band[1] for band in image.getextrema()[:3])  # type: ignore[index]
    if 0 < highest < _LEAST_HIGH_BYTE:
        raise UndecodableError(
            "a JPEG 2000 picture of 16 bits for each colour that fills few of them, of which only the upper 8 can be "
            "read. Save it as PNG or TIFF of 16 bits"
        )


# PNG

_PNG_16 = {"RGB;16B": 3, "RGBA;16B": 4, "LA;16B": 2}
"""How Pillow names the samples that it would halve -> how many there are in a pixel."""


def _deep_png(data: bytes, image: ImageFile.ImageFile, raw_mode: str) -> Deep:
    """Pillow keeps the high byte of each sample. Asked to read the other byte order, it keeps the low one."""
    n = _PNG_16[raw_mode]
    if n == 2:
        pairs = _decoded_as(data, "RGBA", "RGBA").view(">u2").astype(np.uint16)  # two samples of 16 bits fill four of 8
        return Deep(pairs[..., 0], alpha=_high_byte(pairs[..., 1]), high_byte=True, orientation=orientation_of(image))
    mode = raw_mode.partition(";")[0]
    values = _decoded_as(data, mode, f"{mode};16B").astype(np.uint16) << 8
    values |= _decoded_as(data, mode, f"{mode};16L")
    alpha = _high_byte(values[..., 3]) if n == 4 else None
    clear = image.info.get("transparency")
    if n == 3 and isinstance(clear, tuple):
        alpha = np.where((values == np.array(clear, np.uint16)).all(axis=2), 0, 255).astype(np.uint8)
    return Deep(values[..., :3], alpha=alpha, high_byte=True, orientation=orientation_of(image))


def _decoded_as(data: bytes, mode: str, raw_mode: str) -> NDArray[np.uint8]:
    """Decode a PNG file anew, its samples taken for others that are as wide."""
    try:
        return _loaded_as(data, mode, raw_mode)
    except ValueError:
        plain = without_texts(data)  # texts may stand behind the pixels
        if plain is None:
            raise
        return _loaded_as(plain, mode, raw_mode)


def _loaded_as(data: bytes, mode: str, raw_mode: str) -> NDArray[np.uint8]:
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    image._mode = mode
    image.info.pop("transparency", None)
    image.tile = [ImageFile._Tile(part[0], part[1], part[2], raw_mode) for part in image.tile]
    image.load()
    return np.asarray(image)


# PPM and PFM


def _greatest(image: ImageFile.ImageFile) -> int | None:
    """Return the greatest value that the header of a PPM file allows, if it is more than 255."""
    if not image.tile:
        return None
    args = image.tile[0].args
    return 65535 if args == "I;16B" else args[-1] if isinstance(args, tuple) and isinstance(args[-1], int) else None


def _deep_ppm(data: bytes, image: ImageFile.ImageFile) -> Deep | None:
    name, _, offset, _ = image.tile[0]
    if name != "ppm":
        return None  # values in decimal digits, which Pillow scales
    wanted = image.width * image.height * 3
    if len(data) < offset + 2 * wanted:
        raise UndecodableError("a truncated PPM file: its data end before the picture does")
    values = np.frombuffer(data, ">u2", wanted, offset).astype(np.uint16)
    return Deep(values.reshape(image.height, image.width, 3))


def _colour_pfm(data: bytes) -> Deep:
    """Source: the PFM format of P. Debevec; rows from the bottom up, a negative scale says little-endian."""
    fields = data[:128].split(maxsplit=4)
    try:
        width, height, scale = int(fields[1]), int(fields[2]), float(fields[3])
        begin = data.index(fields[3], data.index(fields[2], data.index(fields[1], 2) + len(fields[1]))) + len(fields[3])
    except (ValueError, IndexError) as error:
        raise UndecodableError("a damaged PFM file: its header cannot be read") from error
    refuse_size(width, height)
    if len(data) < begin + 1 + 12 * width * height:
        raise UndecodableError("a truncated PFM file: its data end before the picture does")
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", 3 * width * height, begin + 1)
    return Deep(values.reshape(height, width, 3)[::-1].astype(np.float32))
