"""A small convolutional network with the interface of a backbone, and a data set of noise for it.

Also imported by the child processes of tests, so it loads torch only when the network is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thawline.backbones.reading import Reading
from thawline.backbones.signature import Signature
from thawline.data.sources import ArraySource
from thawline.inputs.kind import digest_of
from thawline.records import Dataset, ImagePreparation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

PREPARATION = ImagePreparation(input_px=(16, 16), resize_px=18, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class ToyBackbone:
    """(B, 3, 16, 16) -> (B, 24); values are nan for a picture whose first pixel is 255 when ``nan`` is set."""

    name = "toy/conv"
    architecture = "toy"
    frozen_only = False
    model_args: ClassVar[dict[str, Any]] = {}
    settings: ClassVar[dict[str, Any]] = {}
    preparation = PREPARATION
    signature = Signature("timm", (3, 16, 16))

    def __init__(self, seed: int = 0, *, nan: bool = False) -> None:
        self.weights_sha256 = f"{seed:064x}"
        self._seed, self._nan = seed, nan
        self.n_built = 0
        self._module: nn.Module | None = None

    def prepared_for(self, samples: object) -> ToyBackbone:
        return self

    def module(self) -> nn.Module:
        if self._module is None:
            import torch
            from torch import nn

            self.n_built += 1
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed)
                self._module = nn.Sequential(
                    nn.Conv2d(3, 32, 3, stride=2, padding=1),
                    nn.BatchNorm2d(32),
                    nn.ReLU6(),
                    nn.Conv2d(32, 64, 3, padding=1),
                    nn.Flatten(),
                    nn.Linear(64 * 8 * 8, 24),
                )
            self._module.eval().requires_grad_(False)
        return self._module

    def blueprint(self) -> nn.Module:
        import copy

        return copy.deepcopy(self.module()).to("meta")

    def reader(self, rungs: Sequence[str], module: nn.Module | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
        layers = self.module() if module is None else module
        return lambda images: tuple(
            self._pooled(layers, images) if rung == "pooled" else layers[: int(rung) + 1](images).mean((2, 3))  # type: ignore[index]
            for rung in rungs
        )

    def reading(self, rung: str) -> Reading:
        return Reading.of(rung)

    def _pooled(self, layers: nn.Module, images: Tensor) -> Tensor:
        features: Tensor = layers(images)
        if self._nan:
            white = (1.0 - self.preparation.mean[0]) / self.preparation.std[0]
            features = features.masked_fill((images[:, 0, 0, 0] > white - 1e-3)[:, None], float("nan"))
        return features


class CountingSource(ArraySource):
    """Pixels in memory that remember which of them were read."""

    __slots__ = ("reads",)

    def read(self, index: int) -> Any:
        if not hasattr(self, "reads"):
            object.__setattr__(self, "reads", [])
        self.reads.append(index)
        return super().read(index)


def toy_dataset(n: int, *, seed: int = 0, rows: list[int] | None = None, prefix: str = "p") -> Dataset:
    """``n`` pictures of noise, or those of them named by ``rows``, in that order."""
    pixels = np.random.default_rng(seed).integers(0, 250, (n, 20, 24, 3), dtype=np.uint8)
    pixels = pixels if rows is None else pixels[rows]
    n = len(pixels)
    return Dataset(
        name="toy",
        files=tuple(f"{prefix}{i}.png" for i in range(n)),
        labels=np.arange(n) % 2,
        classes=("a", "b"),
        source=CountingSource(pixels),
        digests=tuple(digest_of(picture) for picture in pixels),
        sketches=np.zeros((n, 16, 16, 3), np.uint8),
        groups=np.arange(n),
    )
