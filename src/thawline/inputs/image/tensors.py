"""Turn pixels into the tensors that a backbone takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from thawline.records import ImagePreparation


class Normalise:
    """Normalises pixels as a backbone was trained to see them."""

    def __init__(self, preparation: ImagePreparation, device: torch.device) -> None:
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (preparation.mean, preparation.std)
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels uint8 (B, H, W, 3) -> images float32 (B, 3, H, W), channels-last as they are."""
        images = pixels.permute(0, 3, 1, 2).float().div(255)  # (B, H, W, 3) -> (B, 3, H, W)
        return images.sub(self._mean).div(self._std)
