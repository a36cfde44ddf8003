"""Turn pixels into the tensors that a backbone takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from thawline.records import ImagePreparation


class Normalise:
    """Normalises pixels as a backbone was trained to see them."""

    def __init__(self, preparation: ImagePreparation, device: torch.device) -> None:
        self._mean, self._std = (torch.tensor(values, device=device) for values in (preparation.mean, preparation.std))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels uint8 (B, H, W, 3) -> images float32 (B, 3, H, W), channels-last as they are."""
        # OpenVINO converts no step that overwrites a view.
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            mean, std = (values.view(1, 3, 1, 1) for values in (self._mean, self._std))
            return pixels.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)
        width = pixels.shape[2]
        # Whole lines at once: in inner loops of three channels, the same numbers take three times as long.
        lines = pixels.flatten(2).float().div_(255)  # (B, H, W, 3) -> (B, H, W * 3)
        lines.sub_(self._mean.repeat(width)).div_(self._std.repeat(width))
        return lines.view(pixels.shape).permute(0, 3, 1, 2)  # -> (B, 3, H, W)
