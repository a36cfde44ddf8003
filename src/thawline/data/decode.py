"""From the bytes of a picture to upright RGB pixels, and from those to the backbone's input."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from thawline.errors import UndecodableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Payload, Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM")
"""Pillow's names of the formats that are read; no other parser ever sees the bytes."""
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .heic .heif .avif".split()
)
"""File names that promise a picture. The last three are not read: they are listed as skipped, never overlooked."""
MAX_PIXELS = 100_000_000
"""Larger pictures are refused from their header: decoded, this many already take 300 MB."""
MAX_ASPECT = 200
"""Longer side over shorter side; a 1 x 100,000 strip would grow to gigabytes when its shorter side is enlarged."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WebP"),
    (b"BM", "BMP"),
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def open_image(payload: Payload) -> Image.Image:
    """Decode one sample completely, turn it upright (EXIF) and make it RGB.

    Transparent pixels are laid over white; 16-bit grey is scaled to 8; of an animation the first frame is taken.

    Args:
        payload: Bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file, or uint8 pixels (H, W) or (H, W, 3).
    Raises:
        UndecodableError: The reason, in words, without the name of the sample.
    """
    with _decoded(payload) as (image, _):
        return _upright(_to_rgb(image), image)


def thumbnail(payload: Payload, px: int) -> Image.Image:
    """Squash the whole picture, decoded to its last byte, to ``px`` x ``px`` RGB.

    Of large JPEG files a half, quarter or eighth of the pixels are decoded, at least 8 for each one that is wanted.

    Raises:
        UndecodableError: As ``open_image``.
    """
    with _decoded(payload, at_least_px=8 * px) as (image, extent):
        # JPEG pads to whole blocks; without the box, a reduced picture would come out up to one pixel wider than it is.
        # Hamming moves less than Box when the same picture comes in another size (measured on photographs and scans).
        squashed = _to_rgb(image).resize((px, px), Image.Resampling.HAMMING, box=(0, 0, *extent))
        return _upright(squashed, image)


def prepare(payload: Payload, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the pixels that the backbone sees, uint8 (H, W, 3), before division by 255 and normalisation.

    Byte for byte what timm's evaluation transform gives with Pillow.

    Raises:
        UndecodableError: The sample cannot be decoded.
    Source:
        torchvision.transforms.functional.resize and center_crop, as called by
        timm.data.transforms_factory.transforms_imagenet_eval.
    """
    image = open_image(payload)
    height, width = preprocessing.input_px
    resampling = _RESAMPLING[preprocessing.interpolation]
    short, long = min(image.size), max(image.size)
    new_short = preprocessing.resize_px
    new_long = new_short if preprocessing.crop_mode == "squash" else int(new_short * long / short)
    size = (new_short, new_long) if image.width <= image.height else (new_long, new_short)
    image = _resize(image, size, resampling)
    left, top = _crop_offset(image.width, width), _crop_offset(image.height, height)
    return np.array(image.crop((left, top, left + width, top + height)))  # beyond the border Pillow fills with 0


def _resize(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, resampling)


def _crop_offset(have: int, want: int) -> int:
    """As torchvision: where the picture is too small the smaller half is padded first; else half rounds to even."""
    return -((want - have) // 2) if want > have else round((have - want) / 2.0)


@contextmanager
def _decoded(payload: Payload, at_least_px: int | None = None) -> Iterator[tuple[Image.Image, tuple[float, float]]]:
    """The loaded picture as stored, and the width and height of it that are picture; failures inside are translated."""
    if isinstance(payload, np.ndarray):
        yield Image.fromarray(payload), (payload.shape[1], payload.shape[0])
        return
    if not payload:
        raise UndecodableError("the file is empty (0 bytes)")
    with _quiet_pillow():
        image = _open_header(payload)
        try:
            full = image.size
            if at_least_px is not None:
                image.draft(None, (at_least_px, at_least_px))
            shrunk = max(1, round(full[0] / image.width), round(full[1] / image.height))
            image.load()
            reduced = (full[0] / shrunk, full[1] / shrunk)
            yield image, reduced if shrunk > 1 else image.size  # a TIFF may have been turned while loading
        except UndecodableError:
            raise
        except Exception as error:  # a parser of untrusted bytes: whatever it raises means "cannot be read"
            raise UndecodableError(_why_damaged(error, image.format)) from error


def _open_header(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UndecodableError(_why_unknown(data)) from error
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d{7,}", str(error))
        raise UndecodableError(_too_large(int(pixels[0]) if pixels else 2 * MAX_PIXELS)) from error
    except Exception as error:  # see open_image
        raise UndecodableError(_why_damaged(error, _known_format(data))) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UndecodableError(_too_large(width * height, f"{width} x {height} pixels, "))
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UndecodableError(f"{width} x {height} pixels: a strip, longer than {MAX_ASPECT} times its width")
    return image


def _upright(image: Image.Image, stored: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF orientation of the stored one says."""
    try:
        turn = _TURNS.get(stored.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF beside a good picture: as every viewer does, show it as it lies
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale deep grey by the range its format promises (16 bits), else by the range that its values suggest."""
    values: NDArray[np.float32] = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).all():
        raise UndecodableError("some of its values are infinite or not a number")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        low, high = 0.0, 65535.0  # Pillow scales deep PPM to 16 bits whatever its stated maximum
    elif low >= 0 and high <= 1 and image.mode == "F":
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535 and image.mode == "I":
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-30))
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _too_large(pixels: int, size: str = "") -> str:
    return f"too large: {size}{pixels / 1e6:.0f} megapixels where at most {MAX_PIXELS // 1_000_000} are read"


def _known_format(data: bytes) -> str | None:
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


def _why_unknown(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"hevc", b"msf1"):
        return "a HEIC or AVIF picture, which is not read: save it as JPEG or PNG"
    known = _known_format(data)
    if known is not None:
        return f"a damaged {known} file: its header cannot be read"
    start = data[:512]
    is_text = not any(byte < 9 or 13 < byte < 32 for byte in start)
    return f"not a picture: {'its content is text' if is_text else 'no JPEG, PNG, WebP, GIF, BMP, TIFF or PPM'}"


def _why_damaged(error: Exception, format_name: str | None) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"a truncated {format_name} file: its data end before the picture does"
    return f"a damaged {format_name} file: {text.splitlines()[0]}"


_quiet_lock = threading.Lock()
_quiet: list[warnings.catch_warnings[None]] = []
_quiet_depth = 0


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's remarks on odd files, from any number of threads.

    ``warnings.catch_warnings`` alone may leave its filters behind when threads overlap: the first one in sets them, the
    last one out takes them back.
    """
    global _quiet_depth
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            _quiet.append(warnings.catch_warnings())
            _quiet[0].__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|thawline\.data\.decode")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet.pop().__exit__(None, None, None)
