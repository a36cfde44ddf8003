"""What the boundary cache saves: an epoch above the thaw line, cached, against one that runs the frozen part too.

    python benchmarks/boundary.py

Both train the same layers on the same views with the same loop, in turn, in one process. The rival is given its views
decoded, in memory: only the network is compared. Beside the measured ratio stands what FLOPs allow: a sample costs one
forward below the line and three times the forward above it. Random weights and pictures of noise; writes boundary.md.
"""

from __future__ import annotations

import copy
import gc
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import thawline as tl
from thawline.backbones.ladder import Ladder, Rung
from thawline.backbones.providers.timm import build
from thawline.backbones.thaw import resolve_thaw
from thawline.engines.choices import hardware
from thawline.features.boundary import Boundary
from thawline.inputs.image.views import Augmentation, Views, prepare_views
from thawline.listening import Silent
from thawline.runs.reporting import environment
from thawline.scale.allocator import keep_freed_memory
from thawline.store.store import FeatureStore
from thawline.training.loop import StageTrainer
from thawline.training.net import Above, Net
from thawline.training.settings import TrainPlan
from thawline.training.stage import Batches, StageSpec, TrainingSetup

MODELS = ("mobilenetv2_100", "resnet18")
SHARES = (0.25, 0.50, 0.75, 0.90)
"""Of the FLOPs, below the line."""
N, EPOCHS, PAIRS, N_CLASSES = 128, 2, 5, 10


class EveryTime:
    """The usual way: the frozen part is run for every batch of every epoch, on decoded views in memory."""

    def __init__(self, above: Above, pixels: np.ndarray, backbone: tl.Backbone, precision: str) -> None:
        self._prefix, self._pixels, self._bf16 = above.cut.prefix, pixels, precision == "bf16"
        self._mean, self._std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.preparation.mean, backbone.preparation.std)
        )

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        for rows, view in batches:
            assert view is not None
            images = torch.from_numpy(self._pixels[rows, view]).permute(0, 3, 1, 2).float().div(255)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
                yield self._prefix(images.sub(self._mean).div(self._std))


def random_backbone(name: str, folder: Path) -> tl.Backbone:
    """An architecture with random weights."""
    described = tl.open_backbone(f"timm/{name}", architecture_only=True)
    torch.manual_seed(0)
    module = build(name, described.model_args, described.preparation)
    return described.tuned(module, folder / f"{name}.safetensors")


def rung_at(ladder: Ladder, share: float) -> Rung:
    """The rung with about this share of the FLOPs below it, and something to learn above it."""
    return min(
        (rung for rung in ladder.rungs if rung.below < ladder.parameters),
        key=lambda rung: abs(rung.flops_below_frac - share),
    )


def epochs_s(above: Above, inputs: Any, spec: StageSpec, setup: TrainingSetup, folder: Path) -> float:
    """Seconds of the epochs of a spec, from the same start every time."""
    start = above.snapshot()
    began = time.perf_counter()
    stage = StageTrainer(spec, above, inputs, setup, folder / f"{time.monotonic_ns()}.safetensors")
    began = time.perf_counter()
    stage.run()
    seconds = time.perf_counter() - began
    above.restore(start)
    return seconds


def compare(backbone: tl.Backbone, ladder: Ladder, rung: Rung, data: tl.Dataset, folder: Path) -> dict[str, Any]:
    """Time both ways at one rung, in turn."""
    _, precision = hardware()
    (width,) = ladder.rungs[-1].shape
    net = Net(copy.deepcopy(backbone.module()), torch.nn.Linear(width, N_CLASSES))
    net.to(memory_format=torch.channels_last)
    following = ladder.rungs[ladder.rungs.index(rung) + 1 :]
    first = next(above for above in following if above.parameters)
    thaw = resolve_thaw(ladder, f"from:{first.name}", backbone.blueprint())
    above = Above(net, thaw, backbone.signature, moving_statistics=False)
    views = Views(augmentation=Augmentation(), seed=0)
    boundary = Boundary(
        data, backbone, net.backbone, thaw.rung, views, precision=precision, device="cpu",
        store=FeatureStore(folder / "cache"), cut=above.cut,
    )  # fmt: skip
    made = boundary.ensure(np.arange(N), range(EPOCHS))
    pixels = np.stack([
        prepare_views(data.source.read(row), backbone.preparation, views.augmentation,
                      [views.sample_seed(view, data.digests[row]) for view in range(EPOCHS)])
        for row in range(N)
    ])  # fmt: skip  # (N, V, H, W, 3)
    setup = TrainingSetup(
        labels=data.labels, n_classes=N_CLASSES, settings=TrainPlan(evaluations=1), seed=0, device="cpu",
        precision=precision, listener=Silent(),
    )  # fmt: skip
    spec = StageSpec(name="epoch", number=1, of=1, rows=np.arange(N), judged=np.arange(0), epochs=EPOCHS, views=EPOCHS)
    rival = EveryTime(above, pixels, backbone, precision)
    for inputs in (boundary, rival):  # kernels are chosen and memory is taken
        epochs_s(above, inputs, spec, setup, folder)
    pairs = [tuple(epochs_s(above, inputs, spec, setup, folder) for inputs in (boundary, rival)) for _ in range(PAIRS)]
    below = ladder.rungs[[r.name for r in ladder.rungs].index(thaw.rung)].flops_below_frac
    return {
        "rung": thaw.rung,
        "below": below,
        "allowed": (below + 3 * (1 - below)) / (3 * (1 - below)),
        "ratios": sorted(every / cached for cached, every in pairs),
        "cached": EPOCHS * N / statistics.median(cached for cached, _ in pairs),
        "every": EPOCHS * N / statistics.median(every for _, every in pairs),
        "bytes": boundary.bytes_per_row,
        "made": made.computed / made.seconds,
        "precision": precision,
    }


def main() -> None:
    keep_freed_memory()
    rng = np.random.default_rng(0)
    data = tl.open_data(rng.integers(0, 256, (N, 256, 256, 3), dtype=np.uint8), labels=rng.integers(0, N_CLASSES, N))
    lines = [
        "# The boundary cache",
        "",
        f"Written by `python benchmarks/boundary.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}; "
        f"{torch.get_num_threads()} thread(s).",
        "",
        "Pictures per second when training above the thaw line, with the boundary cache and with the frozen layers",
        f"run in every epoch. Batches of 32, 224 px, {N} pictures, {EPOCHS} epochs, {PAIRS} pairs. Ratio: median",
        "(lowest to highest).",
        "",
        "| model | line above | FLOPs below | KB a view | cached | every time | ratio | FLOPs allow | share of it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            backbone = random_backbone(name, Path(folder))
            ladder = backbone.ladder
            for share in SHARES:
                found = compare(backbone, ladder, rung_at(ladder, share), data, Path(folder))
                ratio, ratios = statistics.median(found["ratios"]), found["ratios"]
                lines.append(
                    f"| {name} {found['precision']} | {found['rung']} | {100 * found['below']:.0f} % | "
                    f"{found['bytes'] / 1000:.1f} | {found['cached']:.0f} | {found['every']:.0f} | "
                    f"{ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {found['allowed']:.2f} | "
                    f"{100 * ratio / found['allowed']:.0f} % |"
                )
                print(lines[-1], flush=True)
                gc.collect()
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
