"""Turn the bytes of a picture into upright RGB pixels, and these into the backbone's input."""

from __future__ import annotations

import io
import math
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from thawline.errors import UndecodableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import ImagePreparation, Payload

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

_SPARE = 5.9
"""Decoded pixels, across, that a JPEG decoded to a half, quarter or eighth must leave for each one that is wanted.

Measured for halves and quarters with an ImageNet MobileNetV2 at 224 px, on photographs enlarged and on mosaics of sharp
ones, 8 to 24 of each. With 5.9 the features have a cosine to the exact ones of 0.99992 in the median, 0.9997 at worst;
pixels are off by 0.1 to 0.25 of 255 levels in the mean, 13 at most. The lowest median is 0.99986 with 5.5, 0.99985 with
5, 0.9998 with 4 and 0.9995 with 3. (An exact bicubic resize, first down and then across, gives 0.99984.) An eighth was
not measured: at 256 px, it would take more pixels than are read. 4032 x 3024 for 256 px is decoded to a half."""
_SPARE_THUMB = 8
"""The same for thumbnails, by which near duplicates are known."""

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
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, False, True),
}
"""EXIF orientation -> how to turn; whether the left then is what was right or below, and the same of the top."""
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = 3
"""Pixels on either side that the widest of these filters, Lanczos, looks at when it enlarges."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


class Picture(NamedTuple):
    """An upright RGB picture, or a reduced copy of it."""

    image: Image.Image
    box: Box
    """Where in ``image`` the picture lies: of a reduced JPEG, pixels at two borders may be part padding."""
    reduction: int = 1
    """Pixels of the picture, across, for one of ``image``: 1, 2, 4 or 8."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture before it was reduced."""
        left, top, right, bottom = self.box
        return round((right - left) * self.reduction), round((bottom - top) * self.reduction)

    def inside(self, box: Box) -> Box:
        """Return the place in ``image`` of a box of the picture."""
        (left, top, _, _), by = self.box, self.reduction
        return left + box[0] / by, top + box[1] / by, left + box[2] / by, top + box[3] / by


Shrinking = Callable[[int, int], float]
"""Width and height, in either order -> how many pixels of the picture, across, become one that is wanted."""


def open_image(payload: Payload) -> Image.Image:
    """Decode one sample completely, turn it upright (EXIF) and make it RGB.

    Transparent pixels are laid over white; 16-bit grey is scaled to 8; of an animation the first frame is taken.

    Args:
        payload: Bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file, or uint8 pixels (H, W) or (H, W, 3).
    Raises:
        UndecodableError: The reason, in words, without the name of the sample.
    """
    return open_picture(payload).image


def open_picture(payload: Payload, shrinking: Shrinking | None = None) -> Picture:
    """Open as ``open_image`` does; decode fewer pixels of a JPEG that will be shrunk far, if that changes no result.

    Raises:
        UndecodableError: As ``open_image``.
    """
    with _decoded(payload, shrinking, _SPARE) as (image, box, reduction):
        return Picture(*_upright(_to_rgb(image), box, image), reduction)


def thumbnail(payload: Payload, px: int) -> Image.Image:
    """Squash the whole picture, decoded to its last byte, to ``px`` x ``px`` RGB.

    Of large JPEG files a half, quarter or eighth of the pixels are decoded, at least 8 for each one that is wanted.

    Raises:
        UndecodableError: As ``open_image``.
    """
    with _decoded(payload, lambda width, height: min(width, height) / px, _SPARE_THUMB) as (image, box, _):
        # JPEG pads to whole blocks; without the box, a reduced picture would come out up to one pixel wider than it is.
        # Hamming moves less than Box when the same picture comes in another size (measured on photographs and scans).
        squashed = _to_rgb(image).resize((px, px), Image.Resampling.HAMMING, box=box)
        return _upright(squashed, (0, 0, px, px), image)[0]


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return an open picture of Pillow as its file would be decoded: upright, RGB, uint8 (H, W, 3).

    Raises:
        UndecodableError: As ``open_image``.
    """
    with _quiet_pillow():
        try:
            _refuse_size(*image.size)
            image.load()
            upright, _ = _upright(_to_rgb(image), (0, 0, *image.size), image)
            return np.asarray(upright, dtype=np.uint8)
        except UndecodableError:
            raise
        except Exception as error:  # see _decoded
            raise UndecodableError(_why_damaged(error, image.format or "picture")) from error


def prepare(payload: Payload, preparation: ImagePreparation) -> NDArray[np.uint8]:
    """Return the pixels that the backbone sees, uint8 (H, W, 3), before division by 255 and normalisation.

    They are those of timm's evaluation transform with Pillow: byte for byte where nothing is cropped, else one or two
    levels off in about one value of ten thousand; what ``_SPARE`` says holds for JPEG shrunk more than elevenfold.

    Raises:
        UndecodableError: The sample cannot be decoded.
    Source:
        torchvision.transforms.functional.resize and center_crop, as called by
        timm.data.transforms_factory.transforms_imagenet_eval.
    """
    return fitted(open_picture(payload, shrinking(preparation)), preparation)


def shrinking(preparation: ImagePreparation) -> Shrinking:
    """Return how far ``prepare`` shrinks a picture."""
    if preparation.interpolation == "nearest":
        return lambda width, height: 1.0  # takes single pixels, which no reduced picture has
    return lambda width, height: min(width, height) / preparation.resize_px


def fitted(picture: Picture, preparation: ImagePreparation) -> NDArray[np.uint8]:
    """Resize and crop a picture as ``prepare`` does: uint8 (H, W, 3)."""
    have_width, have_height = picture.size
    height, width = preparation.input_px
    short, long = min(picture.size), max(picture.size)
    new_short = preparation.resize_px
    new_long = new_short if preparation.crop_mode == "squash" else int(new_short * long / short)
    size = (new_short, new_long) if have_width <= have_height else (new_long, new_short)
    left, top = _crop_offset(size[0], width), _crop_offset(size[1], height)
    crop = (left, top, left + width, top + height)
    image, resampling = picture.image, _RESAMPLING[preparation.interpolation]
    if min(left, top) >= 0 and left + top > 0 and _can_crop_first(picture, size, preparation):
        return np.array(_resize_crop(picture, size, crop, resampling))
    if size != picture.size:
        image = image.resize(size, resampling, box=picture.box)
    return np.array(image.crop(crop))  # beyond the border Pillow fills with 0


def _can_crop_first(picture: Picture, size: tuple[int, int], preparation: ImagePreparation) -> bool:
    """Whether ``_resize_crop`` gives what resizing the whole would, as it resizes first across, then down.

    Pillow does the same, but for pictures more than twice as tall as wide, and for some that change their shape.
    """
    if preparation.crop_mode == "squash" or preparation.interpolation == "nearest":
        return False
    return size != picture.size and picture.size[1] <= 2 * picture.size[0]


def _resize_crop(
    picture: Picture, size: tuple[int, int], crop: tuple[int, int, int, int], resampling: Image.Resampling
) -> Image.Image:
    """What ``crop`` leaves of the picture resized to ``size``, without computing the rest: a third to a half is saved.

    Pillow takes the box in single precision: hence one level off now and then. Two calls, since one would swap the
    passes for some crops, and that moves every fifth value.
    """
    left, top, right, bottom = picture.box
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    begin, end = top + crop[1] * down, top + crop[3] * down
    reach = math.ceil(_REACH * max(down, 1)) + 1
    first, last = max(0, int(begin) - reach), min(picture.image.height, math.ceil(end) + reach)
    rows = picture.image.crop((0, first, picture.image.width, last))
    box = (left + crop[0] * across, 0, left + crop[2] * across, last - first)
    narrow = rows.resize((width, last - first), resampling, box=box)
    return narrow.resize((width, height), resampling, box=(0, begin - first, width, end - first))


def _crop_offset(have: int, want: int) -> int:
    """Give torchvision's offset: a picture too small is padded by the smaller half first; else half rounds to even."""
    return -((want - have) // 2) if want > have else round((have - want) / 2.0)


@contextmanager
def _decoded(payload: Payload, shrinking: Shrinking | None, spare: float) -> Iterator[tuple[Image.Image, Box, int]]:
    """The loaded image as stored, where in it the picture lies, and its reduction; failures inside are translated."""
    if isinstance(payload, np.ndarray):
        yield Image.fromarray(payload), (0, 0, payload.shape[1], payload.shape[0]), 1
        return
    if isinstance(payload, str):
        raise UndecodableError("a text, where a picture was expected")
    if not payload:
        raise UndecodableError("the file is empty (0 bytes)")
    with _quiet_pillow():
        image = _open_header(payload)
        try:
            width, height = image.size
            reduction = 1 if shrinking is None else reduction_of(shrinking, image.size, spare)
            if reduction > 1:
                image.draft(None, (width // reduction, height // reduction))  # JPEG alone can
                reduction = max(1, round(width / image.width), round(height / image.height))
            image.load()
            if reduction == 1:
                width, height = image.size  # a TIFF may have been turned while loading
            yield image, (0, 0, width / reduction, height / reduction), reduction
        except UndecodableError:
            raise
        except Exception as error:  # a parser of untrusted bytes: whatever it raises means "cannot be read"
            raise UndecodableError(_why_damaged(error, image.format)) from error


def reduction_of(shrinking: Shrinking, size: tuple[int, int], spare: float = _SPARE) -> int:
    """Pixels, across, for one that a JPEG of this size is decoded to."""
    most = shrinking(*size) / spare
    return next((reduction for reduction in (8, 4, 2) if reduction <= most), 1)


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
    _refuse_size(*image.size)
    return image


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UndecodableError(_too_large(width * height, f"{width} x {height} pixels, "))
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UndecodableError(f"{width} x {height} pixels: a strip, longer than {MAX_ASPECT} times its width")


def _upright(image: Image.Image, box: Box, stored: Image.Image) -> tuple[Image.Image, Box]:
    """Turn an image, and the box in it that begins at its upper left corner, as the stored one's EXIF says."""
    try:
        orientation = stored.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF beside a good picture: as every viewer does, show it as it lies
        orientation = 1
    if orientation not in _TURNS:
        return image, box
    turn, left_was_end, top_was_end = _TURNS[orientation]
    turned = image.transpose(turn)
    width, height = box[2:] if orientation < 5 else (box[3], box[2])
    left, top = (turned.width - width) * left_was_end, (turned.height - height) * top_was_end
    return turned, (left, top, left + width, top + height)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
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
