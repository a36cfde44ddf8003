"""Pictures with the statistics of photographs, and stems whose batch norm has seen them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from thawline.planning.source_memory import IMAGENET, PIXELS, Normalisation, Stem

HALF = Normalisation((0.5,) * 3, (0.5,) * 3)
BYTES = Normalisation((0.0,) * 3, (1 / 255,) * 3)
SOURCE = Normalisation(*IMAGENET)


def pictures(n: int = 16, *, seed: int = 0, px: int = 48) -> np.ndarray:
    """Smooth coloured noise with the moments of ImageNet's pixels: uint8 (n, px, px, 3)."""
    rng = np.random.default_rng(seed)
    smooth = sum(
        np.sqrt(share) * np.kron(rng.normal(0, 1, (n, px // side, px // side, 3)), np.ones((1, side, side, 1)))
        for side, share in ((16, 0.85), (4, 0.12), (1, 0.03))
    )
    values = np.array(IMAGENET[0]) + 0.8 * smooth @ np.linalg.cholesky(PIXELS).T
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def stem_for(trained: Normalisation, *, bias: bool = False, seen: np.ndarray | None = None) -> Stem:
    """A first layer whose batch norm has seen pictures that were prepared as said."""
    rng = np.random.default_rng(5)
    weight = rng.normal(0, 0.3, (24, 3, 3, 3))
    blank = Stem("conv", "bn1", weight, rng.normal(0, 1, 24) if bias else np.zeros(24), np.zeros(24), np.ones(24))
    mean, variance = convolved(blank, pictures(64, seed=9) if seen is None else seen, trained)
    return replace(blank, mean=mean, variance=variance)


def convolved(stem: Stem, shown: np.ndarray, given: Normalisation) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel, by running the layer."""
    images = torch.from_numpy(shown[..., ::-1].copy() if given.swapped else shown).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (given.mean, given.std))
    out = torch.nn.functional.conv2d((images - mean) / std, torch.from_numpy(stem.weight), torch.from_numpy(stem.bias))
    return out.mean((0, 2, 3)).numpy(), out.var((0, 2, 3)).numpy()
