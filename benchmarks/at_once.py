"""How many pictures should a converted graph be given at once? Writes benchmarks/at_once.md.

    THAWLINE_REAL_WEIGHTS=... python benchmarks/at_once.py

A graph for OpenVINO has a fixed shape. More pictures at once share the reading of weights; fewer leave what one layer
gives in the caches for the next. Each graph runs on one thread; sizes take turns, and the one that
`thawline.engines.converting.conversion` chooses is marked.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import openvino as ov
import torch
from safetensors.torch import save_file

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.converting import conversion
from thawline.engines.openvino_engine import compile_graphs
from thawline.randomness import generator
from thawline.runs.reporting import environment

SIZES = (1, 2, 4, 8, 16)
N_ROUNDS, N_EACH = 9, 16
EMBEDDED, IMAGENET = "embedded", "mobilenetv2_100"
MODELS = (
    (IMAGENET, 224), (IMAGENET, 128), (IMAGENET, 96), ("efficientnet_b0", 224), ("resnet50", 224),
    ("vit_small_patch16_224", 224), (EMBEDDED, 128),
)  # fmt: skip
"""Architecture and side of the input."""


def opened(architecture: str, px: int, folder: Path) -> tl.Backbone:
    """The embedded model, an ImageNet MobileNetV2, or an architecture with random weights, which cost the same."""
    if architecture == EMBEDDED:
        return tl.open_backbone(input_px=px)
    path = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    if architecture != IMAGENET:
        path = folder / f"{architecture}.safetensors"
        save_file(import_timm().create_model(architecture, num_classes=0).state_dict(), path)
    return tl.open_backbone(f"timm/{architecture}@{path}", input_px=px)


def ready(backbone: tl.Backbone, size: int) -> list[ov.InferRequest]:
    """A request for each graph of this many pictures, what one gives being what the next is given."""
    chosen = conversion.samples_at_once
    conversion.samples_at_once = lambda _: size
    try:
        graphs = conversion.convert(backbone, ("pooled",), "bf16").graphs
    finally:
        conversion.samples_at_once = chosen
    chain = [graph.create_infer_request() for graph in compile_graphs(graphs)]
    for below, above in pairwise(chain):
        for i in range(len(above.model_inputs)):
            above.set_input_tensor(i, below.get_output_tensor(i))
    return chain


def measure(backbone: tl.Backbone) -> dict[int, list[float]]:
    """Pictures/s of processor time, in each round, for each size."""
    chains = {size: ready(backbone, size) for size in SIZES}
    pixels = generator(0, "pictures").integers(0, 256, (max(SIZES), *backbone.preparation.input_px, 3), np.uint8)
    paces: dict[int, list[float]] = {size: [] for size in SIZES}
    for round_ in range(N_ROUNDS + 1):
        for size, chain in chains.items():
            started = time.process_time()
            for _ in range(N_EACH // size):
                chain[0].infer([pixels[:size]], share_inputs=True)
                for request in chain[1:]:
                    request.infer()
            if round_:  # the first one warms up
                paces[size].append(N_EACH / (time.process_time() - started))
    return paces


def row(architecture: str, px: int, folder: Path) -> str:
    """Measure one model: a line of the table."""
    backbone = opened(architecture, px, folder)
    largest = conversion.largest_output(backbone.module(), torch.zeros(1, 3, px, px))
    chosen = conversion.samples_at_once(largest)
    paces = {size: statistics.median(found) for size, found in measure(backbone).items()}
    cells = [f"**{pace:.0f}**" if size == chosen else f"{pace:.0f}" for size, pace in paces.items()]
    best = max(paces.values())
    return f"| {architecture} | {px} | {largest / 1e6:.2f} | {' | '.join(cells)} | {100 * paces[chosen] / best:.0f} % |"


def main() -> None:
    if not os.environ.get("THAWLINE_REAL_WEIGHTS"):
        print("THAWLINE_REAL_WEIGHTS must be set: this benchmark needs a MobileNetV2. Nothing was run.")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for architecture, px in MODELS:
            rows.append(row(architecture, px, Path(folder)))
            print(rows[-1], flush=True)
    lines = [
        "# Pictures at once",
        "",
        f"Written by `python benchmarks/at_once.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Pictures per second of processor time of one thread in bf16, by the number of pictures that a graph takes at",
        f"once; medians of {N_ROUNDS} rounds in turn. **Bold**: the number that Thawline chooses, from the largest",
        "output of a layer (in millions of numbers, for one picture). The last column is its share of the fastest.",
        "",
        f"| model | px | largest output | {' | '.join(map(str, SIZES))} | chosen / best |",
        "|---|" + "---|" * (len(SIZES) + 3),
        *rows,
        "",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
