"""Nothing to learn: does Thawline say so? Labels drawn at random, a whole fit each. Writes random_labels.md.

    THAWLINE_REAL_DATA=... python benchmarks/random_labels.py [RUNS]

The labels of pictures of flowers are drawn anew for each run, two classes, so the true accuracy of every model is 50 %
but for the samples at hand. The default fit, the embedded backbone at 64 px; the plan is measured as on any data.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import thawline as tl
from thawline.evaluation.intervals import wilson
from thawline.runs.reporting import environment

N, PX = 160, 32
"""Pictures in a run, half of them in each class, and their side."""


def main() -> None:
    if not os.environ.get("THAWLINE_REAL_DATA"):
        print("THAWLINE_REAL_DATA must be set: this benchmark needs real pictures. Nothing was run.")
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    every = tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / "flowers5_128")
    pictures = [Path(every.root or ".") / file for file in every.files]
    backbone = tl.open_backbone(input_px=PX)
    covered = planned_covered = said = said_plan = 0
    thawed: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["THAWLINE_CACHE"] = str(Path(folder) / "cache")
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            rows = rng.permutation(len(pictures))[:N]
            labels = rng.permutation(np.arange(N) % 2)
            data = tl.open_data([pictures[row] for row in rows], labels)
            plan = tl.plan(data, backbone, seed=seed)
            run = tl.fit(data, plan, backbone=backbone, run=Path(folder) / f"run-{seed}")
            score = run.report.accuracy
            low, high = score.ci95
            covered += low <= 0.5 <= high
            said += run.report.verdict.startswith("Nothing was learned")
            said_plan += plan.verdict.startswith("Nothing was learned")
            chosen = next(one for one in plan.candidates if one.behind is None)
            planned_covered += chosen.ci95[0] <= 0.5 <= chosen.ci95[1]
            thawed[plan.thaw] = thawed.get(plan.thaw, 0) + 1
            print(seed, plan.thaw, score, plan.verdict[:60], "|", run.report.verdict[:90], file=sys.stderr, flush=True)
    low, high = (100 * end for end in wilson(covered, runs))
    counts = {
        f"the 95 % interval of the test accuracy covers 50 % ({low:.0f} to {high:.0f} %)": covered,
        "the interval of the chosen candidate, which was chosen by it, covers 50 %": planned_covered,
        "the plan says that nothing was learned": said_plan,
        "the report says that nothing was learned": said,
    } | {f"chosen: thaw {name}": n for name, n in sorted(thawed.items(), key=lambda item: -item[1])}
    text = "\n".join([
        "# Random labels",
        "",
        f"Written by `python benchmarks/random_labels.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"{runs} default fits of {N} photographs whose labels were drawn at random, two classes; {backbone.name} at",
        f"{PX} px.",
        "",
        f"| | of {runs} runs |",
        "|---|---|",
        *(f"| {name} | {n} |" for name, n in counts.items()),
        "",
    ])  # fmt: skip
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
