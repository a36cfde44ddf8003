"""Train small networks on pixels, without a pre-trained model: where guides begin, and a bar to clear."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from thawline.engines.arithmetic import repeatable
from thawline.features.prepared import PreparedSamples
from thawline.heads.head import softmax
from thawline.randomness import derived_seed, generator
from thawline.records import ImagePreparation
from thawline.scale import executor
from thawline.training.schedule import Order, rate
from thawline.training.settings import TrainPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Dataset

PixelKind = Literal["mlp", "cnn"]
SIDE = 32
"""Pixels on each side; the whole picture is squashed into them."""
SAMPLES_SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 30_000, 10, 100
_PLAN = TrainPlan.model_validate({})
"""Batches, rate, warm-up and smoothing are those of fine-tuning; there is nothing to unlearn, so decay is stronger."""
WEIGHT_DECAY, DROPOUT = 1e-2, 0.3
SHIFT = 3
"""Pixels that a training picture is shifted by, at most, to every side. It is not mirrored: digits have a hand."""
PREDICTED_ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class PixelNet:
    """A small network that learned from random weights."""

    module: nn.Module
    """(B, 3, S, S) normalised -> (B, C)"""
    mean: NDArray[np.float32]
    """(3,) of the training pixels, 0 to 1."""
    std: NDArray[np.float32]
    """(3,)"""

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def predict_proba(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, S, S, 3) uint8 -> (N, C); each row sums to 1."""
        self.module.eval()
        logits = []
        with torch.inference_mode():
            for start in range(0, len(pictures), PREDICTED_ROWS):
                images = normalised(pictures[start : start + PREDICTED_ROWS], self.mean, self.std)
                logits.append(self.module(images).double().numpy())
        return softmax(np.concatenate(logits))


def read_pixels(
    data: Dataset, progress: Callable[[int, int], None] | None = None, side: int = SIDE
) -> NDArray[np.uint8]:
    """Read every picture as (N, side, side, 3).

    Raises:
        DataError: A picture can no longer be read, or has changed, since the data was opened.
    """
    shape = ImagePreparation(
        input_px=(side, side),
        resize_px=side,
        interpolation="bilinear",
        crop_mode="squash",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scales=data.scales,
    )
    pixels = np.empty((len(data), side, side, 3), dtype=np.uint8)
    batches = executor().pipelined(range(len(data)), PreparedSamples(data, shape).of, np.stack, batch_size=64)
    with closing(batches):
        for rows, pictures in batches:
            pixels[rows] = pictures
            if progress is not None:
                progress(rows[-1] + 1, len(data))
    return pixels


def fit_pixels(
    kind: PixelKind,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    n_classes: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PixelNet:
    """Train a small network from random weights, on the processor.

    AdamW, a warm-up and a cosine down to 0; about 30,000 samples are shown, each shifted by a few pixels.

    Args:
        kind: ``mlp`` (3,072 pixels, 256 and 128 hidden units) or ``cnn`` (three convolutions of 32, 64, 128 channels,
            each with batch norm and pooling).
        pictures: (N, 32, 32, 3)
        labels: (N,)
        seed: Decides the weights, the order and the shifts.
        progress: Called with (steps done, steps).
    """
    scaled = pictures.astype(np.float32) / 255
    mean, std = scaled.mean(axis=(0, 1, 2)), np.maximum(scaled.std(axis=(0, 1, 2)), 1e-3)
    epochs = min(max(round(SAMPLES_SEEN / len(labels)), FEWEST_EPOCHS), MOST_EPOCHS)
    order = Order(
        np.arange(len(labels)), batch_size=_PLAN.batch_size, epochs=epochs, seed=seed, stage=f"pixels {kind}", views=0
    )
    with torch.random.fork_rng(devices=[]), repeatable(torch.device("cpu")):
        torch.manual_seed(derived_seed(seed, "pixels", kind))
        module = _NETS[kind](n_classes).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=_PLAN.lr, weight_decay=WEIGHT_DECAY)
        targets = torch.from_numpy(labels)
        for step in range(order.n_steps):
            rows, _ = order.batch(step)
            images = _shifted(normalised(pictures[rows], mean, std), generator(seed, "shifts", step))
            for group in optimiser.param_groups:
                group["lr"] = _PLAN.lr * rate(step, order.n_steps, _PLAN)
            optimiser.zero_grad()
            loss = functional.cross_entropy(module(images), targets[rows], label_smoothing=_PLAN.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if progress is not None:
                progress(step + 1, order.n_steps)
    return PixelNet(module.eval(), mean, std)


def normalised(pictures: NDArray[np.uint8], mean: NDArray[np.float32], std: NDArray[np.float32]) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S)"""
    return torch.from_numpy((pictures.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def _shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shift each of (B, 3, S, S) by a few pixels of its own; edges are repeated."""
    wide = functional.pad(images, (SHIFT,) * 4, mode="replicate")
    places = rng.integers(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    return torch.stack([wide[i, :, y : y + SIDE, x : x + SIDE] for i, (y, x) in enumerate(places)])


def _mlp(n_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * SIDE * SIDE, 256),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(128, n_classes),
    )


def _cnn(n_classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for channels in (32, 64, 128):
        layers += [
            nn.Conv2d(width, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        width = channels
    side = SIDE // 2**3
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(width * side * side, n_classes))


_NETS: dict[PixelKind, Callable[[int], nn.Module]] = {"mlp": _mlp, "cnn": _cnn}
