"""What an expert would write who knows how much to thaw: LP-FT with the thaw line given.

    .venvs/torch/bin/python lp_ft.py DATA WEIGHTS --line blocks.3.1|all [--precision f32|bf16|auto] [--curve]

A logistic regression on the features of the frozen network; then, beginning with that head, one training on all
training pictures: everything from the given layer on learns (Kumar et al. 2022, arXiv:2202.10054). AdamW with 1e-3 at
the head and 0.85 of it per layer downward, linear warm-up and cosine, label smoothing, crops and mirror images; running
statistics stay as loaded. What makes it fast: training pictures are decoded once and kept, workers crop ahead of the
steps, the part below the line runs without autograd and with its normalisation folded in, tensors are channels-last,
glibc keeps freed memory, waiting threads sleep, and bf16 is taken if the processor has it and a few steps with it are
quicker. `--curve` tests after every epoch; `parts_s` counts that as `testing`. It runs in Thawline's own environment,
too.
"""

from __future__ import annotations

import os

import job as benchmark

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else threads spin while they wait, on the cores that crop

import torchvision_ops  # noqa: F401

# isort: split
import argparse
import copy
import ctypes
import math
import sys
import time
from itertools import pairwise
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    PILToTensor,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)

BATCH, EPOCHS, LR, LR_DECAY, WEIGHT_DECAY, WARMUP_FRAC, SMOOTHING = 32, 15, 1e-3, 0.85, 1e-4, 0.1, 0.1
C = 0.1
KEPT_PX = 288
"""Of the shorter side of a kept picture: the smallest crop of a square still has the 224 px of the network."""
AS_TESTED = Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(benchmark.INPUT_PX), PILToTensor()])
AS_TRAINED = Compose([RandomResizedCrop(benchmark.INPUT_PX, scale=(0.6, 1.0)), RandomHorizontalFlip(), PILToTensor()])
CORES = os.cpu_count() or 1


class Pictures(Dataset):
    """Pictures, or files of pictures, with their classes, each as uint8 (3, H, W)."""

    def __init__(self, pictures: list[Any], labels: list[int], transform: Compose) -> None:
        self.pictures, self.labels, self.transform = pictures, labels, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        picture = self.pictures[row]
        return self.transform(read(picture) if isinstance(picture, str) else picture), self.labels[row]


def read(file: str) -> Image.Image:
    """Decode one file."""
    with Image.open(file) as picture:
        return picture.convert("RGB")


def small(file: str) -> Image.Image:
    """Decode one file, and keep no more than any crop needs."""
    picture = read(file)
    return Resize(KEPT_PX)(picture) if min(picture.size) > KEPT_PX else picture


def keep_freed_memory() -> None:
    """Else glibc returns every large activation to the system, and faults it in again: mallopt(3)."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 256 * 2**20)):
            libc.mallopt(option, value)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The network as a chain, by name."""
    found = {"conv_stem": model.conv_stem, "bn1": model.bn1}
    for i, stage in enumerate(model.blocks):
        found |= {f"blocks.{i}.{j}": block for j, block in enumerate(stage)}
    return found | {"conv_head": model.conv_head, "bn2": model.bn2, "global_pool": model.global_pool}


def fold(frozen: nn.Module) -> nn.Module:
    """Take every normalisation into the convolution before it; the activation stays."""
    for part in list(frozen.modules()):
        for (first, conv), (second, norm) in pairwise(list(part.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, timm.layers.BatchNormAct2d):
                setattr(part, first, nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
                setattr(part, second, norm.act)
    return frozen


def pixels(pictures: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 to what the network wants: with a mean and a standard deviation of 0.5, -1 to 1."""
    return (pictures.contiguous(memory_format=torch.channels_last) / 127.5 - 1).to(dtype)


def step(frozen: nn.Module, above: nn.Module, pictures: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype) -> None:
    """Forward and backward."""
    with torch.no_grad():
        crossing = frozen(pixels(pictures, dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = above(crossing)
    cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING).backward()


def quicker(frozen: nn.Module, above: nn.Module) -> torch.dtype:
    """Try both precisions for a few steps, on copies."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    if not any(flag in flags for flag in ("avx512_bf16", "amx_bf16")):
        return torch.float32
    pictures = torch.randint(0, 256, (BATCH, 3, benchmark.INPUT_PX, benchmark.INPUT_PX), dtype=torch.uint8)
    seconds: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        ours, theirs = copy.deepcopy(frozen).to(dtype), copy.deepcopy(above)
        for _ in range(3):  # the first is slower
            started = time.perf_counter()
            step(ours, theirs, pictures, torch.zeros(BATCH, dtype=torch.int64), dtype)
            seconds[dtype] = min(seconds.get(dtype, math.inf), time.perf_counter() - started)
    return min(seconds, key=lambda dtype: seconds[dtype])


@torch.inference_mode()
def through(loader: Any, frozen: nn.Module, above: nn.Module, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network says of every picture, and the classes."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        parts = [(above(frozen(pixels(pictures, dtype))).float(), labels) for pictures, labels in loader]
    values, labels = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(labels)


def judged(loader: Any, frozen: nn.Module, above: nn.Module, dtype: torch.dtype) -> dict[str, float]:
    """Accuracy and log loss."""
    logits, labels = through(loader, frozen, above, dtype)
    right = (logits.argmax(1) == labels).double().mean()
    return {"test_accuracy": float(right), "test_log_loss": float(cross_entropy(logits.double(), labels))}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--line", required=True, help="first layer that learns, such as blocks.3.1; or all")
    parser.add_argument("--precision", choices=("f32", "bf16", "auto"), default="auto")
    parser.add_argument("--curve", action="store_true", help="test after every epoch")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--workers", type=int, default=CORES, help="processes that crop; 0 = none")
    parser.add_argument("--threads", type=int, default=CORES, help="of torch")


class Clock:
    """Seconds of each part, from the start of the process."""

    def __init__(self) -> None:
        self.parts_s: dict[str, float] = {}

    def lap(self, part: str) -> None:
        """All that no part has yet goes to this one."""
        rest = time.perf_counter() - benchmark.STARTED - sum(self.parts_s.values())
        self.parts_s[part] = self.parts_s.get(part, 0.0) + rest

    @property
    def untested_s(self) -> float:
        """Seconds so far, without the tests along the curve."""
        return sum(self.parts_s.values()) - self.parts_s.get("testing", 0.0)


def solve_head(model: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Start the new classifier at the logistic regression."""
    head = LogisticRegression(C=C, max_iter=1000).fit(features.numpy(), labels.numpy())
    weight, bias = (torch.from_numpy(values).float() for values in (head.coef_, head.intercept_))
    if len(head.classes_) == 2:  # scikit-learn keeps the second class only
        weight, bias = (torch.cat([-values / 2, values / 2]) for values in (weight, bias))
    model.classifier.load_state_dict({"weight": weight, "bias": bias})


def optimisation(above: nn.Module, n_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Each layer slower than the one above it; warm-up, then cosine to 0."""
    learning = [part for part in reversed(list(above)) if any(True for _ in part.parameters())]
    groups = [{"params": part.parameters(), "lr": LR * LR_DECAY**i} for i, part in enumerate(learning)]
    optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    warm = max(1, round(WARMUP_FRAC * n_steps))

    def share(i: int) -> float:
        return (i + 1) / warm if i < warm else (1 + math.cos(math.pi * (i - warm) / max(1, n_steps - warm))) / 2

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def main() -> None:
    job, clock = benchmark.parse(__doc__, add_own=add_options), Clock()
    keep_freed_memory()
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.own.threads)
    clock.lap("imports")
    train, test = ImageFolder(job.train), ImageFolder(job.test)
    if train.classes != test.classes:
        raise SystemExit(f"train and test must have the same classes; got {train.classes} and {test.classes}.")
    with ThreadPool(CORES) as pool:
        kept = pool.map(small, [file for file, _ in train.samples])
    clock.lap("decoding")

    model = timm.create_model("mobilenetv2_100", num_classes=len(train.classes), **job.timm_arguments).eval()
    chain = layers(model.to(memory_format=torch.channels_last))
    if job.own.line not in {*chain, "all"}:
        raise SystemExit(f"--line must be all or one of {', '.join(chain)}; got {job.own.line!r}.")
    at = 0 if job.own.line == "all" else list(chain).index(job.own.line)
    frozen = fold(nn.Sequential(*list(chain.values())[:at]).eval().requires_grad_(False))
    above = nn.Sequential(*list(chain.values())[at:], model.classifier)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}.get(job.own.precision) or quicker(frozen, above)
    frozen.to(dtype)
    clock.lap("building")

    feeding = {"num_workers": job.own.workers, "batch_size": BATCH}
    learned = DataLoader(Pictures(kept, train.targets, AS_TESTED), **feeding)
    solve_head(model, *through(learned, frozen, above[:-1], dtype))
    clock.lap("features and head")

    testing = DataLoader(Pictures([file for file, _ in test.samples], test.targets, AS_TESTED), **feeding)
    tested = list(testing) if job.own.curve else testing
    clock.lap("testing")
    batches = DataLoader(
        Pictures(kept, train.targets, AS_TRAINED), shuffle=True, persistent_workers=job.own.workers > 0, **feeding
    )
    n_epochs = job.epochs(job.own.epochs)
    optimiser, schedule = optimisation(above, n_epochs * len(batches))
    curve: list[dict[str, float]] = []
    for epoch in range(n_epochs + 1):
        for pictures, labels in batches if epoch else ():
            step(frozen, above, pictures, labels, dtype)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
        clock.lap("training")
        if job.own.curve:
            reached = judged(tested, frozen, above, dtype)
            curve.append({"step": epoch * len(batches), "seconds": round(clock.untested_s, 3)} | reached)
            clock.lap("testing")
    found = judged(tested, frozen, above, dtype)
    clock.lap("test")
    benchmark.report(
        "lp-ft", found.pop("test_accuracy"), len(test), ("timm", "torch", "torchvision", "scikit-learn"), **found,
        n_train=len(train), steps=n_epochs * len(batches), precision=str(dtype).removeprefix("torch."), curve=curve,
        parts_s={part: round(seconds, 3) for part, seconds in clock.parts_s.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
