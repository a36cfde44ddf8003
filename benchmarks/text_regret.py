"""How good is the default choice on texts? Regret of `thaw auto` against every way trained. Writes text_regret.md.

    THAWLINE_REAL_DATA=... python benchmarks/text_regret.py [DATA SET ...] [--samples N ...] [--share I/K]

As `judgement.py` does for pictures: a cell is a data set, a number of texts to learn from, and a seed. In each, first
the plan is made, with nothing of the cell in the cache; then every way is fitted whole and tested on texts that played
no part in choosing. The default's accuracy is that of the way it chose: same plan, same bits. Finished cells are kept
in text_regret.jsonl, so that a stopped benchmark resumes; two processes may share the cells. Hours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import judgement
import numpy as np
import text_sets
from judgement import Row, best_on_average, bootstrapped, default, key, luckiest, percent, regret

import thawline as tl
from thawline.backbones.lines import depth_rungs, thaw_lines
from thawline.planning import Asked, FitPlan, make_plan
from thawline.randomness import generator
from thawline.runs.reporting import environment

KEPT = Path(__file__).with_suffix(".jsonl")
SEEDS = (0, 1, 2)
SIZES = {name: (50, 200, 1000) for name in text_sets.SETS} | {"banking77": (308, 616, 1232)}
"""Texts to learn from, classes in proportion; of 77 classes 4, 8 and 16 each."""
MOST_TO_TEST = 1000
TARGET = 1.0
"""Points of mean regret that the default may have."""


def write(name: str, n: int, seed: int, folder: Path) -> Path:
    """Write the tables of one cell: n training texts, any beginning of which holds the classes in proportion."""
    parts = text_sets.load(name)
    order = generator(seed, "benchmark", name).permutation(len(parts["train"]))
    labels = np.unique([label for _, label in parts["train"]], return_inverse=True)[1]
    learn = judgement.in_proportion(order, labels)[:n]
    order = generator(0, "benchmark", "test", name).permutation(len(parts["test"]))[:MOST_TO_TEST]
    return text_sets.written(
        {"train": [parts["train"][int(i)] for i in learn], "test": [parts["test"][int(i)] for i in order]},
        folder / name,
    )


def ways(data: tl.Dataset, backbone: tl.Backbone, decided: FitPlan, seed: int) -> dict[str, FitPlan]:
    """Everything that could have been chosen."""
    depths, lines = ",".join(depth_rungs(backbone.ladder)), thaw_lines(backbone.ladder)
    asked: list[dict[str, Any]] = [{"thaw": "none", "head": head} for head in ("logistic", "ridge", "svm")]
    asked += [{"thaw": "none", "layer": depths}]
    asked += [{"thaw": thaw} for thaw in dict.fromkeys((lines[0], lines[len(lines) // 2], "all"))]
    plans = [tl.plan(data, backbone, seed=seed, **settings) for settings in asked]
    return {key(plan): plan for plan in (*plans, decided)}


def measure(name: str, n: int, seed: int, folder: Path) -> Row:
    """Plan one cell, then fit every way of it."""
    data = tl.open_data(write(name, n, seed, folder))
    backbone = tl.open_backbone(f"hf/{text_sets.ENCODER}@{text_sets.encoder_folder()}")
    started = time.process_time()
    decided = make_plan(data, backbone, Asked.of(seed=seed)).plan
    planning_s = time.process_time() - started
    fits = {}
    for number, (way, plan) in enumerate(ways(data, backbone, decided, seed).items()):
        started = time.process_time()
        run = tl.fit(data, plan, backbone=backbone, run=folder / f"run-{number}")
        fits[way] = {"accuracy": run.report.accuracy.value, "seconds": round(time.process_time() - started, 2)}
    return {
        "data": name, "asked": n, "seed": seed, "n_test": int(run.report.accuracy.n), "chosen": key(decided),
        "verdict": decided.verdict, "planning_s": round(planning_s, 2), "date": time.strftime("%Y-%m-%d"), "fits": fits,
    }  # fmt: skip


def report(cells: list[Row]) -> str:
    """The page."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for cell in sorted(cells, key=lambda c: (text_sets.SETS.index(c["data"]), c["asked"], c["seed"])):
        groups.setdefault((cell["data"], cell["asked"]), []).append(cell)
    behind = {id(cell): regret(cell, best_on_average(found)) for found in groups.values() for cell in found}
    points = 100 * np.array(list(behind.values()))
    low, high = bootstrapped(points)
    lines = [
        "# How good is the default choice on texts?",
        "",
        f"Written by `python benchmarks/text_regret.py`; measured {min(c['date'] for c in cells)} to "
        f"{max(c['date'] for c in cells)}; {', '.join(f'{name} {value}' for name, value in environment().items())}.",
        "",
        "Mean test accuracy in % over the seeds that were run, with all-MiniLM-L6-v2. *default* is what `--thaw auto`",
        "chose. *regret* is how far it is behind the best way, which is the one that is best on average over the seeds",
        "of a row; it was found by training every way and looking at the test set. *luckiest* compares with the best",
        "way of each seed, and would be above 0 even if all ways were equal.",
        "",
        f"Mean regret over {len(points)} cells: {points.mean():.2f} points (95 % {low:.2f} to {high:.2f}, bootstrap",
        f"over cells); at most {TARGET} is asked for: {'yes' if points.mean() <= TARGET else 'no'}.",
        "",
        "| data | n | tested | seeds | default | best way | regret | luckiest | chosen | cost of default / of all |",
        "|---|" + "---|" * 9,
    ]
    for (name, n), found in groups.items():
        best = best_on_average(found)
        own = sum(cell["planning_s"] + cell["fits"][cell["chosen"]]["seconds"] for cell in found)
        all_s = sum(fit["seconds"] for cell in found for fit in cell["fits"].values())
        numbers = [
            percent([default(cell) for cell in found]),
            f"{percent([cell['fits'][best]['accuracy'] for cell in found])} ({best})",
            percent([behind[id(cell)] for cell in found]),
            percent([regret(cell, luckiest(cell)) for cell in found]),
        ]
        lines.append(
            f"| {name} | {n:,} | {found[0]['n_test']:,} | {len(found)} | {' | '.join(numbers)} "
            f"| {', '.join(cell['chosen'] for cell in found)} | {100 * own / all_s:.0f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", help=f"of {', '.join(text_sets.SETS)}; by default all")
    parser.add_argument(
        "--samples", nargs="+", type=int, metavar="N", help="only cells with so many texts to learn from"
    )
    parser.add_argument("--share", default="1/1", metavar="I/K", help="measure every K-th cell, from the I-th on")
    given = parser.parse_args()
    if sentence := text_sets.missing():
        print(f"{sentence} Nothing was run.")
        return
    own, of = (int(part) for part in given.share.split("/"))
    wanted = [
        (name, SIZES[name][rank], seed)
        for seed in SEEDS
        for rank in range(3)
        for name in given.data or text_sets.SETS
        if given.samples is None or SIZES[name][rank] in given.samples
    ]
    done = {(cell["data"], cell["asked"], cell["seed"]) for cell in finished()}
    with tempfile.TemporaryDirectory() as folder:
        for number, cell in enumerate(wanted[own - 1 :: of]):
            if cell in done:
                continue
            os.environ["THAWLINE_CACHE"] = str(Path(folder) / f"cache-{number}")
            found = measure(*cell, Path(folder) / str(number))
            with KEPT.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(found, file=sys.stderr, flush=True)
            KEPT.with_suffix(".md").write_text(report(finished()), encoding="utf-8")
    if cells := finished():
        print(report(cells))


def finished() -> list[Row]:
    """Cells that were measured before, by this process or another."""
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []


if __name__ == "__main__":
    main()
