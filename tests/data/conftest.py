"""Pictures and small folders for the data room."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """A picture with the spectrum of a photograph: most of its energy in coarse structure."""

    def make(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
        rng = np.random.default_rng(seed)
        layers = np.zeros((size[1], size[0], 3))
        for cells in (3, 6, 12, 24, 48):
            noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            layers += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), float) / cells
        layers -= layers.min()
        return Image.fromarray((layers * 255 / layers.max()).astype(np.uint8))

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def make(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def class_folders(tmp_path: Path, photo: Callable[..., Image.Image]) -> Callable[..., Path]:
    """Write ``{"cat": 3, "dog": 2}`` distinct pictures below a folder of the test's own, and return it."""
    seeds = iter(range(10_000))

    def make(counts: dict[str, int], folder: str = "pets") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name, n in counts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                photo(next(seeds), (40, 30)).save(root / name / f"{i}.png")
        return root

    return make
