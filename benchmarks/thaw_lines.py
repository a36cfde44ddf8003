"""How much to thaw: test accuracy of seven thaw settings on four data sets, three seeds. Writes thaw_lines.md.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/thaw_lines.py [DATA SET ...]

An ImageNet MobileNetV2 is fitted to photographs near its source (hymenoptera, flowers), to scans and to garments far
from it. A seed decides the samples (at most 600 to learn from, 1,000 to be tested on), the split, the training. Every
cell is one `thawline.fit`; finished ones are kept in thaw_lines.jsonl, so that a stopped benchmark resumes. About an
hour on two cores.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import thawline as tl
from thawline.data import subset
from thawline.evaluation.intervals import wilson
from thawline.randomness import generator
from thawline.runs.reporting import environment

SEEDS = (0, 1, 2)
MOST_TO_LEARN, MOST_TO_TEST = 600, 1_000
SETS = {"hymenoptera": 128, "brain_mri": 128, "flowers5_128": 96, "fashion_mnist_small": 64}
"""Data set -> side of the input: smaller than the 224 of the weights, so that 84 fits take an hour, not four."""
ABLATION = "progressive, from incumbent"
"""As the guides teach it, each stage going on from the best one so far; for the first seed only."""
THAWS: dict[str, dict[str, Any]] = {
    "none": {"thaw": "none"},
    "last stage": {"thaw": "from:blocks.6"},
    "last two": {"thaw": "from:blocks.5"},
    "half": {"thaw": "from:blocks.3"},
    "all": {"thaw": "all"},
    "progressive": {"thaw": "progressive"},
    "from scratch": {"from_scratch": True},
    ABLATION: {"thaw": "progressive", "training": {"stages_from": "incumbent"}},
}
"""Column -> what is asked of the plan."""
TRAINING = {"refit": False}
"""Shipping a model that learned from the validation set too would double the time and help all columns but none."""
KEPT = Path(__file__).with_suffix(".jsonl")


def load(name: str, seed: int) -> tl.Dataset:
    """The samples of one cell, the part to be tested on marked."""
    data = tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / name)
    rng = generator(seed, "benchmark", name)
    order = rng.permutation(len(data))
    if data.given is None:
        n_test = min(MOST_TO_TEST, round(0.25 * len(data)))
        parts = np.where(np.isin(np.arange(len(data)), order[:n_test]), "test", "train")
        # duplicates must not stand on both sides: they follow the first of their group
        first = {group: parts[row] for row, group in reversed(list(enumerate(data.groups)))}
        parts = np.array([first[group] for group in data.groups])
    else:
        parts = np.where(data.given == "test", "test", "train")
    learn = [row for row in order if parts[row] == "train"][:MOST_TO_LEARN]
    test = [row for row in order if parts[row] == "test"][:MOST_TO_TEST]
    return subset(replace(data, given=parts), np.sort(np.array([*learn, *test])))


def measure(name: str, column: str, seed: int, weights: Path, folder: Path) -> dict[str, Any]:
    """Fit one cell."""
    data = load(name, seed)
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{weights}", input_px=SETS[name])
    asked = dict(THAWS[column])
    training = None if column == "none" else TRAINING | asked.pop("training", {})
    if column == "from scratch":
        training = TRAINING | {"epochs": epochs(data)}
    started = time.perf_counter()
    plan = tl.plan(data, backbone, seed=seed, training=training, **asked)
    run = tl.fit(data, plan, backbone=backbone, run=folder / f"{name}-{column}-{seed}".replace(" ", "-"))
    accuracy = run.report.accuracy
    return {
        "data": name,
        "column": column,
        "seed": seed,
        "n": run.report.content["n"],
        "accuracy": accuracy.value,
        "n_test": accuracy.n,
        "thawed": run.report.content["thawed"],
        "seconds": round(time.perf_counter() - started, 1),
        "receipt": run.report.content["receipt"],
    }


def epochs(data: tl.Dataset) -> int:
    """As many as the other columns have: random weights would profit from more, at their price."""
    n = int((data.given == "train").sum() * 0.85)
    return min(max(round(9_000 / n), 5), 25)


def interval(values: list[dict[str, Any]]) -> str:
    """Mean accuracy over the seeds, with the Wilson interval for the test samples of one seed.

    Seeds share test samples, so all of them together would promise too much; that of one is wide rather than narrow.
    """
    n = values[0]["n_test"]
    mean = statistics.mean(v["accuracy"] for v in values)
    low, high = wilson(round(mean * n), n)
    return f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def report(cells: list[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = [
        "# How much to thaw",
        "",
        f"Written by `python benchmarks/thaw_lines.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Mean test accuracy in % over seeds (95 % Wilson interval for the test samples of one seed), with an ImageNet",
        f"MobileNetV2 and at most {MOST_TO_LEARN} samples. 15 % of them are the validation set, and the final model",
        "did not learn from these (`refit` off); only the head of `none` is solved on all. *from scratch* trains as",
        "many epochs as the others. *progressive from incumbent* was run for the first seed only.",
        "",
        "| data (side of the input) | " + " | ".join(THAWS) + " | progressive kept |",
        "|---|" + "---|" * (len(THAWS) + 1),
    ]
    for name, side in SETS.items():
        row = []
        for column in THAWS:
            found = [c for c in cells if (c["data"], c["column"]) == (name, column)]
            row.append(
                interval(found) + ("" if len(found) == len(SEEDS) else f" [{len(found)} seed(s)]")
                if found
                else "not run"
            )
        kept = [c["thawed"] for c in cells if (c["data"], c["column"]) == (name, "progressive")]
        lines.append(f"| {name} ({side}) | {' | '.join(row)} | {', '.join(kept)} |")
    lines += ["", "Seconds, median over seeds; the cache kept what earlier fits had left there:", ""]
    lines += ["| data | " + " | ".join(THAWS) + " |", "|---|" + "---|" * len(THAWS)]
    for name in SETS:
        times = [[c["seconds"] for c in cells if (c["data"], c["column"]) == (name, column)] for column in THAWS]
        lines.append(f"| {name} | " + " | ".join(f"{statistics.median(t):.0f}" if t else "" for t in times) + " |")
    clean = sum(c["receipt"] == "clean" for c in cells)
    return "\n".join([*lines, "", f"Receipts: {clean} of {len(cells)} clean.", ""])


def main() -> None:
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    wanted = sys.argv[1:] or list(SETS)
    done = {(c["data"], c["column"], c["seed"]) for c in finished()}
    with tempfile.TemporaryDirectory() as name:
        for cell in ((d, c, s) for s in SEEDS for d in wanted for c in THAWS):
            if cell in done or (cell[1] == ABLATION and cell[2] != SEEDS[0]):
                continue
            found = measure(*cell, weights, Path(name))
            with KEPT.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(found, file=sys.stderr, flush=True)
            KEPT.with_suffix(".md").write_text(report(finished()), encoding="utf-8")
    print(report(finished()))


def finished() -> list[dict[str, Any]]:
    """Cells that were measured before, by this process or another."""
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


if __name__ == "__main__":
    main()
