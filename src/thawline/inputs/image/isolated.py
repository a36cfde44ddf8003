"""Open the formats whose decoders see no other bytes: JPEG 2000, AVIF and, with the extra ``heic``, HEIC."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, UnidentifiedImageError, features

from thawline.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

_FEATURES = {"JPEG2000": ("JPEG 2000", "jpg_2000"), "AVIF": ("AVIF", "avif")}
"""Pillow's name of a format -> what people call it, and the feature of Pillow that reads it."""


def open_isolated(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header of a picture; nothing is decoded yet, so its size can be judged first.

    Args:
        data: A whole file.
        name: Its format, as ``formats.isolated_format`` tells it.
    Raises:
        UndecodableError: What would read this format is not installed.
        Exception: Whatever the parser of a damaged file raises.
    """
    if name == "HEIC":
        return _heic_opener()(io.BytesIO(data))
    title, feature = _FEATURES[name]
    try:
        is_there = features.check(feature)
    except ValueError:  # Pillow before 11.3 knows no AVIF
        is_there = False
    if not is_there:
        raise UndecodableError(
            f"a picture in {title}, which the installed Pillow does not read: save it as PNG or JPEG, or install a "
            "newer Pillow (pip install -U pillow)"
        )
    try:
        return Image.open(io.BytesIO(data), formats=(name,))
    except UnidentifiedImageError as error:
        raise UndecodableError(f"a damaged {title} file: its header cannot be read") from error


def _heic_opener() -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Return the class of pillow-heif, which is not registered: it reads what is given to it here, and nothing else."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UndecodableError(
            "a HEIC picture, which needs one more package: pip install 'thawline[heic]', or save it as JPEG or PNG"
        ) from error
    opener: Callable[[io.BytesIO], ImageFile.ImageFile] = HeifImageFile
    return opener
