"""How fast a model of Keras runs and trains beside the same architecture of timm. Writes benchmarks/keras_speed.md.

    python benchmarks/keras_speed.py
    python benchmarks/keras_speed.py --rounds 2 --print    (writes nothing)

MobileNetV2 at 224 px with random weights, which cost the same. Frozen: prepared pictures a second through the engine
that runs what is frozen on a processor. Training: pictures a second above a line with half of the FLOPs below it, as
Thawline trains there. Both models take turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from boundary import random_backbone
from training_speed import BATCH, our_line, thaw_at

import thawline as tl
from thawline.engines.building import ConvertedBackbone
from thawline.engines.choices import hardware
from thawline.engines.openvino_engine import OpenVINOEngine
from thawline.runs.reporting import environment
from thawline.training.fused.chains import installed

if TYPE_CHECKING:
    from thawline.records import Precision

KERAS, TIMM = "keras/MobileNetV2", "timm/mobilenetv2_100"
N_FROZEN, AT_ONCE = 128, 32
"""Pictures of one turn, and of one call."""
HALF = 0.5


def frozen(backbone: tl.Backbone, precision: Precision, folder: Path) -> Callable[[], float]:
    """Return what runs the whole model over some pictures with all processors, and says the pictures a second."""
    graphs = ConvertedBackbone(folder, backbone, ("pooled",)).opened(precision)
    engine = OpenVINOEngine(graphs, precision)
    shape = (AT_ONCE, *backbone.preparation.spec.shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def turn() -> float:
        with ThreadPoolExecutor(engine.workers) as pool:
            began = time.perf_counter()
            list(pool.map(lambda _: engine.run(pixels), range(N_FROZEN // AT_ONCE)))
            return N_FROZEN / (time.perf_counter() - began)

    return turn


def training(backbone: tl.Backbone, precision: Precision) -> Callable[[], float]:
    """Return what takes one step above the middle, and says the pictures a second."""
    line = our_line(backbone, thaw_at(backbone, HALF), precision)
    line.chains[:] = line.usable

    def turn() -> float:
        with installed(line.chains), line.microbatches:
            line.step()
            began = time.perf_counter()
            line.step()
            return BATCH / (time.perf_counter() - began)

    return turn


def in_turn(ways: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Speeds of each way, one a round, after a round that does not count."""
    speeds = [[way() for way in ways] for _ in range(rounds + 1)][1:]
    return [list(column) for column in zip(*speeds, strict=True)]


def row(title: str, speeds: Sequence[Sequence[float]]) -> str:
    """Medians of Keras and timm, and the median of the ratio in each round, from lowest to highest."""
    keras, timm = speeds
    ratios = sorted(one / other for one, other in zip(keras, timm, strict=True))
    return (
        f"| {title} | {statistics.median(keras):.0f} | {statistics.median(timm):.0f} | "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
    )


def main() -> None:
    """Measure both and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--print", action="store_true", help="write nothing")
    asked = parser.parse_args()
    _, precision = hardware()
    with tempfile.TemporaryDirectory() as folder:
        models = (
            tl.open_backbone(KERAS, model_args={"weights": "none"}),
            random_backbone(TIMM.partition("/")[2], Path(folder)),
        )
        ways = [frozen(model, precision, Path(folder)) for model in models]
        rows = [row(f"frozen, OpenVINO, {precision}", in_turn(ways, asked.rounds))]
        ways = [training(model, precision) for model in models]
        rows.append(row(f"training above half, {precision}", in_turn(ways, asked.rounds)))
    text = "\n".join(
        [
            f"# {KERAS} beside {TIMM}",
            "",
            f"{asked.rounds} rounds; pictures a second at 224 px, in training in batches of {BATCH}. "
            f"Measured {date.today()} on {', '.join(f'{key} {value}' for key, value in environment().items())}.",
            "",
            f"| | {KERAS} | {TIMM} | ratio (lowest to highest) |",
            "|---|---|---|---|",
            *rows,
        ]
    )
    print(text)
    if not asked.print:
        Path(__file__).with_suffix(".md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
