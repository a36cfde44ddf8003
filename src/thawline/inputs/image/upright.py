"""Turn a picture upright, as its EXIF says."""

from __future__ import annotations

from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

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


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 if it has none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF beside a good picture: as every viewer does, show it as it lies
        return 1
    return orientation if orientation in _TURNS else 1


def upright(image: Image.Image, box: Box, orientation: int) -> tuple[Image.Image, Box]:
    """Turn an image, and the box in it that begins at its upper left corner."""
    if orientation not in _TURNS:
        return image, box
    turn, left_was_end, top_was_end = _TURNS[orientation]
    turned = image.transpose(turn)
    width, height = box[2:] if orientation < 5 else (box[3], box[2])
    left, top = (turned.width - width) * left_was_end, (turned.height - height) * top_was_end
    return turned, (left, top, left + width, top + height)
