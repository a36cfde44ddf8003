"""How fast what is above the thaw line trains: in parts side by side and with layers run as one, against without.

    python benchmarks/training_speed.py

Four ways take turns in one process: a step as Thawline takes it, each part of the batch in a thread of its own; the
same step on the whole batch, whose layers share out their work among the threads; that step with its layers one by one;
and the loop of the tutorials, which runs the whole model in float32 on every batch, frozen layers and all, as PyTorch
lays it out by default. The first three are given what crosses the line. Then the same beside a neighbour: another
program that keeps one processor busy. Beside the speed stands the share of the machine's limit: FLOPs of forward and
backward above the line at the rate that a large bf16 matrix product reaches. Random weights and noise; writes
training_speed.md.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from boundary import random_backbone, rung_at
from torch import nn
from torch.nn import functional

import thawline as tl
from thawline.backbones.ladder import Ladder
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.engines.arithmetic import arithmetic
from thawline.engines.choices import hardware
from thawline.runs.reporting import environment
from thawline.scale.allocator import keep_freed_memory
from thawline.training.fused.chains import Chain, installed, usable_chains
from thawline.training.fused.microbatches import Microbatches
from thawline.training.net import Above, Net
from thawline.training.optimiser import build_optimiser
from thawline.training.settings import TrainPlan

MODELS = ("mobilenetv2_100", "resnet18", "efficientnet_b0", "resnet50")
SHARES = {"all": 0.0, "half": 0.5, "last two stages": 0.85}
"""Of the FLOPs, below the line."""
BATCH, N_CLASSES, ROUNDS = 32, 10, 3
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of one model, and what trains above it."""

    above: Above
    crossing: tuple[torch.Tensor, ...]
    microbatches: Microbatches
    usable: list[Chain]
    """Layers that can run as one."""
    chains: list[Chain]
    """Those that do at this moment."""
    step: Callable[[], None]
    """In parts where microbatches are open, else on the whole batch."""
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
    above = Above(net, thaw, backbone.signature, moving_statistics=False)
    microbatches = Microbatches(above, CPU, precision)
    images, labels = batch(backbone)
    with arithmetic(CPU, precision):
        crossing = above.cut.prefix(images.contiguous(memory_format=torch.channels_last))
    optimiser = build_optimiser(above.learning, above.distance, TrainPlan())

    learning = list(above.learning.values())
    chains: list[Chain] = []

    def loss_of(part: slice) -> torch.Tensor:
        with arithmetic(CPU, precision):
            logits = above.logits(tuple(tensor[part] for tensor in crossing))
        return functional.cross_entropy(logits, labels[part], label_smoothing=0.1, reduction="sum") / BATCH

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        microbatches.backward(loss_of, learning, BATCH, chains)
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()

    return Line(above, crossing, microbatches, usable_chains(above), chains, step, flops_above(backbone, ladder, thaw))


def flops_above(backbone: tl.Backbone, ladder: Ladder, thaw: Thaw) -> float:
    """Of one picture, forward and backward: three forward passes above the line."""
    from thawline.backbones.graph import LayerGraph

    module = backbone.module()
    total = LayerGraph(module, backbone.name, backbone.signature).flops()[-1]
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
    images = torch.randn(BATCH, 3, *backbone.preparation.input_px, generator=draw)
    return images, torch.randint(0, N_CLASSES, (BATCH,), generator=draw)


def in_turn(line: Line, tutorial: Callable[[], None]) -> list[list[float]]:
    """Seconds of a step of each way, one a round: in parts, whole, layer by layer, and the tutorial's."""
    seconds: list[list[float]] = [[], [], [], []]
    for turn in range(ROUNDS + 1):
        for way, found in enumerate(seconds):
            with contextlib.ExitStack() as stack:
                line.chains[:] = line.usable if way < 2 else []
                stack.enter_context(installed(line.chains))
                if way == 0:
                    stack.enter_context(line.microbatches)
                step = line.step if way < 3 else tutorial
                if turn == 0 or way < 2:
                    step()  # kernels are chosen, memory is taken and threads begin
                began = time.perf_counter()
                step()
                if turn:
                    found.append(time.perf_counter() - began)
    return seconds


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """Another program that keeps one processor busy."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Median of the ratios of each round, and from lowest to highest."""
    found = sorted(one / other for one, other in zip(slow, fast, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def measured(backbone: tl.Backbone, name: str, precision: str, limit: float) -> Iterator[tuple[str, str]]:
    """For each line of a model a row of the table, and one of the table beside a neighbour."""
    for title, share in SHARES.items():
        thaw = thaw_at(backbone, share)
        line, tutorial = our_line(backbone, thaw, precision), tutorial_step(backbone, thaw)
        rows = []
        for around in (contextlib.nullcontext(), neighbour()):
            with around:
                ours, whole, each, theirs = in_turn(line, tutorial)
            speed, their_speed = (BATCH / statistics.median(seconds) for seconds in (ours, theirs))
            reached = speed * line.flops / limit
            rows.append(
                f"| {name} | {title}: above {thaw.rung} | {speed:.0f} | {ratio(whole, ours)} | {ratio(each, ours)} | "
                f"{their_speed:.1f} | {ratio(theirs, ours)} | {100 * reached:.0f} % |"
            )
        yield rows[0], rows[1]
        del line, tutorial
        gc.collect()


def main() -> None:
    keep_freed_memory()
    _, precision = hardware()
    limit = matrix_rate(precision)
    head = [
        "| model | line | pictures/s | whole batch takes | layers one by one take | tutorial loop, pictures/s | "
        "tutorial loop takes | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone, beside = list(head), list(head)
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            for row, busy in measured(random_backbone(name, Path(folder)), name, precision, limit):
                alone.append(row)
                beside.append(busy)
                print(row, busy, sep="\n", flush=True)
    lines = [
        "# Training above the line",
        "",
        f"Written by `python benchmarks/training_speed.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}; {torch.get_num_threads()} thread(s); "
        f"{precision}. Limit: {limit / 1e9:.0f} GFLOP/s, a matrix product of 2048 x 2048.",
        "",
        f"Pictures per second of training steps: batches of {BATCH}, 224 px, medians of {ROUNDS} rounds in turn. The",
        "other columns say how many times as long the others take: median of the rounds (lowest to highest).",
        "",
        *alone,
        "",
        "## Beside a neighbour that keeps one processor busy",
        "",
        *beside,
    ]  # fmt: skip
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
