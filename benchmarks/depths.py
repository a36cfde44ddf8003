"""Compare pictures deeper than 8 bits, and kinds that readers mix up, with independent readers. Writes depths.md.

    python benchmarks/depths.py

Each kind is one file, made here or by another library. tifffile, OpenCV or imageio reads its samples; what should be
black and white is written down beside it. The difference is between the grey levels that follow and those that
Thawline gives, in levels of 255, over every pixel.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import imageio.v3 as imageio
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

SIZE = (61, 83)
"""Height and width; odd, so that rows and tiles do not end together."""


class Kind(NamedTuple):
    """One file, and what an independent reader makes of it."""

    name: str
    data: bytes
    reader: str
    samples: NDArray[Any]
    """(H, W) or (H, W, 3) as that reader gives them."""
    black: float
    white: float
    most: float = 1.0
    """Levels that the difference may be: 0.5 where values are rounded, 1 where the low byte is left out."""


def scene(colours: int, greatest: float, dtype: Any, *, least: float = 0) -> NDArray[Any]:
    """A smooth picture with some noise, from ``least`` to ``greatest``."""
    rng = np.random.default_rng(colours)
    down, across = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / max(SIZE)
    waves = [np.sin(5 * down + 3 * across * (i + 1)) * 0.4 + rng.normal(0, 0.05, SIZE) for i in range(colours)]
    values = np.stack(waves, axis=2)
    values = (values - values.min()) / np.ptp(values) * (greatest - least) + least
    values = np.rint(values) if np.dtype(dtype).kind in "ui" else values
    return (values if colours == 3 else values[..., 0]).astype(dtype)


def by_tifffile(pixels: NDArray[Any], **how: Any) -> tuple[bytes, NDArray[Any]]:
    """Write and read a TIFF file; colours come last."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **how)
    read = tifffile.TiffFile(io.BytesIO(file.getvalue())).pages[0].asarray()
    return file.getvalue(), np.moveaxis(read, 0, 2) if how.get("planarconfig") == "separate" else read


def by_opencv(suffix: str, pixels: NDArray[Any], *how: int) -> tuple[bytes, NDArray[Any]]:
    """Write and read a file; OpenCV keeps blue first."""
    turned = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    data = cv2.imencode(suffix, turned, list(how))[1].tobytes()
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return data, read[..., ::-1] if read.ndim == 3 else read


def deep_tiffs() -> Iterator[Kind]:
    """Grey and colour of 16 and 32 bits, in the ways that TIFF lays them out."""
    for bits in (9, 10, 11, 12, 13, 14, 16):
        most = 2**bits - 1
        data, read = by_tifffile(scene(1, most, np.uint16))
        yield Kind(f"TIFF, grey, {bits} in 16 bits", data, "tifffile", read, 0, most, 0.5)
    data, read = by_tifffile(scene(1, 4095, np.uint16), photometric="miniswhite")
    yield Kind("TIFF, grey, 12 in 16 bits, white is zero", data, "tifffile", 4095 - read, 0, 4095, 0.5)
    data, read = by_tifffile(scene(1, 65535, np.uint16), photometric="miniswhite")
    yield Kind("TIFF, grey, 16 bits, white is zero", data, "tifffile", 65535 - read, 0, 65535, 0.5)
    data, read = by_tifffile(scene(1, 60000, np.uint16), byteorder=">", compression="zlib", predictor=True)
    yield Kind("TIFF, grey, 16 bits, big-endian, deflate", data, "tifffile", read, 0, 65535, 0.5)
    data, read = by_tifffile(scene(1, 3000, np.int16, least=-1000))
    yield Kind("TIFF, grey, signed 16 bits", data, "tifffile", read, -1000, 3000, 0.5)
    data, read = by_tifffile(scene(1, 2**32 - 1, np.uint32))
    yield Kind("TIFF, grey, 32 bits", data, "tifffile", read, 0, 2**32 - 1, 0.5)
    data, read = by_tifffile(scene(1, 10**6, np.uint32))
    yield Kind("TIFF, grey, 20 in 32 bits", data, "tifffile", read, 0, 2**20 - 1, 0.5)
    data, read = by_tifffile(scene(1, 10**6, np.int32, least=-(10**6)), byteorder=">")
    yield Kind("TIFF, grey, signed 32 bits, big-endian", data, "tifffile", read, -(10**6), 10**6, 0.5)
    for most in (4095, 65535):
        data, read = by_tifffile(scene(3, most, np.uint16), photometric="rgb")
        yield Kind(f"TIFF, RGB, to {most:,}", data, "tifffile", read, 0, most)
        planes = np.ascontiguousarray(np.moveaxis(scene(3, most, np.uint16), 2, 0))
        data, read = by_tifffile(planes, photometric="rgb", planarconfig="separate")
        yield Kind(f"TIFF, RGB, planar, to {most:,}", data, "tifffile", read, 0, most)
        data, read = by_tifffile(planes, photometric="rgb", planarconfig="separate", tile=(32, 48), byteorder=">")
        yield Kind(f"TIFF, RGB, planar, tiles, big-endian, to {most:,}", data, "tifffile", read, 0, most)
    planes = np.ascontiguousarray(np.moveaxis(scene(3, 60000, np.uint16), 2, 0))
    data, read = by_tifffile(planes, photometric="minisblack", planarconfig="separate", compression="zlib")
    yield Kind("TIFF, three bands without a name, planar, 16 bits", data, "tifffile", read, 0, 65535)
    data, read = by_tifffile(scene(3, 65535, np.uint16), photometric="rgb", tile=(16, 32), compression="zlib")
    yield Kind("TIFF, RGB, 16 bits, tiles, deflate", data, "tifffile", read, 0, 65535)
    data, read = by_tifffile(scene(3, 60000, np.uint16), photometric="rgb", bigtiff=True)
    yield Kind("BigTIFF, RGB, 16 bits", data, "tifffile", read, 0, 65535)
    for name, number in (("LZW", 5), ("deflate", 8), ("PackBits", 32773)):
        data, read = by_opencv(".tiff", scene(3, 4095, np.uint16), cv2.IMWRITE_TIFF_COMPRESSION, number)
        yield Kind(f"TIFF, RGB, 12 in 16 bits, {name}", data, "OpenCV", read, 0, 4095)
    how = (cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 2)
    data, read = by_opencv(".tiff", scene(3, 65535, np.uint16), *how)
    yield Kind("TIFF, RGB, 16 bits, LZW with predictor", data, "OpenCV", read, 0, 65535)


def float_tiffs() -> Iterator[Kind]:
    """Floats by each of the scales that people store them by."""
    for low, high, black, white in (
        (0.0, 1.0, 0, 1), (0.0, 250.0, 0, 255), (0.0, 4000.0, 0, 4095), (0.0, 65000.0, 0, 65535),
        (-1.0, 1.0, -1, 1), (0.0, 1.7, 0, 1.7), (-3.5, 800.25, -3.5, 800.25), (0.0, 123456.0, 0, 123456),
    ):  # fmt: skip
        for colours in (1, 3):
            photometric = "rgb" if colours == 3 else "minisblack"
            data, read = by_tifffile(scene(colours, high, np.float32, least=low), photometric=photometric)
            name = f"TIFF, {'RGB' if colours == 3 else 'grey'}, float, {low:g} to {high:g}"
            yield Kind(name, data, "tifffile", read, black, white, 0.5)
    planes = np.ascontiguousarray(np.moveaxis(scene(3, 1, np.float32), 2, 0))
    data, read = by_tifffile(planes, photometric="rgb", planarconfig="separate", byteorder=">")
    yield Kind("TIFF, RGB, float, planar, big-endian", data, "tifffile", read, 0, 1, 0.5)
    data, read = by_tifffile(scene(3, 1, np.float64), photometric="rgb")
    yield Kind("TIFF, RGB, float of 64 bits", data, "tifffile", read, 0, 1, 0.5)
    data, read = by_tifffile(scene(3, 1, np.float16), photometric="rgb")
    yield Kind("TIFF, RGB, float of 16 bits", data, "tifffile", read, 0, 1, 0.5)
    how = (cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 3)
    data, read = by_opencv(".tiff", scene(3, 1, np.float32), *how)
    yield Kind("TIFF, RGB, float, LZW with floating-point predictor", data, "OpenCV", read, 0, 1, 0.5)
    holes = scene(1, 1, np.float32)
    holes[3:9, 5:7] = np.nan
    data, read = by_tifffile(holes)
    yield Kind("TIFF, grey, float, some not a number", data, "tifffile", np.nan_to_num(read), 0, 1, 0.5)


def others() -> Iterator[Kind]:
    """PNG, PPM and PFM, and colour maps."""
    for most in (1023, 4095, 65535):
        data, read = by_opencv(".png", scene(1, most, np.uint16))
        yield Kind(f"PNG, grey, to {most:,}", data, "OpenCV", read, 0, most, 0.5)
        data, read = by_opencv(".png", scene(3, most, np.uint16))
        yield Kind(f"PNG, RGB, to {most:,}", data, "OpenCV", read, 0, most)
        data = interlaced(scene(3, most, np.uint16))
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
        yield Kind(f"PNG, RGB, interlaced, to {most:,}", data, "OpenCV", read, 0, most)
        pixels = scene(1, most, np.uint16)
        data = f"P5 {SIZE[1]} {SIZE[0]} {most}\n".encode() + pixels.astype(">u2").tobytes()
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        yield Kind(f"PGM, greatest value {most:,}", data, "OpenCV", read, 0, most, 0.51)
        colours = scene(3, most, np.uint16)
        data = f"P6 {SIZE[1]} {SIZE[0]} {most}\n".encode() + colours.astype(">u2").tobytes()
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
        yield Kind(f"PPM, greatest value {most:,}", data, "OpenCV", read, 0, most, 0.51)
    for colours in (1, 3):
        data, read = by_opencv(".pfm", scene(colours, 1, np.float32))
        yield Kind(f"PFM, {'RGB' if colours == 3 else 'grey'}", data, "OpenCV", read, 0, 1, 0.5)
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * 2_000_000, zip=True)
    file = io.BytesIO()
    Image.fromarray(scene(3, 255, np.uint8)).save(file, "PNG", pnginfo=text)
    data = file.getvalue()
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    yield Kind("PNG, 2 MB of text", data, "OpenCV", read, 0, 255, 0.0)
    for mode, how in (("1", {}), ("L", {"bits": 2}), ("L", {"bits": 4})):
        file = io.BytesIO()
        if mode == "1":
            Image.fromarray(scene(1, 255, np.uint8)).convert("1").save(file, "PNG")
        else:
            palette = Image.fromarray(scene(1, 2 ** how["bits"] - 1, np.uint8))
            palette.putpalette([level for i in range(2 ** how["bits"]) for level in (i * 16, 255 - i * 15, i)])
            palette.save(file, "PNG", bits=how["bits"])
        read = imageio.imread(file.getvalue(), mode="RGB")
        yield Kind(f"PNG, {'1 bit' if mode == '1' else str(how['bits']) + ' bits, palette'}", file.getvalue(),
                   "imageio", read, 0, 255, 0.0)  # fmt: skip
    yield from palettes()


def shallow() -> Iterator[Kind]:
    """Eight bits or fewer, in the less common ways of TIFF."""
    colours, grey = scene(3, 255, np.uint8), scene(1, 255, np.uint8)
    planes = np.ascontiguousarray(np.moveaxis(colours, 2, 0))
    for name, pixels, how in (
        ("RGB, planar", planes, {"photometric": "rgb", "planarconfig": "separate"}),
        ("RGB, planar, deflate", planes, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
        ("RGB, tiles, big-endian", colours, {"photometric": "rgb", "tile": (32, 32), "byteorder": ">"}),
        ("three bands without a name", colours, {"photometric": "minisblack", "planarconfig": "contig"}),
        ("three planes without a name", planes, {"photometric": "minisblack", "planarconfig": "separate"}),
    ):
        data, read = by_tifffile(pixels, **how)
        yield Kind(f"TIFF, 8 bits, {name}", data, "tifffile", read, 0, 255, 0.0)
    data, read = by_tifffile(grey, photometric="miniswhite")
    yield Kind("TIFF, grey, 8 bits, white is zero", data, "tifffile", 255 - read, 0, 255, 0.0)
    data, read = by_tifffile(grey > 120, photometric="minisblack")
    yield Kind("TIFF, 1 bit", data, "tifffile", read.astype(np.uint8), 0, 1, 0.0)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "TIFF", compression="jpeg", quality=95)
    read = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    yield Kind("TIFF, RGB, 8 bits, JPEG inside", file.getvalue(), "OpenCV", read, 0, 255, 2.0)
    for bits in (8, 16):
        inks = np.concatenate(
            [scene(3, 2**bits - 1, f"uint{bits}"), scene(1, 2**bits // 3, f"uint{bits}")[..., None]], 2
        )
        data, read = by_tifffile(inks, photometric="separated")
        whole = 1 - read.astype(np.float64) / (2**bits - 1)
        yield Kind(f"TIFF, CMYK, {bits} bits", data, "tifffile", whole[..., :3] * whole[..., 3:], 0, 1, 2.5)


def transparent() -> Iterator[Kind]:
    """Sixteen bits with transparency, over white."""
    for most in (4095, 65535):
        pixels = np.concatenate([scene(3, most, np.uint16), scene(1, 65535, np.uint16)[..., None]], 2)
        data = cv2.imencode(".png", pixels[..., [2, 1, 0, 3]])[1].tobytes()
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]].astype(np.float64)
        alpha = read[..., 3:] / 65535
        over = read[..., :3] / most * alpha + 1 - alpha
        yield Kind(f"PNG, RGB and transparency, to {most:,}", data, "OpenCV", over, 0, 1, 2.5)
        data, read = by_tifffile(pixels, photometric="rgb", extrasamples=["unassalpha"])
        yield Kind(f"TIFF, RGB and transparency, to {most:,}", data, "tifffile", over, 0, 1, 2.5)


def palettes() -> Iterator[Kind]:
    """Colour maps, which hold 16 bits for each colour."""
    wide = np.linspace(0, 65535, 65536).astype(np.uint16)
    table = np.stack([wide, wide[::-1], (wide // 3).astype(np.uint16)])
    for bits in (8, 16):
        indices = scene(1, 2**bits - 1, f"uint{bits}")
        colour_map = np.ascontiguousarray(table[:, :: 2 ** (16 - bits)])
        data = tiff(indices, 3, {320: colour_map.ravel().tolist()})
        page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
        read = np.moveaxis(np.asarray(page.colormap)[:, page.asarray()], 0, 2)
        yield Kind(f"TIFF, palette of {bits} bits", data, "tifffile", read, 0, 65535)


def tiff(pixels: NDArray[Any], photometric: int, more: dict[int, list[int]]) -> bytes:
    """The least TIFF file: little-endian, one strip, numbers of 16 bits in further tags."""
    tags = {256: [pixels.shape[1]], 257: [pixels.shape[0]], 258: [8 * pixels.itemsize], 259: [1], 262: [photometric],
            273: [8], 277: [1], 278: [pixels.shape[0]], 279: [pixels.nbytes]} | more  # fmt: skip
    at = 8 + pixels.nbytes + pixels.nbytes % 2
    spill_at, entries, spill = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        wide = tag in (273, 279)
        packed = struct.pack(f"<{len(values)}{'I' if wide else 'H'}", *values).ljust(4, b"\0")
        if len(packed) > 4:
            packed, spill = struct.pack("<I", spill_at + len(spill)), spill + packed
        entries += struct.pack("<HHI", tag, 4 if wide else 3, len(values)) + packed
    strip = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() + bytes(pixels.nbytes % 2)
    return struct.pack("<2sHI", b"II", 42, at) + strip + struct.pack("<H", len(tags)) + entries + bytes(4) + spill


def interlaced(pixels: NDArray[np.uint16]) -> bytes:
    """An Adam7 PNG of 16-bit RGB, without filters."""
    height, width = pixels.shape[:2]
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
        if pixels[top::down, left::across].size
    )

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def kinds() -> Iterator[Kind]:
    """Every kind."""
    makers: tuple[Callable[[], Iterator[Kind]], ...] = (deep_tiffs, float_tiffs, transparent, shallow, others)
    for maker in makers:
        yield from maker()


def difference(kind: Kind) -> float:
    """Largest difference in levels of 255, by the scale that Thawline chooses for a data set of this one file."""
    from thawline.inputs.image import open_image
    from thawline.inputs.image.kind import scales_of

    got = np.asarray(open_image(kind.data, scales_of([kind.data])), np.float64)
    wanted = ((kind.samples.astype(np.float64) - kind.black) * (255 / (kind.white - kind.black))).clip(0, 255)
    return float(np.abs(got - (wanted if wanted.ndim == 3 else wanted[..., None])).max())


def main() -> None:
    """Measure every kind, and write the page."""
    from thawline.runs.reporting import environment

    rows = [(kind, difference(kind)) for kind in kinds()]
    used = f"tifffile {tifffile.__version__}, OpenCV {cv2.__version__}, imageio {version('imageio')}"
    lines = [
        "# Depths and kinds of pictures against independent readers",
        "",
        f"Written by `python benchmarks/depths.py` on {time.strftime('%Y-%m-%d')};",
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}; {used}.",
        "",
        "Largest difference over all pixels, in levels of 255, between what Thawline makes of a file and what the",
        "samples that another reader finds would be, unrounded, between the black and the white given. Rounding to 8",
        "bits alone makes 0.5. Colours of 16 bits that fill their range lose their low byte: up to 1. Transparency is",
        "rounded, too.",
        "",
        "| kind | reader | black | white | largest difference |",
        "|---|---|---|---|---|",
        *(f"| {k.name} | {k.reader} | {k.black:,g} | {k.white:,.10g} | {d:.2f} |" for k, d in rows),
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
