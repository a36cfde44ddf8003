"""The main job, timed as a user sees it: whole processes, cold and warm. Writes benchmarks/main_job.md.

    python benchmarks/main_job.py

The demo needs nothing else. With THAWLINE_REAL_DATA and THAWLINE_REAL_WEIGHTS set, hymenoptera (244 + 153 photographs
of ants and bees) is fitted with an ImageNet MobileNetV2, twice: the second time every feature comes from the cache.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from thawline.runs.reporting import environment

THAWLINE = [sys.executable, "-c", "from thawline.cli import main; main()"]
N_PAIRS = 9
"""Paired runs of the start-up comparison."""


def timed(command: list[str], cache: Path) -> tuple[float, str]:
    """Wall seconds of a whole process, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | {"THAWLINE_CACHE": str(cache)}, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, done.stdout


def fit_rows(folder: Path) -> list[str]:
    """Hymenoptera cold and warm, as rows of a table."""
    data, weights = (os.environ.get(f"THAWLINE_REAL_{name}") for name in ("DATA", "WEIGHTS"))
    if not data or not weights:
        return []
    model = f"timm/mobilenetv2_100@{Path(weights) / 'mobilenetv2_100.imagenet.safetensors'}"
    command = [*THAWLINE, "fit", str(Path(data) / "hymenoptera"), "--model", model, "--json", "--run"]
    rows = []
    for name in ("first", "second"):
        seconds, printed = timed([*command, str(folder / name)], folder / "cache")
        run = json.loads(printed)
        accuracy = run["test"]["accuracy"]
        interval = f"{accuracy['ci95'][0]:.3f} to {accuracy['ci95'][1]:.3f}, n={accuracy['n']}"
        rows.append(
            f"| {name} fit | {accuracy['value']:.3f} ({interval}) | {run['features']['computed']} | {seconds:.1f} |"
        )
    return rows


def demo_rows(runs: list[dict[str, Any]]) -> list[str]:
    """One row per size of the demo."""
    rows = []
    for run in runs:
        simpler = [run["baselines"][name]["accuracy"]["value"] for name in ("majority", "pixels", "knn")]
        accuracy = run["test"]["accuracy"]
        cells = [f"{value:.3f}" for value in (*simpler, accuracy["value"])]
        interval = f"{accuracy['ci95'][0]:.3f} to {accuracy['ci95'][1]:.3f}"
        rows.append(f"| {run['n']['train'] // 10} of each | {' | '.join(cells)} | {interval} |")
    return rows


def start_up_ratio(folder: Path) -> float:
    """Median over pairs of ``thawline --help`` divided by ``import typer, rich``."""
    plain = [sys.executable, "-c", "import typer, rich"]
    ratios = [
        timed([*THAWLINE, "--help"], folder)[0] / timed(plain, folder)[0] for _ in range(N_PAIRS + 1)
    ]  # the first pair fills the file cache
    return statistics.median(ratios[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, printed = timed([*THAWLINE, "demo", "--run", str(folder / "demo"), "--json"], folder / "demo-cache")
        lines = [
            "# The main job",
            "",
            f"Written by `python benchmarks/main_job.py` on {time.strftime('%Y-%m-%d')}; "
            f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
            "",
            f"`thawline demo`, nothing cached, whole process: {seconds:.1f} s.",
            "",
            "| labelled digits | majority | pixels | knn | Thawline | 95 % interval |",
            "|---|---|---|---|---|---|",
            *demo_rows(json.loads(printed)["runs"]),
            "",
            f"`thawline --help` takes {start_up_ratio(folder):.2f} times as long as `python -c 'import typer, rich'` "
            f"(median of {N_PAIRS} pairs).",
        ]
        if rows := fit_rows(folder):
            lines += [
                "",
                "`thawline fit hymenoptera --model timm/mobilenetv2_100@FILE`:",
                "",
                "| | test accuracy (95 % interval) | features computed | seconds, whole process |",
                "|---|---|---|---|",
                *rows,
            ]
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
