"""What a row of the boundary cache costs, and where the time goes.

    python benchmarks/boundary_rows.py

A row is one view of one picture, run up to the line below which half of the FLOPs stand. Processor time of one thread,
not time on the clock: other programs change it little. Random weights, and pictures with the statistics of photographs.
Beside the frozen layers stands the share of the speed at which this processor multiplies large matrices. Writes
boundary_rows.md.
"""

from __future__ import annotations

import copy
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from boundary import random_backbone, rung_at
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import thawline as tl
from thawline.backbones.cut import cut
from thawline.features.activations import frozen_part
from thawline.features.boundary import Boundary
from thawline.features.layout import to_store
from thawline.features.prepared import read_sample
from thawline.inputs.image.decode import open_picture
from thawline.inputs.image.stand_ins import stand_ins
from thawline.inputs.image.views import Augmentation, Views, prepare_views
from thawline.records import Precision
from thawline.runs.reporting import environment
from thawline.scale.allocator import keep_freed_memory
from thawline.store.store import FeatureStore
from thawline.store.writer import Writer

N, VIEWS, REPEATS = 4, 8, 2
PICTURES = (("JPEG", 128, 128), ("PNG", 500, 375), ("JPEG", 500, 375), ("JPEG", 2000, 1500))
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


def cpu_ms(work: Callable[[], Any]) -> float:
    """Milliseconds of processor time, the median of several runs behind a first one."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - began))
    return statistics.median(times[1:])


def pictures(folder: Path, form: str, width: int, height: int) -> Path:
    """Write pictures of one size, in two classes."""
    for i, pixels in enumerate(stand_ins(N, (height, width))):
        target = folder / "ab"[i % 2] / f"{i}.{form.lower()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form, **({"quality": 90} if form == "JPEG" else {}))
        target.write_bytes(stream.getvalue())
    return folder


def matrices_gflops(precision: str) -> float:
    """Speed of the product of two matrices of 2,048 x 2,048."""
    a = torch.randn(2048, 2048).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    return 2 * 2048**3 / cpu_ms(lambda: a @ a) / 1e6


def parts(backbone: tl.Backbone, rung: str, data: tl.Dataset, precision: Precision, folder: Path) -> dict[str, float]:
    """Milliseconds a row, by part, and the GFLOPs of the frozen layers."""
    n_rows, views = N * VIEWS, Views(augmentation=Augmentation(), seed=0)
    payloads = [data.source.read(row) for row in range(N)]
    seeds = [[views.sample_seed(view, digest) for view in range(VIEWS)] for digest in data.digests]
    model = copy.deepcopy(backbone.module()).to(memory_format=torch.channels_last)
    halves = cut(model, rung, signature=backbone.signature)
    prepared = [
        prepare_views(payload, backbone.preparation, views.augmentation, own)
        for payload, own in zip(payloads, seeds, strict=True)
    ]
    pixels = torch.from_numpy(np.stack([view for several in prepared for view in several])).flatten(1)
    part = frozen_part(halves, backbone.preparation, precision=precision, device="cpu")
    number = iter(range(1000))

    values = to_store(part.run(pixels))

    def line() -> Boundary:
        store = FeatureStore(folder / f"{precision}{next(number)}")
        return Boundary(data, backbone, model, rung, views, precision=precision, device="cpu", store=store, cut=halves)

    def store_rows() -> None:
        made = line()
        keys = [made._key(view) for view in range(VIEWS)]
        with Writer(made._store) as writer:
            for i, value in enumerate(values):
                writer.add(keys[i % VIEWS], [data.digests[i // VIEWS]], value[None])

    outlined = cpu_ms(line)
    found = {
        "read and check": cpu_ms(lambda: [read_sample(data, row, lambda payload: None) for row in range(N)]),
        "decode": cpu_ms(lambda: [open_picture(payload) for payload in payloads]),
        "views": cpu_ms(
            lambda: [
                prepare_views(payload, backbone.preparation, views.augmentation, own)
                for payload, own in zip(payloads, seeds, strict=True)
            ]
        ),
        "layers": cpu_ms(lambda: part.run(pixels)),
        "store": cpu_ms(store_rows) - outlined,
    }
    found["views"] -= found["decode"]
    once = cpu_ms(lambda: line().ensure(np.arange(1), range(1)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        halves.prefix(*part.start.examples(1))
    costs = {name: milliseconds / n_rows for name, milliseconds in found.items()}
    return costs | {"once": once, "gflop": counter.get_total_flops() / 1e9}


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = [
        "# What a row of the boundary cache costs",
        "",
        f"Written by `OMP_NUM_THREADS=1 python benchmarks/boundary_rows.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"Milliseconds of processor time for one view of one picture (mobilenetv2_100 at 224 px, {VIEWS} views of each",
        "picture, half of the FLOPs below the line, one thread). A picture is read and decoded once for all its views.",
        "Once: milliseconds for a boundary, whatever its rows (layers are outlined, folded and tried out).",
        "",
        "| picture | precision | read and check | decode | views | frozen layers | store | together | rows/s | once "
        "| layers, share of matrix speed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = random_backbone("mobilenetv2_100", folder)
        rung = rung_at(backbone.ladder, 0.5)
        for precision in PRECISIONS:
            fastest = matrices_gflops(precision)
            for form, width, height in PICTURES:
                place = folder / f"{form}{width}{precision}"
                data = tl.open_data(pictures(place, form, width, height), copies="off")
                found = parts(backbone, rung.name, data, precision, folder / f"cache{form}{width}")
                together = sum(found[part] for part in ("read and check", "decode", "views", "layers", "store"))
                lines.append(
                    f"| {form} {width} x {height} | {precision} | {found['read and check']:.2f} | "
                    f"{found['decode']:.2f} | {found['views']:.2f} | {found['layers']:.2f} | {found['store']:.2f} | "
                    f"{together:.2f} | {1e3 / together:.0f} | {found['once']:.0f} | "
                    f"{100 * found['gflop'] / (found['layers'] / 1e3) / fastest:.0f} % |"
                )
                print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
