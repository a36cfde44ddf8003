"""Turn the bytes of a picture into upright RGB pixels, and these into the backbone's input."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from thawline.errors import UndecodableError
from thawline.inputs.image.deep import Deep, deep_file, deep_samples, pixels_with_depth, unnamed_samples
from thawline.inputs.image.formats import FORMATS, HEAD_BYTES, format_of, isolated_format, why_no_picture
from thawline.inputs.image.isolated import open_isolated
from thawline.inputs.image.lab import from_lab
from thawline.inputs.image.limits import MAX_PIXELS, refuse_size, too_large
from thawline.inputs.image.png import without_texts
from thawline.inputs.image.quiet import quiet_pillow
from thawline.inputs.image.scales import Depth, alone, depth_of, to_eight_bits
from thawline.inputs.image.tiff import has_pages
from thawline.inputs.image.upright import Box, orientation_of, upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import ImagePreparation, Payload, ValueScale

Noted = Callable[[Deep], None]
"""Hears of the samples of each picture that is deeper than 8 bits."""

SPARE = 5.9
"""Decoded pixels, across, that a JPEG decoded to a half, quarter or eighth must leave for each one that is wanted.

Measured for halves and quarters with an ImageNet MobileNetV2 at 224 px, on photographs enlarged and on mosaics of sharp
ones, 8 to 24 of each. With 5.9 the features have a cosine to the exact ones of 0.99992 in the median, 0.9997 at worst;
pixels are off by 0.1 to 0.25 of 255 levels in the mean, 13 at most. The lowest median is 0.99986 with 5.5, 0.99985 with
5, 0.9998 with 4 and 0.9995 with 3. (An exact bicubic resize, first down and then across, gives 0.99984.) An eighth was
not measured: at 256 px, it would take more pixels than are read. 4032 x 3024 for 256 px is decoded to a half."""
_SPARE_THUMB = 8
"""The same for thumbnails, by which near duplicates are known."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = 3
"""Pixels on either side that the widest of these filters, Lanczos, looks at when it enlarges."""


class Picture(NamedTuple):
    """An upright RGB picture, or a reduced copy of it."""

    image: Image.Image
    box: Box
    """Where in ``image`` the picture lies: of a reduced JPEG, pixels at two borders may be part padding."""
    reduction: int = 1
    """Pixels of the picture, across, for one of ``image``."""

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


def open_image(payload: Payload, scales: Sequence[ValueScale] = ()) -> Image.Image:
    """Decode one sample completely, turn it upright (EXIF) and make it RGB.

    Transparent pixels are laid over white; deeper samples are scaled to 8 bits; of an animation or of several pages
    the first is taken.

    Args:
        payload: Bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file, or pixels (H, W) or (H, W, 3), uint8 or deeper.
        scales: By which deeper samples are scaled; a type without one by its full range, or by the picture's own.
    Raises:
        UndecodableError: The reason, in words, without the name of the sample.
    """
    return open_picture(payload, scales=scales).image


def open_picture(
    payload: Payload,
    shrinking: Shrinking | None = None,
    *,
    spare: float = SPARE,
    scales: Sequence[ValueScale] = (),
    noted: Noted | None = None,
) -> Picture:
    """Open as ``open_image`` does; decode fewer pixels of a JPEG that will be shrunk far, if that changes no result.

    Args:
        spare: Pixels, across, that must be left for each one that is wanted. See ``SPARE``.
    Raises:
        UndecodableError: As ``open_image``.
    """
    with _decoded(payload, shrinking, spare, scales, noted) as (image, box, reduction, orientation):
        return Picture(*upright(_to_rgb(image), box, orientation), reduction)


def averaged(picture: Picture, by: int) -> Picture:
    """Return a picture ``by`` times smaller across, each pixel the mean of a square."""
    if by == 1:
        return picture
    left, top, right, bottom = picture.box
    return Picture(picture.image.reduce(by), (left / by, top / by, right / by, bottom / by), picture.reduction * by)


def thumbnail(payload: Payload, px: int, noted: Noted | None = None) -> Image.Image:
    """Squash the whole picture, decoded to its last byte, to ``px`` x ``px`` RGB.

    Of large JPEG files a half, quarter or eighth of the pixels are decoded, at least 8 for each one that is wanted.

    Raises:
        UndecodableError: As ``open_image``.
    """
    shrinking: Shrinking = lambda width, height: min(width, height) / px  # noqa: E731
    with _decoded(payload, shrinking, _SPARE_THUMB, (), noted) as (image, box, _, orientation):
        # JPEG pads to whole blocks; without the box, a reduced picture would come out up to one pixel wider than it is.
        # Hamming moves less than Box when the same picture comes in another size (measured on photographs and scans).
        squashed = _to_rgb(image).resize((px, px), Image.Resampling.HAMMING, box=box)
        return upright(squashed, (0, 0, px, px), orientation)[0]


def payload_from(image: Image.Image) -> Payload:
    """Return an open picture of Pillow as a payload: its file if loading it would lose samples, else its pixels.

    Raises:
        UndecodableError: As ``open_image``.
    """
    try:
        data = deep_file(image)
    except UndecodableError:
        raise
    except Exception as error:  # see _decoded
        raise UndecodableError(_why_damaged(error, image.format or "picture")) from error
    return pixels_of(image) if data is None else data


def pixels_of(image: Image.Image) -> NDArray[Any]:
    """Return an open picture of Pillow as its file would be decoded: upright, (H, W, 3) uint8, or (H, W) if deeper.

    Raises:
        UndecodableError: As ``open_image``.
    """
    with quiet_pillow():
        try:
            refuse_size(*image.size)
            if image.mode.startswith("I") or image.mode == "F":
                values = pixels_with_depth(image).samples
                turned, _ = upright(Image.fromarray(values), (0, 0, *image.size), orientation_of(image))
                return np.asarray(turned)
            image.load()
            turned, _ = upright(_to_rgb(image), (0, 0, *image.size), orientation_of(image))
            return np.asarray(turned, dtype=np.uint8)
        except UndecodableError:
            raise
        except Exception as error:  # see _decoded
            raise UndecodableError(_why_damaged(error, image.format or "picture")) from error


def prepare(payload: Payload, preparation: ImagePreparation, noted: Noted | None = None) -> NDArray[np.uint8]:
    """Return the pixels that the backbone sees, uint8 (H, W, 3), before division by 255 and normalisation.

    They are those of timm's evaluation transform with Pillow: byte for byte where nothing is cropped, else one or two
    levels off in about one value of ten thousand; what ``SPARE`` says holds for JPEG shrunk more than elevenfold.

    Raises:
        UndecodableError: The sample cannot be decoded.
    Source:
        torchvision.transforms.functional.resize and center_crop, as called by
        timm.data.transforms_factory.transforms_imagenet_eval.
    """
    picture = open_picture(payload, shrinking(preparation), scales=preparation.scales, noted=noted)
    return fitted(picture, preparation)


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
def _decoded(
    payload: Payload, shrinking: Shrinking | None, spare: float, scales: Sequence[ValueScale], noted: Noted | None
) -> Iterator[tuple[Image.Image, Box, int, int]]:
    """The image as stored, where in it the picture lies, its reduction, its EXIF orientation; translates failures."""
    if isinstance(payload, np.ndarray):
        image = Image.fromarray(payload) if payload.dtype == np.uint8 else _shallow(Deep(payload), scales, noted)
        yield image, (0, 0, payload.shape[1], payload.shape[0]), 1, 1
        return
    if isinstance(payload, str):
        raise UndecodableError("a text, where a picture was expected")
    if not payload:
        raise UndecodableError("the file is empty (0 bytes)")
    with quiet_pillow():
        opened = _open_header(payload)
        try:
            deep = opened if isinstance(opened, Deep) else deep_samples(payload, opened)
            if deep is not None:
                image = _shallow(deep, scales, noted)
                yield image, (0, 0, *image.size), 1, deep.orientation
                return
            assert isinstance(opened, ImageFile.ImageFile)
            image, box, reduction = _loaded(payload, opened, shrinking, spare)
            yield image, box, reduction, orientation_of(image)
        except UndecodableError:
            raise
        except Exception as error:  # a parser of untrusted bytes: whatever it raises means "cannot be read"
            format_name = opened.format if isinstance(opened, ImageFile.ImageFile) else format_of(payload[:HEAD_BYTES])
            raise UndecodableError(_why_damaged(error, format_name)) from error


def _loaded(data: bytes, image: Image.Image, shrinking: Shrinking | None, spare: float) -> tuple[Image.Image, Box, int]:
    """Decode an image of 8 bits, perhaps to fewer pixels."""
    width, height = image.size
    reduction = 1 if shrinking is None else reduction_of(shrinking, image.size, spare)
    if reduction > 1:
        if image.format in ("JPEG", "MPO"):  # a HEIC file would give its thumbnail
            image.draft(None, (width // reduction, height // reduction))
        reduction = max(1, round(width / image.width), round(height / image.height))
    try:
        image.load()
    except ValueError:
        plain = without_texts(data) if image.format == "PNG" else None  # texts may stand behind the pixels, too
        if plain is None:
            raise
        image = PngImagePlugin.PngImageFile(io.BytesIO(plain))
        image.load()
    if reduction == 1:
        width, height = image.size  # a TIFF may have been turned while loading
    return image, (0, 0, width / reduction, height / reduction), reduction


def _shallow(deep: Deep, scales: Sequence[ValueScale], noted: Noted | None) -> Image.Image:
    """Scale deep samples to 8 bits."""
    if noted is not None:
        noted(deep)
    if deep.samples.dtype == np.uint8 or deep.declared:
        return to_eight_bits(deep, None)
    depth = depth_of(deep)
    assert depth is not None
    return to_eight_bits(deep, next((scale for scale in scales if scale.values == depth.values), alone(depth)))


def further_pages(data: bytes) -> bool:
    """Whether a TIFF file holds more pictures than its first."""
    with quiet_pillow():
        return has_pages(data)


def depth_in(payload: Payload) -> Depth | None:
    """Measure how deep a picture is; None if it has 8 bits, or cannot be read. 8-bit files are not decoded."""
    with contextlib.suppress(UndecodableError), quiet_pillow():
        if isinstance(payload, np.ndarray):
            return depth_of(Deep(payload))
        if isinstance(payload, bytes) and format_of(payload[:HEAD_BYTES]) not in ("JPEG", "GIF", "WebP", "BMP"):
            opened = _open_header(payload)
            deep = opened if isinstance(opened, Deep) else deep_samples(payload, opened)
            return None if deep is None else depth_of(deep)
    return None


def reduction_of(shrinking: Shrinking, size: tuple[int, int], spare: float = SPARE) -> int:
    """Pixels, across, for one that a JPEG of this size is decoded to."""
    most = shrinking(*size) / spare
    return next((reduction for reduction in (8, 4, 2) if reduction <= most), 1)


def _open_header(data: bytes) -> ImageFile.ImageFile | Deep:
    """Open an image without decoding it; what Pillow has no mode for is read at once."""
    alone = isolated_format(data[:HEAD_BYTES])
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS) if alone is None else open_isolated(data, alone)
    except UndecodableError:
        raise
    except UnidentifiedImageError as error:
        deep = unnamed_samples(data)
        if deep is None:
            raise UndecodableError(_why_unknown(data)) from error
        return deep
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d{7,}", str(error))
        raise UndecodableError(too_large(int(pixels[0]) if pixels else 2 * MAX_PIXELS)) from error
    except Exception as error:  # see open_image
        plain = without_texts(data) if isinstance(error, ValueError) else None
        if plain is not None:
            return _open_header(plain)
        raise UndecodableError(_why_damaged(error, format_of(data[:HEAD_BYTES]))) from error
    refuse_size(*image.size)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return from_lab(image)
    if image.mode == "La":
        image = image.convert("LA")  # the only mode it can become
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _why_unknown(data: bytes) -> str:
    known = format_of(data[:HEAD_BYTES])
    if known is not None:
        return f"a damaged {known} file: its header cannot be read"
    return why_no_picture(data[:HEAD_BYTES])


def _why_damaged(error: Exception, format_name: str | None) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"a truncated {format_name} file: its data end before the picture does"
    return f"a damaged {format_name} file: {text.splitlines()[0]}"
