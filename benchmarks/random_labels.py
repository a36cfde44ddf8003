"""Nothing to learn: does Thawline say so? Labels drawn at random, a whole fit each. Writes random_labels.md.

    THAWLINE_REAL_DATA=... python benchmarks/random_labels.py [--runs 200] [--share 1/2]

The labels of pictures of flowers are drawn anew for each run, two classes, so the true accuracy of every model is 50 %
but for the samples at hand. The default fit, the embedded backbone at 32 px; the plan is measured as on any data.
Finished runs are kept in random_labels.jsonl, so that a stopped benchmark resumes, and two processes may share them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import thawline as tl
from thawline.evaluation.intervals import wilson
from thawline.runs.reporting import environment

FEWEST, MOST, PX = 80, 200, 32
"""Pictures in a run, half of them in each class, and their side. Each run draws how many: a Wilson interval of 95 %
covers one half in 92 % of runs with 16 to test on and in 98 % with 13, so that one number alone would mislead."""
KEPT = Path(__file__).with_suffix(".jsonl")
NOTHING = "Nothing was learned"


def measure(seed: int, pictures: list[Path], folder: Path) -> dict[str, Any]:
    """Plan and fit, as by default, with labels that mean nothing."""
    rng = np.random.default_rng(seed)
    n = 2 * int(rng.integers(FEWEST // 2, MOST // 2 + 1))
    rows = rng.permutation(len(pictures))[:n]
    data = tl.open_data([pictures[row] for row in rows], rng.permutation(np.arange(n) % 2))
    backbone = tl.open_backbone(input_px=PX)
    plan = tl.plan(data, backbone, seed=seed)
    run = tl.fit(data, plan, backbone=backbone, run=folder / f"run-{seed}")
    chosen = next(one for one in plan.candidates if one.behind is None)
    accuracy = run.report.accuracy
    return {
        "seed": seed,
        "n": n,
        "model": backbone.name,
        "thaw": plan.thaw,
        "accuracy": accuracy.value,
        "n_test": accuracy.n,
        "covered": bool(accuracy.ci95[0] <= 0.5 <= accuracy.ci95[1]),
        "candidate_covered": bool(chosen.ci95[0] <= 0.5 <= chosen.ci95[1]),
        "verdict": plan.verdict,
        "plan_says": plan.verdict.startswith(NOTHING),
        "report_says": run.report.verdict.startswith(NOTHING),
    }


def finished() -> list[dict[str, Any]]:
    """Runs that were made before, by this process or another."""
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []


def verdict_covers(verdict: str) -> bool:
    """Whether the interval that a plan's sentence gives has 50 % in it."""
    said = re.search(r"\(95 % ([0-9.]+) to ([0-9.]+)\)", verdict)
    if said is None:
        raise ValueError(f"a verdict must give an interval; got {verdict!r}")
    return float(said[1]) <= 50 <= float(said[2])


def report(runs: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    covered, tested = sum(run["covered"] for run in runs), [run["n_test"] for run in runs]
    low, high = (100 * end for end in wilson(covered, len(runs)))
    counts = {
        f"the 95 % interval of the test accuracy covers 50 % (95 % {low:.0f} to {high:.0f} % of runs)": covered,
        "the interval in the plan's verdict covers 50 %": sum(verdict_covers(run["verdict"]) for run in runs),
        "that of the chosen candidate in the plan's table does; it was chosen by that very number": sum(
            run["candidate_covered"] for run in runs
        ),
        "the plan says that nothing was learned": sum(run["plan_says"] for run in runs),
        "the report says that nothing was learned": sum(run["report_says"] for run in runs),
    }
    for thaw in sorted({run["thaw"] for run in runs}):
        counts[f"chosen: thaw {thaw}"] = sum(run["thaw"] == thaw for run in runs)
    return "\n".join([
        "# Random labels",
        "",
        f"Written by `python benchmarks/random_labels.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"{len(runs)} default fits of {FEWEST} to {MOST} photographs with labels of two classes drawn at random, with",
        f"{runs[0]['model']} at {PX} px and {min(tested)} to {max(tested)} test photographs.",
        "",
        f"| | of {len(runs)} runs |",
        "|---|---|",
        *(f"| {name} | {n} |" for name, n in counts.items()),
        "",
    ])  # fmt: skip


def main() -> None:
    if not os.environ.get("THAWLINE_REAL_DATA"):
        print("THAWLINE_REAL_DATA must be set: this benchmark needs real pictures. Nothing was run.")
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--share", default="1/1", metavar="I/K", help="make every K-th run, from the I-th on")
    given = parser.parse_args()
    own, of = (int(part) for part in given.share.split("/"))
    every = tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / "flowers5_128")
    pictures = [Path(every.root or ".") / file for file in every.files]
    done = {run["seed"] for run in finished()}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["THAWLINE_CACHE"] = str(Path(folder) / "cache")
        for seed in range(own - 1, given.runs, of):
            if seed in done:
                continue
            found = measure(seed, pictures, Path(folder))
            with KEPT.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(found, file=sys.stderr, flush=True)
            KEPT.with_suffix(".md").write_text(report(finished()), encoding="utf-8")
    print(report(finished()))


if __name__ == "__main__":
    main()
