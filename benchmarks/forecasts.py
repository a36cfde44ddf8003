"""Is the forecast right? Seconds, disk and memory of 20 arms, forecast from a few timed batches, then measured.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/forecasts.py
    python benchmarks/forecasts.py --page forecasts_avx2    (writes forecasts_avx2.md: a page for another processor)

Each arm is forecast in one process and fitted in another, both with an empty cache, so that neither leaves anything to
the other. Finished arms are kept in a .jsonl beside the page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import thawline as tl
from thawline.data import subset
from thawline.planning import Ground
from thawline.planning.timing import forecast, peak_memory
from thawline.runs.reporting import environment
from thawline.scale.processors import processor_name

MOST, EPOCHS = 600, 6
"""Samples of a data set, and epochs, so that all of it takes minutes, not hours."""
SETS = {
    "hymenoptera": ("mobilenetv2_100", 160),
    "flowers5_128": ("mobilenetv2_100", 96),
    "fashion_mnist_small": ("mobilenetv2_100", 64),
    "brain_mri": ("embedded", 96),
}
"""Data set -> backbone, side of its input."""
ARMS: dict[str, dict[str, Any]] = {
    "new head": {"thaw": "none"},
    "mlp head": {"thaw": "none", "head": "mlp", "hidden": (256,)},
    "last 2 layers": {"thaw": "last:2"},
    "upper half": {"thaw": "50%"},
    "everything": {"thaw": "all"},
}


def opened(name: str) -> tuple[tl.Dataset, tl.Backbone]:
    """The samples and the backbone of an arm."""
    data = tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / name)
    rows = np.sort(np.random.default_rng(0).permutation(len(data))[:MOST])
    backbone, px = SETS[name]
    if backbone == "embedded":
        return subset(data, rows), tl.open_backbone(input_px=px)
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / f"{backbone}.imagenet.safetensors"
    return subset(data, rows), tl.open_backbone(f"timm/{backbone}@{weights}", input_px=px)


def child(what: str, name: str, arm: str) -> None:
    """Forecast an arm or fit it; prints seconds, bytes on disk and of memory."""
    data, backbone = opened(name)
    training = None if arm == "new head" else {"epochs": EPOCHS}
    plan = tl.plan(data, backbone, training=training, **ARMS[arm])
    if what == "forecast":
        started = time.perf_counter()
        found = forecast(Ground.of(data, plan), backbone, plan)
        numbers = [found.seconds, found.disk_bytes, found.memory_bytes, time.perf_counter() - started]
    else:
        started = time.perf_counter()
        tl.fit(data, plan, backbone=backbone, run=Path(os.environ["THAWLINE_CACHE"]) / "run")
        seconds = time.perf_counter() - started
        cache = Path(os.environ["THAWLINE_CACHE"]) / "features"
        disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        numbers = [seconds, disk, peak_memory(), seconds]
    print(json.dumps(numbers))


def measured(what: str, name: str, arm: str) -> list[float]:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, what, name, arm]
        done = subprocess.run(
            command, env=os.environ | {"THAWLINE_CACHE": cache}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name}, {arm}: {done.stderr[-2000:]}")
        numbers: list[float] = json.loads(done.stdout.splitlines()[-1])
        return numbers


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"# Forecast and fact ({processor_name()})",
        "",
        f"Written by `python benchmarks/forecasts.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"At most {MOST} samples of each data set, {EPOCHS} epochs. Forecast and fit are processes of their own, with",
        "an empty cache. *off* is forecast / fact - 1; *to know* is the time that the forecast itself took.",
        "",
        "| data | arm | forecast s | fact s | off | disk MB | fact MB | off | memory GB | fact GB | off | to know, s |",
        "|---|---|" + "---|" * 10,
    ]
    errors: dict[str, list[float]] = {"seconds": [], "disk": [], "memory": []}
    for row in rows:
        cells = []
        for at, (what, unit) in enumerate((("seconds", 1.0), ("disk", 1e6), ("memory", 1e9))):
            said, was = row["forecast"][at], row["fact"][at]
            off = said / max(was, 1e-9) - 1
            errors[what].append(off)
            digits = 2 if what == "memory" else 1
            cells += [f"{said / unit:.{digits}f}", f"{was / unit:.{digits}f}", f"{100 * off:+.0f} %"]
        lines.append(f"| {row['data']} | {row['arm']} | {' | '.join(cells)} | {row['forecast'][3]:.1f} |")
    lines += ["", "| | median error | largest | over by twice or under by half |", "|---|---|---|---|"]
    for what, found in errors.items():
        sizes = [abs(off) for off in found]
        wrong = sum(off > 1 or off < -0.5 for off in found)
        lines.append(
            f"| {what} | {100 * statistics.median(sizes):.0f} % | {100 * max(sizes):.0f} % | {wrong} of {len(found)} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", default="forecasts", help="name of the page; one for each processor")
    parser.add_argument("child", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child)
        return
    kept = Path(__file__).with_name(f"{asked.page}.jsonl")
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for name in SETS:
        for arm in ARMS:
            if any((row["data"], row["arm"]) == (name, arm) for row in rows):
                continue
            row = {
                "data": name,
                "arm": arm,
                "forecast": measured("forecast", name, arm),
                "fact": measured("fit", name, arm),
            }
            rows.append(row)
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, file=sys.stderr, flush=True)
    kept.with_suffix(".md").write_text(report(rows), encoding="utf-8")
    print(report(rows))


if __name__ == "__main__":
    main()
