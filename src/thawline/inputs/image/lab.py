"""CIELab pictures as RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def from_lab(image: Image.Image) -> Image.Image:
    """Convert a picture of mode LAB to sRGB, which Pillow's own ``convert`` does not."""
    from PIL import ImageCms  # only these pictures need it

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert found is not None
    return found
