"""Read the samples of TIFF files that Pillow has no mode for: planar, 16 and 32 bits, floats.

Pillow, and libtiff below it, decompress them as if they were bytes of a grey picture; what the bytes are is known here.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from thawline.errors import UndecodableError
from thawline.inputs.image.limits import refuse_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 600_000_000
"""Decoded samples of one file, at most: as many pixels as are read of any picture, in three colours of 16 bits."""
_AT_ONCE_BYTES = 32 * 2**20
"""Decompressed strips that are asked of Pillow in one piece, about; it refuses pieces that look like bombs."""
_READ = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions that keep bytes as they are: none, LZW, deflate (two numbers), PackBits, LZMA, Zstandard."""
_COMPRESSIONS = {
    2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33004: "JPEG 2000",
    33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_PHOTOMETRIC = {
    0: "white is zero", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "CIELab",
    32803: "raw sensor", 34892: "raw sensor",
}  # fmt: skip
_COLOURS = {"white is zero": 1, "grey": 1, "RGB": 3, "palette": 1, "CMYK": 4}
_NUMBERS = {1: "u", 2: "i", 3: "f"}
_AS = "Save it as PNG, or as TIFF with one or three samples of 8 or 16 bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the first page of a TIFF file is laid out."""

    width: int
    height: int
    samples: int
    """In one pixel."""
    bits: tuple[int, ...]
    """Of each sample."""
    number: str
    """``u``, ``i`` or ``f``, as NumPy has it; another word for what is not read."""
    photometric: str
    compression: int
    predictor: int
    planar: bool
    tile: tuple[int, int] | None
    """Width and height of a tile; None if the file has strips."""
    rows: int
    """In one strip, or tile."""
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    order: Literal["<", ">"]
    extra: tuple[int, ...]
    colour_map: tuple[int, ...]
    orientation: int
    fill_order: int
    no_data: float | None
    """The value that stands for a missing one, as GDAL writes it."""

    @property
    def colours(self) -> int:
        """How many samples of a pixel make its colour. Three bands without a name are taken for RGB."""
        n = _COLOURS.get(self.photometric, 0)
        return 3 if n == 1 and self.samples == 3 and not self.alpha else n

    @property
    def alpha(self) -> Literal["", "premultiplied", "plain"]:
        """What the sample after the colours says of transparency."""
        n = _COLOURS.get(self.photometric, 0)
        if self.photometric in ("palette", "CMYK") or self.samples <= n:
            return ""
        if not self.extra:
            return "plain" if n == 3 and self.samples == 4 else ""
        return {1: "premultiplied", 2: "plain"}.get(self.extra[0], "")  # type: ignore[return-value]

    @property
    def is_packed(self) -> bool:
        """Whether samples of 9 to 15 bits lie without gaps."""
        return 8 < self.bits[0] < 16

    @property
    def words(self) -> str:
        """Name the kind, for people: ``planar TIFF of 16 bits``."""
        numbers = {"u": "", "i": " signed", "f": " floating-point"}.get(self.number, f" {self.number}")
        planar = "planar " if self.planar and self.samples > 1 else ""
        squeezed = f", compressed as {_COMPRESSIONS[self.compression]}" if self.compression in _COMPRESSIONS else ""
        bands = f", {self.samples} bands" if self.samples > 4 or (self.samples == 2 and not self.alpha) else ""
        return f"{planar}TIFF of {self.bits[0]}{numbers} bits ({self.photometric}{bands}{squeezed})"

    def through_colour_map(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(H, W) -> (H, W, 3) by the colours that the file lists; their high bytes, or 8 bits where all are small."""
        table = np.array(self.colour_map, np.uint32).reshape(3, -1)
        if table.max(initial=0) > 255:  # else written as 8 bits by mistake, as libtiff knows
            table = np.right_shift(table, 8, dtype=np.uint32)
        if int(values.max(initial=0)) >= table.shape[1]:
            raise UndecodableError(f"a damaged TIFF file: its colour map has {table.shape[1]} colours, too few")
        return np.asarray(table.astype(np.uint8).T[values])


def layout_of(data: bytes) -> Layout:
    """Read the tags of the first page.

    Raises:
        UndecodableError: They are damaged, or of a kind that nothing here could read.
    """
    try:
        return _layout(data)
    except UndecodableError:
        raise
    except Exception as error:  # a parser of untrusted bytes
        raise UndecodableError("a damaged TIFF file: its header cannot be read") from error


def has_pages(data: bytes) -> bool:
    """Whether there is a second page that is no smaller copy of the first, nor a mask."""
    try:
        after = _tags(data, _tags(data).next)
    except Exception:  # a parser of untrusted bytes; there is none, or none that could be read
        return False
    return len(after) > 0 and not _one(after, 254, 0) & 5 and 256 in after


def _tags(data: bytes, at: int | None = None) -> ImageFileDirectory_v2:
    """Read the directory that begins there, by default the first."""
    file = io.BytesIO(data)
    tags = ImageFileDirectory_v2(file.read(16 if 43 in data[2:4] else 8))
    file.seek(tags.next if at is None else at)
    if at != 0:
        tags.load(file)
    return tags


def _one(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _layout(data: bytes) -> Layout:
    tags = _tags(data)

    def one(tag: int, default: int) -> int:
        return _one(tags, tag, default)

    def all_of(tag: int) -> tuple[int, ...]:
        value = tags.get(tag, ())
        return tuple(int(item) for item in value) if isinstance(value, tuple) else (int(value),)

    samples, bits, formats = one(277, 1), all_of(258) or (1,), all_of(339) or (1,)
    if samples < 1 or samples > 1024:
        raise UndecodableError(f"a TIFF file of {samples} bands, which is not read. {_AS}")
    tiled = 324 in tags
    height = one(257, 0)
    return Layout(
        width=one(256, 0),
        height=height,
        samples=samples,
        bits=bits * samples if len(bits) == 1 else bits[:samples],
        number=_NUMBERS.get(formats[0], "complex" if formats[0] in (5, 6) else "untyped")
        if len(set(formats)) == 1
        else "mixed",
        photometric=_PHOTOMETRIC.get(one(262, 0), f"photometric interpretation {one(262, 0)}"),
        compression=one(259, 1),
        predictor=one(317, 1),
        planar=one(284, 1) == 2,
        tile=(one(322, 0), one(323, 0)) if tiled else None,
        rows=one(323, 0) if tiled else min(one(278, height), height),
        offsets=all_of(324 if tiled else 273),
        counts=all_of(325 if tiled else 279),
        order="<" if tags.prefix == b"II" else ">",
        extra=all_of(338),
        colour_map=all_of(320),
        orientation=one(274, 1),
        fill_order=one(266, 1),
        no_data=_no_data(tags.get(42113)),
    )


def _no_data(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def is_deep(layout: Layout) -> bool:
    """Whether a file that Pillow opens must be read here, since Pillow would lose or mix up samples.

    JPEG inside TIFF is Pillow's.
    """
    small_colours = (
        layout.photometric == "palette" and layout.bits == (8,) and 0 < max(layout.colour_map, default=0) < 256
    )
    return small_colours or (layout.bits[0] > 8 and layout.compression not in (6, 7))


def read_samples(data: bytes, layout: Layout) -> NDArray[Any]:
    """Return the samples of the first page, (H, W, samples), in the machine's own byte order.

    Of 9 to 15 bits without gaps they are carried to 16. A value that stands for a missing one becomes NaN in floats; a
    negative one also in signed numbers, which then are floats.

    Raises:
        UndecodableError: A kind that is not read, or damaged.
    """
    refuse_size(layout.width, layout.height)
    _refuse_kind(layout)
    pixel_bits = sum(layout.bits)
    if layout.width * layout.height * pixel_bits > 8 * MAX_BYTES:
        megabytes = layout.width * layout.height * pixel_bits / 8e6
        raise UndecodableError(f"too large: {megabytes:,.0f} MB of samples where {MAX_BYTES // 10**6} are read")
    n_planes = layout.samples if layout.planar else 1
    across = 1 if layout.planar else layout.samples
    per_plane = _blocks(layout)
    if len(layout.offsets) < n_planes * per_plane:
        raise UndecodableError("a damaged TIFF file: some of its strips are not listed")
    planes = []
    for plane in range(n_planes):
        first = plane * per_plane
        rows = _bytes(data, layout, first, first + per_plane, across)
        planes.append(_numbers(rows, layout, across)[: layout.height, : layout.width])
    values = planes[0] if n_planes == 1 else np.concatenate(planes, axis=2)
    if layout.no_data is not None and layout.no_data < 0 and values.dtype.kind == "i":
        values = np.where(values == layout.no_data, np.nan, values.astype(np.float64))  # as heights are stored
    elif layout.no_data is not None and values.dtype.kind == "f":
        values = np.where(values == np.asarray(layout.no_data, values.dtype), np.nan, values)
    return values


def _refuse_kind(layout: Layout) -> None:
    """Refuse, by its name, what cannot be made a picture."""
    bits = layout.bits[0]
    numbers = {"u": bits == 8 or 8 < bits <= 16 or bits == 32, "i": bits in (16, 32), "f": bits in (16, 32, 64)}
    n = _COLOURS.get(layout.photometric, 0)
    bands = layout.colours in (1, 3, 4) and layout.samples >= n
    if layout.photometric in ("grey", "white is zero"):
        bands = layout.samples == 1 or layout.colours == 3 or (layout.samples == 2 and bool(layout.alpha))
    if layout.photometric in ("palette", "CMYK"):
        bands = bands and layout.number == "u" and (layout.photometric == "CMYK" or len(layout.colour_map) % 3 == 0)
    is_read = len(set(layout.bits)) == 1 and numbers.get(layout.number, False) and bands
    if not is_read or layout.compression not in _READ or (layout.photometric == "palette" and not layout.colour_map):
        raise UndecodableError(f"a {layout.words}, which is not read. {_AS}")


def _blocks(layout: Layout) -> int:
    """Return how many strips or tiles hold one plane."""
    if layout.tile is not None:
        if min(layout.tile) < 1:
            raise UndecodableError("a damaged TIFF file: its tiles have no size")
        return math.ceil(layout.width / layout.tile[0]) * math.ceil(layout.height / layout.tile[1])
    return math.ceil(layout.height / max(layout.rows, 1))


def _padded(layout: Layout) -> tuple[int, int]:
    """Width and height with the whole tiles at the borders."""
    if layout.tile is None:
        return layout.width, layout.height
    across, down = layout.tile
    return math.ceil(layout.width / across) * across, math.ceil(layout.height / down) * down


def _row_bytes(width: int, layout: Layout, across: int) -> int:
    return (width * across * layout.bits[0] + 7) // 8


def _bytes(data: bytes, layout: Layout, first: int, last: int, across: int) -> NDArray[np.uint8]:
    """Decompress one plane, some strips or one row of tiles at a time: (rows, bytes of a row)."""
    width, height = _padded(layout)
    n_across = 1 if layout.tile is None else width // layout.tile[0]
    wide = _row_bytes(width // n_across, layout, across)
    if wide * n_across * height > 2 * MAX_BYTES:
        raise UndecodableError("a damaged TIFF file: its tiles are far larger than the picture")
    offsets, counts = layout.offsets[first:last], layout.counts[first:last]
    counts = counts or tuple([wide * layout.rows] * (len(offsets) - 1) + [len(data)])
    if len(counts) < len(offsets) or sum(counts) > 2 * len(data):
        if any(offset + count > len(data) for offset, count in zip(offsets, counts, strict=False)):
            raise UndecodableError("a truncated TIFF file: its data end before the picture does")
        raise UndecodableError("a damaged TIFF file: its strips overlap, or their lengths are not listed")
    found = np.empty((height, wide * n_across), np.uint8)
    at_once = n_across if layout.tile else max(1, _AT_ONCE_BYTES // max(wide * layout.rows, 1))
    for at in range(0, len(offsets), at_once):
        top = at // n_across * layout.rows
        rows = found[top : top + layout.rows * (at_once // n_across)]
        blocks = [data[offsets[i] : offsets[i] + counts[i]] for i in range(at, min(at + at_once, len(offsets)))]
        _decompress(blocks, rows, wide, layout)
    return found


def _decompress(blocks: Sequence[bytes], rows: NDArray[np.uint8], wide: int, layout: Layout) -> None:
    """Fill some rows of a plane with what their strips, or their one row of tiles, hold."""
    if layout.compression == 1 and layout.fill_order == 1:
        high = min(layout.rows, len(rows))
        for i, block in enumerate(blocks):
            place = rows[:, i * wide : (i + 1) * wide] if layout.tile else rows[i * high : (i + 1) * high]
            if len(block) < place.size:
                raise UndecodableError("a truncated TIFF file: its data end before the picture does")
            place[:] = np.frombuffer(block, np.uint8, place.size).reshape(place.shape)
        return
    if rows.size > (Image.MAX_IMAGE_PIXELS or MAX_BYTES):
        raise UndecodableError(f"a {layout.words} in pieces of {rows.size / 1e6:,.0f} MB, which are too large. {_AS}")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(_grey_file(blocks, rows.shape[::-1], (wide, layout.rows), layout)))
    try:
        image.load()
    except Exception as error:  # a parser of untrusted bytes
        short = any(not block for block in blocks) or "truncated" in str(error)
        what = "truncated" if short else "damaged"
        raise UndecodableError(f"a {what} TIFF file: its data cannot be decompressed") from error
    rows[:] = np.asarray(image)


def _grey_file(blocks: Sequence[bytes], size: tuple[int, int], block: tuple[int, int], layout: Layout) -> bytes:
    """Write a TIFF file of 8-bit grey around strips or tiles, which stay as they are."""
    starts = np.cumsum([8, *(len(one) for one in blocks)]).tolist()
    tags: dict[int, int | list[int]] = {
        256: size[0], 257: size[1], 258: 8, 259: layout.compression, 262: 1, 266: layout.fill_order, 277: 1,
    }  # fmt: skip
    if layout.tile is None:
        tags |= {273: starts[:-1], 278: block[1], 279: [len(one) for one in blocks]}
    else:
        tags |= {322: block[0], 323: block[1], 324: starts[:-1], 325: [len(one) for one in blocks]}
    spill_at = starts[-1] + 2 + 12 * len(tags) + 4
    entries, spill = b"", b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, spill = struct.pack("<I", spill_at + len(spill)), spill + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + spill
    return struct.pack("<2sHI", b"II", 42, starts[-1]) + b"".join(blocks) + directory


def _numbers(rows: NDArray[np.uint8], layout: Layout, across: int) -> NDArray[Any]:
    """Turn the bytes of a plane into numbers, (rows, columns, samples), tile by tile where there are tiles."""
    if layout.is_packed:
        return _unpacked(rows, layout, across)
    item = layout.bits[0] // 8
    dtype = np.dtype(f"{layout.order}{layout.number}{item}")
    wide = rows.shape[1] if layout.tile is None else layout.tile[0] * across * item
    columns = []
    for left in range(0, rows.shape[1], wide):
        block = np.ascontiguousarray(rows[:, left : left + wide])
        if layout.predictor == 3:
            values = _floats_apart(block, across, item)
        else:
            values = block.view(dtype).reshape(len(block), -1, across)
        if layout.predictor == 2:
            whole = values.view(f"{layout.order}u{item}").astype(f"=u{item}")
            values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(f"={layout.number}{item}")
        columns.append(values.astype(dtype.newbyteorder("="), copy=False))
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def _floats_apart(block: NDArray[np.uint8], across: int, item: int) -> NDArray[Any]:
    """Undo the floating-point predictor: differences of bytes, which lie sorted from the highest to the lowest.

    Source:
        Adobe Photoshop TIFF Technical Note 3.
    """
    n = len(block)
    summed = np.cumsum(block.reshape(n, -1, across), axis=1, dtype=np.uint8)
    apart = np.ascontiguousarray(summed.reshape(n, item, -1).transpose(0, 2, 1))
    return apart.view(f">f{item}").reshape(n, -1, across)


def _unpacked(rows: NDArray[np.uint8], layout: Layout, across: int) -> NDArray[np.uint16]:
    """Take 9 to 15 bits for each number, and carry them to 16."""
    bits, wide = layout.bits[0], layout.width * across
    if layout.tile is not None or layout.predictor != 1:
        raise UndecodableError(f"a {layout.words} in tiles, which is not read. {_AS}")
    found = np.empty((len(rows), wide), np.uint16)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint32)
    for row in range(len(rows)):
        ones = np.unpackbits(rows[row], count=wide * bits).reshape(wide, bits)
        found[row] = (ones @ weights * 65535 + (2**bits - 1) // 2) // (2**bits - 1)
    return found.reshape(len(rows), layout.width, across)
