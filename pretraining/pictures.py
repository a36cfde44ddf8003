"""The pictures of Tiny ImageNet, and the views of them that teacher and student both see."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

SOURCE_PX = 64
MEAN = STD = 0.5


def decode(parquet: Path, cache: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pixels (N, 64, 64, 3), memory-mapped, and labels (N,); decode once into ``cache``."""
    table = pq.read_table(parquet)
    labels = table["label"].to_numpy().astype(np.int64)
    if not cache.exists():
        partial = cache.with_suffix(".partial.npy")
        pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(labels), SOURCE_PX, SOURCE_PX, 3))
        for row, blob in enumerate(table["image"]):
            with Image.open(BytesIO(blob.as_py())) as image:
                pixels[row] = np.asarray(image.convert("RGB"))
        pixels.flush()
        partial.replace(cache)
    return np.load(cache, mmap_mode="r"), labels


def to_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Pixels (B, H, W, 3) -> float32 (B, 3, H, W), normalised."""
    batch = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
    return batch.div_(255).sub_(MEAN).div_(STD)


def generator(*purpose: int) -> torch.Generator:
    """A generator of its own for each purpose, so that no draw depends on how many were made before it."""
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def draw_boxes(n: int, scale_min: float, draws: torch.Generator) -> torch.Tensor:
    """Boxes of random resized crops, (n, 4): width, height, and centre's x and y, the picture being -1 to 1.

    Area from ``scale_min`` to 1, aspect ratio from 3/4 to 4/3 (Szegedy et al. 2015, arXiv:1409.4842).
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=draws) * (high - low) + low

    area, aspect = uniform(scale_min, 1.0), uniform(np.log(3 / 4), np.log(4 / 3)).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    return torch.stack([width, height, uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)], dim=1)


def within(boxes: torch.Tensor, jitter: float, draws: torch.Generator) -> torch.Tensor:
    """Boxes (n, 4) a little smaller than the given ones and somewhere inside them."""
    shrunk = boxes[:, :2] * (1 - jitter * torch.rand(len(boxes), 2, generator=draws))
    room = boxes[:, :2] - shrunk
    return torch.cat([shrunk, boxes[:, 2:] + room * (2 * torch.rand(len(boxes), 2, generator=draws) - 1)], dim=1)


def crop(batch: torch.Tensor, boxes: torch.Tensor, size_px: int, flipped: torch.Tensor | None = None) -> torch.Tensor:
    """Each picture's own box (B, 4), resized bilinearly to (B, 3, size_px, size_px); ``flipped`` (B,) are mirrored."""
    theta = torch.zeros(len(batch), 2, 3)
    theta[:, 0, 0] = boxes[:, 0] if flipped is None else torch.where(flipped, -boxes[:, 0], boxes[:, 0])
    theta[:, 1, 1] = boxes[:, 1]
    theta[:, :, 2] = boxes[:, 2:]
    grid = F.affine_grid(theta, [len(batch), 3, size_px, size_px], align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
