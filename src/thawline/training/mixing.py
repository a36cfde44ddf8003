"""Mix two samples into one at the thaw line (mixup, cutmix), with a loss that asks for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from thawline.backbones.names import INPUT
from thawline.errors import UsageError

if TYPE_CHECKING:
    from thawline.training.net import Above
    from thawline.training.settings import TrainPlan


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Mixed inputs of a step: ``share`` of each sample itself, the rest of its partner."""

    crossing: tuple[torch.Tensor, ...]
    partner: torch.Tensor | None
    """(B,) position in the batch of each sample's partner; None if nothing was mixed."""
    share: float


def mix(crossing: tuple[torch.Tensor, ...], settings: TrainPlan, rng: np.random.Generator) -> Mixed:
    """Mix the samples of a batch with each other, as the settings ask.

    The tensors that cross the thaw line are mixed: the pictures if the line stands at the input, else activations
    (manifold mixup).

    Raises:
        UsageError: cutmix, and not one image-shaped tensor alone crosses the line.
    Source:
        Zhang et al. 2018, arXiv:1710.09412; Verma et al. 2019, arXiv:1806.05236; Yun et al. 2019, arXiv:1905.04899.
    """
    alpha = settings.mixup or settings.cutmix
    if not alpha:
        return Mixed(crossing, None, 1.0)
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(crossing[0]))).to(crossing[0].device)
    if settings.mixup:
        return Mixed(tuple(torch.lerp(x[partner], x, share) for x in crossing), partner, share)
    if len(crossing) > 1 or crossing[0].ndim != 4:
        shapes = ", ".join(str(tuple(x.shape[1:])) for x in crossing)
        raise UsageError(
            f"cutmix must have one image-shaped tensor (C, H, W) at the thaw line; {shapes} cross it. Use mixup, or "
            "another thaw setting."
        )
    return _cutmix(crossing[0], partner, share, rng)


def _cutmix(x: torch.Tensor, partner: torch.Tensor, share: float, rng: np.random.Generator) -> Mixed:
    """Paste a rectangle of about ``1 - share`` of the area from each sample's partner."""
    height, width = x.shape[-2:]
    side = math.sqrt(1 - share)
    top, bottom = _interval(height, side, rng)
    left, right = _interval(width, side, rng)
    pasted = x.clone()
    pasted[..., top:bottom, left:right] = x[partner][..., top:bottom, left:right]
    return Mixed((pasted,), partner, 1 - (bottom - top) * (right - left) / (height * width))


def _interval(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    centre, half = int(rng.integers(length)), round(length * share) // 2
    return max(centre - half, 0), min(centre + half, length)


def check_mixing(above: Above, settings: TrainPlan) -> None:
    """Refuse cutmix if the last two axes are not height and width, and mixup of tokens; ``mix`` refuses other shapes.

    Raises:
        UsageError: Names what to do instead.
    """
    if settings.mixup and above.cut.rung == INPUT and len(above.signature.shape) == 1:
        raise UsageError(
            "mixup must have numbers to mix at the thaw line; at 'input' the ids of tokens cross it. Thaw less, such "
            "as last:2, or leave mixup out."
        )
    if settings.cutmix and above.cut.rung != INPUT and above.signature.channels_last(above.net.backbone):
        raise UsageError(
            f"cutmix must have images (C, H, W) at the thaw line; at {above.cut.rung!r} channels come last. Use mixup, "
            "or thaw all."
        )
