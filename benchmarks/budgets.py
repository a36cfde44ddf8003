"""What a budget buys, and whether it is kept: `thawline fit --budget` on flowers5_128. Writes budgets.md.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/budgets.py
    python benchmarks/budgets.py --page budgets_avx2    (writes budgets_avx2.md: a page for another processor)

A fifth of the pictures is laid aside first. With each budget, whole processes fit the others with an empty cache, timed
from outside; every model is then judged on the pictures laid aside. One round for each seed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import thawline as tl
from thawline.randomness import generator
from thawline.runs.reporting import environment
from thawline.scale.processors import processor_name

BUDGETS = {"5s": 5.0, "30s": 30.0, "3min": 180.0}
SEEDS = (0, 1, 2)
ASIDE = 5
"""One in so many pictures is laid aside."""
THAWLINE = [sys.executable, "-c", "from thawline.cli import main; main()"]


def laid_out(source: Path, target: Path, seed: int) -> tuple[Path, Path]:
    """Copies of the pictures to fit and of those laid aside, as class folders."""
    data = tl.open_data(source)
    order = generator(seed, "aside").permutation(len(data))
    first = {group: at for at, group in reversed(list(enumerate(data.groups[order])))}  # copies stay together
    for row in order:
        folder = "aside" if first[data.groups[row]] % ASIDE == 0 else "flowers"
        place = target / folder / data.classes[data.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        file = Path(data.root or source) / data.files[row]
        shutil.copyfile(file, place / f"{row}{file.suffix}")
    return target / "flowers", target / "aside"


def run(*arguments: str, cache: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*THAWLINE, *arguments, "--json", "--quiet"],
        env=os.environ | {"THAWLINE_CACHE": str(cache)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(seed: int, folder: Path, rows: list[dict[str, Any]]) -> None:
    source = Path(os.environ["THAWLINE_REAL_DATA"]) / "flowers5_128"
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    data, aside = laid_out(source, folder, seed)
    for text in BUDGETS:
        name, cache = folder / f"run-{text}", folder / f"cache-{text}"
        started = time.perf_counter()
        found = run(
            "fit", str(data), "--model", f"timm/mobilenetv2_100@{weights}", "--seed", str(seed), "--budget", text,
            "--run", str(name), cache=cache,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        judged = run("evaluate", str(name), str(aside), cache=folder / "cache-judge")
        rows.append({
            "seed": seed, "budget": text, "seconds": seconds, "accuracy": judged["test"]["accuracy"]["value"],
            "n": judged["test"]["accuracy"]["n"], "read": sum(found["n"].values()), "thawed": found["thawed"],
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
        shutil.rmtree(cache, ignore_errors=True)


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"# What a budget buys ({processor_name()})",
        "",
        f"Written by `python benchmarks/budgets.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "flowers5_128 with an ImageNet MobileNetV2 at 224 px. Each fit is a process of its own with an empty cache.",
        "Accuracy is that on a fifth of the pictures, which no fit saw. Median over the seeds (lowest to highest).",
        "",
        "| budget | seconds | over by, % | accuracy, % | samples read | thawed |",
        "|---|---|---|---|---|---|",
    ]
    for text, limit in BUDGETS.items():
        found = [row for row in rows if row["budget"] == text]
        cells = [
            spread([row["seconds"] for row in found]),
            spread([100 * (row["seconds"] / limit - 1) for row in found]),
            spread([100 * row["accuracy"] for row in found]),
            ", ".join(f"{row['read']:,}" for row in found),
            ", ".join(row["thawed"] for row in found),
        ]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", default="budgets", help="name of the page; one for each processor")
    page = parser.parse_args().page
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            measure(seed, Path(folder), rows)
    text = report(rows)
    Path(__file__).with_name(f"{page}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
