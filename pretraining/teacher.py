"""What the teacher says of the pictures: its features, computed once for a few views of each and kept.

The teacher must see what the student sees (Beyer et al. 2022, arXiv:2106.05237), so the views are fixed: a few
random crops of each picture, drawn once. An epoch of the student takes one of them; mirrored or not, the teacher's
answer is taken to be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pictures import crop, draw_boxes, generator, to_input
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import nn

from thawline.backbones import POOLED, Backbone
from thawline.engines.building import ConvertedBackbone
from thawline.engines.choices import hardware
from thawline.scale.allocator import keep_freed_memory

BATCH = 32
HEAD_BATCH = 500
WHOLE = torch.tensor([1.0, 1.0, 0.0, 0.0])
"""The box that is the whole picture."""


class Teacher:
    """A frozen backbone that reads 64 px pictures, enlarged to its own input."""

    def __init__(self, backbone: Backbone, cache: Path) -> None:
        keep_freed_memory()
        self.input_px = backbone.preparation.input_px[0]
        _, precision = hardware(device="cpu")
        self._engine = ConvertedBackbone(cache, backbone, (POOLED,)).engine(precision)
        self.width = self._engine.widths[0]

    def features(self, pixels: NDArray[np.uint8], boxes: torch.Tensor, title: str) -> Iterator[NDArray[np.float32]]:
        """Features of one box (N, 4) of each picture (N, 64, 64, 3), batch by batch."""

        def run(start: int) -> NDArray[np.float32]:
            rows = slice(start, start + BATCH)
            enlarged = crop(to_input(pixels[rows]), boxes[rows], self.input_px).permute(0, 2, 3, 1)
            as_read = enlarged.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
            return self._engine.run(as_read.contiguous().numpy())

        starts = iter(range(0, len(pixels), BATCH))
        with ThreadPoolExecutor(self._engine.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting = [pool.submit(run, start) for start in islice(starts, 2 * self._engine.workers)]
            for _ in track(range(-(-len(pixels) // BATCH)), title):
                yield waiting.pop(0).result()
                waiting += [pool.submit(run, start) for start in islice(starts, 1)]


def boxes_of_view(view: int, n: int, scale_min: float, seed: int) -> torch.Tensor:
    """The crop of every picture in one view, (n, 4)."""
    return draw_boxes(n, scale_min, generator(seed, 2, view))


def taught(
    open_teacher: Callable[[], Teacher], pixels: NDArray[np.uint8], boxes: torch.Tensor, file: Path
) -> NDArray[np.float16]:
    """The teacher's features (N, D) of one view, memory-mapped; computed once into ``file``."""
    if not file.exists():
        teacher, partial = open_teacher(), file.with_suffix(".partial.npy")
        kept = np.lib.format.open_memmap(partial, "w+", np.float16, (len(pixels), teacher.width))
        start = 0
        for found in teacher.features(pixels, boxes, file.stem):
            kept[start : start + len(found)] = found
            start += len(found)
        kept.flush()
        partial.replace(file)
    return np.load(file, mmap_mode="r")


class TeacherHead(nn.Module):
    """The teacher's own classifier of the classes of Tiny ImageNet, on its standardised features."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, n_classes)

    def standardised(self, features: NDArray[np.float16]) -> torch.Tensor:
        """Features (B, D) with mean 0 and deviation 1 over the pictures to train on."""
        return (torch.from_numpy(features).float() - self.mean) / self.scale

    def fit(
        self, views: Sequence[NDArray[np.float16]], labels: torch.Tensor, rows: NDArray[np.int64], seed: int
    ) -> None:
        """Cross-entropy by AdamW, once over each view."""
        seen = torch.from_numpy(views[0][rows]).float()
        self.mean, self.scale = seen.mean(0), seen.std(0).clamp(min=1e-3)
        optimiser = torch.optim.AdamW(self.linear.parameters(), lr=2e-3, weight_decay=0.05)
        n_batches = len(rows) // HEAD_BATCH
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(views) * n_batches)
        for number, view in enumerate(track(views, "teacher's classifier")):
            shuffled = rows[torch.randperm(len(rows), generator=generator(seed, 3, number)).numpy()]
            for part in np.split(shuffled[: n_batches * HEAD_BATCH], n_batches):
                torch.autograd.backward(F.cross_entropy(self.linear(self.standardised(view[part])), labels[part]))
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()

    def accuracy(self, features: NDArray[np.float16], labels: NDArray[np.int64]) -> float:
        """Top-1."""
        with torch.inference_mode():
            return float((self.linear(self.standardised(features)).argmax(1).numpy() == labels).mean())


def fitted_head(
    views: Sequence[NDArray[np.float16]], labels: torch.Tensor, rows: NDArray[np.int64], seed: int, file: Path
) -> TeacherHead:
    """The teacher's classifier; fitted once into ``file``."""
    head = TeacherHead(views[0].shape[1], int(labels.max()) + 1)
    if file.exists():
        head.load_state_dict(load_file(file))
    else:
        torch.manual_seed(seed)
        head.fit(views, labels, rows, seed)
        save_file(head.state_dict(), file)
    return head.requires_grad_(False)
