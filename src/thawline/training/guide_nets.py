"""Train the networks that guides begin with, from random weights: on pictures at their own size, or on words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from thawline.engines.arithmetic import repeatable
from thawline.features.prepared import read_sample
from thawline.inputs.image.decode import open_image
from thawline.randomness import derived_seed
from thawline.training.checkpoint import having_prefix, prefixed, read_checkpoint, write_checkpoint
from thawline.training.pixel_nets import PREDICTED_ROWS, PixelNet, normalised
from thawline.training.schedule import Order
from thawline.training.word_nets import WordNet, word_net

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Dataset

GuideKind = Literal["mlp", "cnn", "words"]
WIDTHS = (500, 500, 500)
"""Units of the hidden layers of the MLP."""
CHANNELS, KERNEL, POOL, BLOCKS, DENSE, DROPOUT = 32, 5, 4, 3, 64, 0.5
"""Of the CNN: filters of a block, their side, the side of what is pooled, blocks, units before the classes."""
LARGEST_SIDE, MOST_BYTES, MEASURED = 224, 10**9, 200
"""Pixels across that are read at most, bytes of all pictures together, and pictures whose size is looked at."""
BATCH_SIZE, LR = 32, 1e-3
"""Those that guides take, with Adam."""
SAMPLES_SEEN, FEWEST_EPOCHS, MOST_EPOCHS, PATIENCE = 12_000, 10, 60, 6
"""Training ends after so many samples, in a number of epochs between these, or when the loss on the validation set has
not fallen for so many epochs; what was best there is kept."""
SAVED_EVERY_S, WRITING = 20.0, 0.1
"""A checkpoint is written at the end of an epoch after so many seconds, and takes this share of the time at most: an
MLP on 224 x 224 pixels makes one of 1.2 GB."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedGuide:
    """A network of the guides that was trained."""

    net: PixelNet | WordNet
    epochs: int
    """Passes over the training set that were made."""
    best_epoch: int
    """The one whose weights were kept."""


def usual_side(data: Dataset, rows: NDArray[np.int64]) -> int:
    """Return the side at which pictures are read: the median of their shorter sides, if that is not too large.

    Args:
        rows: Pictures to look at; 200 of them are, evenly spread.
    Raises:
        DataError: A picture can no longer be read, or has changed, since the data was opened.
    """
    some = rows[np.unique(np.linspace(0, len(rows) - 1, MEASURED).round().astype(int))]
    sides = [
        read_sample(data, int(row), lambda payload: min(open_image(payload, data.scales).size)) for row in some.tolist()
    ]
    fitting = int((MOST_BYTES / (3 * len(data))) ** 0.5)
    return max(min(round(float(np.median(sides))), LARGEST_SIDE, fitting), 1)


def guide_net(kind: Literal["mlp", "cnn"], side: int, n_classes: int) -> nn.Module:
    """Return an untrained network, (B, 3, side, side) -> (B, C).

    Args:
        kind: ``mlp``: three layers of 500 units on the flattened pixels, ReLU after each. ``cnn``: three blocks of 32
            filters of 5 x 5, ReLU and a maximum over 4 x 4, then 64 units, dropout of a half, and the classes. Where a
            map is smaller than 4 x 4, all of it is pooled.
    """
    layers: list[nn.Module] = []
    if kind == "mlp":
        layers.append(nn.Flatten())
        width = 3 * side * side
        for units in WIDTHS:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, n_classes))
    channels = 3
    for _ in range(BLOCKS):
        pool = min(POOL, side)
        layers += [nn.Conv2d(channels, CHANNELS, KERNEL, padding=KERNEL // 2), nn.ReLU(), nn.MaxPool2d(pool)]
        channels, side = CHANNELS, side // pool
    dense = [nn.Flatten(), nn.Linear(channels * side * side, DENSE), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, *dense, nn.Linear(DENSE, n_classes))


def fit_guide(
    kind: GuideKind,
    samples: NDArray[Any],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    n_classes: int,
    *,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    ends_at: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FittedGuide | None:
    """Train on the training set until the loss on the validation set no longer falls; go on from a checkpoint.

    Args:
        samples: Pictures (N, side, side, 3), or of ``words`` ids (N, L) as ``read_words`` gives them.
        labels: (N,)
        train, val: Rows to learn from, and rows that say when to stop; neither is empty.
        seed: Decides the weights, the order and the dropout.
        device: As torch names it.
        checkpoint: File to go on from, written every 20 seconds or more; it is left for the caller to remove.
        ends_at: When training must be over, on the clock of ``time.monotonic``.
        progress: Called with (steps done, steps at most).
    Returns:
        None if there was no time for one epoch.
    """
    training = _Training(kind, samples, labels, train, val, n_classes, seed=seed, device=device)
    training.resume(checkpoint)
    due = time.monotonic() + SAVED_EVERY_S
    while not training.is_over and (ends_at is None or time.monotonic() < ends_at):
        training.run_epoch(progress)
        if checkpoint is not None and (started := time.monotonic()) >= due:
            training.save(checkpoint)
            written = time.monotonic()
            due = written + max(SAVED_EVERY_S, (written - started) / WRITING)
    if progress is not None:
        progress(training.order.n_steps, training.order.n_steps)
    return training.fitted()


class _Training:
    """A network, its optimiser, and the best that it reached."""

    def __init__(
        self,
        kind: GuideKind,
        samples: NDArray[Any],
        labels: NDArray[np.int64],
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        n_classes: int,
        *,
        seed: int,
        device: str,
    ) -> None:
        self._kind, self._samples, self._labels, self._val = kind, samples, torch.from_numpy(labels), val
        self._seed, self._device = seed, torch.device(device)
        if kind != "words":
            self._mean, self._std = pixel_statistics(samples, train)
        self._most = min(max(round(SAMPLES_SEEN / len(train)), FEWEST_EPOCHS), MOST_EPOCHS)
        self.order = Order(train, batch_size=BATCH_SIZE, epochs=self._most, seed=seed, stage=f"guide {kind}", views=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "guide", kind))
            module = word_net(n_classes) if kind == "words" else guide_net(kind, samples.shape[1], n_classes)
        self._module = module.to(self._device)
        self._optimiser = torch.optim.Adam(self._module.parameters(), lr=LR)
        self._best: dict[str, torch.Tensor] = {}
        self._epoch, self._best_epoch, self._least = 0, 0, float("inf")

    @property
    def is_over(self) -> bool:
        return self._epoch >= self._most or self._epoch - self._best_epoch >= PATIENCE

    def run_epoch(self, progress: Callable[[int, int], None] | None) -> None:
        """Pass over the training set once, then judge. Its draws depend on its number alone."""
        device = self._device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), repeatable(device):
            torch.manual_seed(derived_seed(self._seed, "guide", self._kind, self._epoch))
            self._module.train()
            start = self._epoch * self.order.per_epoch
            for step in range(start, start + self.order.per_epoch):
                rows, _ = self.order.batch(step)
                self._optimiser.zero_grad()
                functional.cross_entropy(self._logits(rows), self._labels[rows].to(device)).backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
                if progress is not None:
                    progress(step + 1, self.order.n_steps)
            self._epoch += 1
            loss = self._validation_loss()
        if loss < self._least or not self._best:
            self._least, self._best_epoch = loss, self._epoch
            self._best = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def _logits(self, rows: NDArray[np.int64]) -> torch.Tensor:
        some = self._samples[rows]
        inputs = torch.from_numpy(some).long() if self._kind == "words" else normalised(some, self._mean, self._std)
        logits: torch.Tensor = self._module(inputs.to(self._device))
        return logits

    def _validation_loss(self) -> float:
        self._module.eval()
        parts = np.array_split(self._val, -(-len(self._val) // PREDICTED_ROWS))
        with torch.inference_mode():
            logits = torch.cat([self._logits(rows) for rows in parts]).cpu()
        return float(functional.cross_entropy(logits, self._labels[self._val]))

    def save(self, checkpoint: Path) -> None:
        """Write everything that the next epoch depends on."""
        slots = self._optimiser.state_dict()["state"]
        moments = {f"{at}.{name}": value for at, slot in slots.items() for name, value in slot.items()}
        tensors = prefixed("net", self._module.state_dict()) | prefixed("best", self._best)
        state = {"epoch": self._epoch, "best_epoch": self._best_epoch, "least": self._least}
        write_checkpoint(checkpoint, tensors | prefixed("adam", moments), state)

    def resume(self, checkpoint: Path | None) -> None:
        """Take up what ``save`` wrote, if there is such a file."""
        found = None if checkpoint is None else read_checkpoint(checkpoint)
        if found is None:
            return
        tensors, state = found
        self._module.load_state_dict(having_prefix("net", tensors))
        self._best = {name: tensor.to(self._device) for name, tensor in having_prefix("best", tensors).items()}
        described: dict[str, Any] = self._optimiser.state_dict()
        described["state"] = _slots(having_prefix("adam", tensors))
        self._optimiser.load_state_dict(described)
        self._epoch, self._best_epoch, self._least = state["epoch"], state["best_epoch"], state["least"]

    def fitted(self) -> FittedGuide | None:
        if not self._best:
            return None
        self._module.load_state_dict(self._best)
        module = self._module.cpu().eval()
        net = WordNet(module) if self._kind == "words" else PixelNet(module, self._mean, self._std)
        return FittedGuide(net, self._epoch, self._best_epoch)


def pixel_statistics(
    pictures: NDArray[np.uint8], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation (3,) of the pixels of some pictures, 0 to 1, without a copy of them all."""
    sums, squares, n = np.zeros(3), np.zeros(3), 0
    for row in rows.tolist():
        scaled = pictures[row].reshape(-1, 3).astype(np.float64) / 255
        sums, squares, n = sums + scaled.sum(axis=0), squares + np.square(scaled).sum(axis=0), n + len(scaled)
    mean = sums / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, 1e-3).astype(np.float32)


def _slots(moments: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """``{"0.step": ...}`` -> {0: {"step": ...}}, as an optimiser's state is."""
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in moments.items():
        at, _, kind = name.partition(".")
        slots.setdefault(int(at), {})[kind] = value
    return slots
