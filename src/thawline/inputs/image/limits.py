"""Refuse pictures that are too large to decode, from their header."""

from __future__ import annotations

from thawline.errors import UndecodableError

MAX_PIXELS = 100_000_000
"""Larger pictures are refused from their header: decoded, this many already take 300 MB."""
MAX_ASPECT = 200
"""Longer side over shorter side; a 1 x 100,000 strip would grow to gigabytes when its shorter side is enlarged."""


def refuse_size(width: int, height: int) -> None:
    """Raise UndecodableError if a picture has too many pixels, none, or the shape of a strip."""
    if width * height > MAX_PIXELS:
        raise UndecodableError(too_large(width * height, f"{width} x {height} pixels, "))
    if min(width, height) < 1:
        raise UndecodableError(f"{width} x {height} pixels: nothing to see")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UndecodableError(f"{width} x {height} pixels: a strip, longer than {MAX_ASPECT} times its width")


def too_large(pixels: int, size: str = "") -> str:
    """Say that a picture has too many pixels."""
    return f"too large: {size}{pixels / 1e6:.0f} megapixels where at most {MAX_PIXELS // 1_000_000} are read"
