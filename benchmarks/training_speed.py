"""How fast what is above the thaw line trains: layers run as one, against the same layers one by one.

    python benchmarks/training_speed.py

Three ways take turns in one process: a step as Thawline takes it; the same step with its layers one by one; and the
loop of the tutorials, which runs the whole model in float32 on every batch, frozen layers and all, as PyTorch lays it
out by default. The first two are given what crosses the line. Beside the speed stands the share of the machine's limit:
FLOPs of forward and backward above the line at the rate that a large bf16 matrix product reaches. Random weights and
noise; writes training_speed.md.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from boundary import random_backbone, rung_at
from torch import nn
from torch.nn import functional

import thawline as tl
from thawline.backbones.ladder import Ladder
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.features.engines import hardware
from thawline.features.torch_engine import arithmetic
from thawline.runs.reporting import environment
from thawline.scale.allocator import keep_freed_memory
from thawline.training.folding import folded
from thawline.training.net import Above, Net
from thawline.training.optimiser import build_optimiser
from thawline.training.settings import TrainPlan

MODELS = ("mobilenetv2_100", "resnet18", "resnet50", "efficientnet_b0")
SHARES = {"all": 0.0, "half": 0.5, "last two stages": 0.85}
"""Of the FLOPs, below the line."""
BATCH, N_CLASSES, ROUNDS = 32, 10, 5
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one model, and what trains above it."""

    above: Above
    crossing: tuple[torch.Tensor, ...]
    step: Callable[[], None]
    flops: float
    """Forward and backward of one picture above the line."""


def matrix_rate(precision: str) -> float:
    """FLOPs per second of a large matrix product, the best of ten."""
    n, dtype = 2048, torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(n, n).to(dtype)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


def thaw_at(backbone: tl.Backbone, share: float) -> Thaw:
    """The thaw of everything above the line with this share of the FLOPs below it."""
    ladder = backbone.ladder
    if share == 0:
        return resolve_thaw(ladder, "all", backbone.blueprint())
    below = rung_at(ladder, share)
    following = ladder.rungs[ladder.rungs.index(below) + 1 :]
    first = next(rung for rung in following if rung.parameters)
    return resolve_thaw(ladder, f"from:{first.name}", backbone.blueprint())


def our_line(backbone: tl.Backbone, thaw: Thaw, precision: str) -> Line:
    """What trains above a line as Thawline trains it: channels-last, in the precision of this machine."""
    ladder = backbone.ladder
    net = Net(copy.deepcopy(backbone.module()), nn.Linear(ladder.rungs[-1].shape[0], N_CLASSES))
    net.to(memory_format=torch.channels_last)
    above = Above(net, thaw, backbone.preprocessing.input_px, moving_statistics=False)
    above.train()
    images, labels = batch(backbone)
    with arithmetic(CPU, precision):
        crossing = above.cut.prefix(images.contiguous(memory_format=torch.channels_last))
    optimiser = build_optimiser(above.learning, above.distance, TrainPlan())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with arithmetic(CPU, precision):
            logits = above.logits(crossing)
        functional.cross_entropy(logits, labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(list(above.learning.values()), 1.0)
        optimiser.step()

    return Line(above, crossing, step, flops_above(backbone, ladder, thaw))


def flops_above(backbone: tl.Backbone, ladder: Ladder, thaw: Thaw) -> float:
    """Of one picture, forward and backward: three forward passes above the line."""
    from thawline.backbones.graph import LayerGraph

    module = backbone.module()
    total = LayerGraph(module, backbone.name, backbone.preprocessing.input_px).flops()[-1]
    below = next(rung.flops_below_frac for rung in ladder.rungs if rung.name == thaw.rung)
    return 3.0 * total * (1 - below)


def tutorial_step(backbone: tl.Backbone, thaw: Thaw) -> Callable[[], None]:
    """One step of the loop that everybody writes: the whole model, float32, gradients above the line only."""
    model = nn.Sequential(copy.deepcopy(backbone.module()), nn.Linear(backbone.ladder.rungs[-1].shape[0], N_CLASSES))
    model.requires_grad_(False)
    learning = [model[0].get_parameter(name) for name in thaw.thawed] + list(model[1].parameters())
    for parameter in learning:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(learning, lr=1e-4)
    images, labels = batch(backbone)

    def step() -> None:
        optimiser.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

    return step


def batch(backbone: tl.Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of noise (B, 3, H, W) and labels (B,)."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, *backbone.preprocessing.input_px, generator=draw)
    return images, torch.randint(0, N_CLASSES, (BATCH,), generator=draw)


def in_turn(line: Line, tutorial: Callable[[], None]) -> tuple[list[float], list[float], list[float]]:
    """Seconds of a step, ROUNDS of each: layers as one, one by one, and the tutorial's."""
    seconds: tuple[list[float], list[float], list[float]] = ([], [], [])
    for turn in range(ROUNDS + 1):
        ways = (folded(line.above), contextlib.nullcontext(), contextlib.nullcontext())
        for way, step, found in zip(ways, (line.step, line.step, tutorial), seconds, strict=True):
            with way:
                if turn == 0:  # kernels are chosen and memory is taken
                    step()
                began = time.perf_counter()
                step()
                found.append(time.perf_counter() - began)
    return tuple(found[1:] for found in seconds)  # type: ignore[return-value]


def ratio(slow: list[float], fast: list[float]) -> str:
    """Median of the ratios of each round, and from lowest to highest."""
    found = sorted(one / other for one, other in zip(slow, fast, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def measured(backbone: tl.Backbone, name: str, precision: str, limit: float) -> Iterator[str]:
    """A row of the table for each line of a model."""
    for title, share in SHARES.items():
        thaw = thaw_at(backbone, share)
        line = our_line(backbone, thaw, precision)
        one, each, tutorial = in_turn(line, tutorial_step(backbone, thaw))
        speeds = [BATCH / statistics.median(found) for found in (one, each, tutorial)]
        yield (
            f"| {name} | {title}: above {thaw.rung} | {speeds[0]:.0f} | {speeds[1]:.0f} | {ratio(each, one)} | "
            f"{speeds[2]:.1f} | {ratio(tutorial, one)} | {100 * speeds[0] * line.flops / limit:.0f} % |"
        )
        del line
        gc.collect()


def main() -> None:
    keep_freed_memory()
    _, precision = hardware()
    limit = matrix_rate(precision)
    lines = [
        "# Training above the line",
        "",
        f"Written by `python benchmarks/training_speed.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}; {torch.get_num_threads()} thread(s); "
        f"{precision}. Limit: {limit / 1e9:.0f} GFLOP/s, a matrix product of 2048 x 2048.",
        "",
        f"Pictures/s of training steps, batch {BATCH}, 224 px, medians of {ROUNDS} rounds in turn. Ratio: median of",
        "the rounds (lowest to highest).",
        "",
        "| model | line | as one | one by one | ratio | tutorial loop | ratio | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            for row in measured(random_backbone(name, Path(folder)), name, precision, limit):
                lines.append(row)
                print(row, flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
