"""How good is the default choice? Regret of `thaw auto` against every arm trained. Writes judgement.md.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/judgement.py [DATA SET ...]

A cell is a data set, a number of samples to learn from, and a seed. In each, first the plan is made, with nothing of
the cell in the cache; then every arm is fitted whole, on whatever the cache holds by then, and tested. The default's
accuracy is that of the arm it chose: same plan, same bits. Costs are seconds of processor time, so that two processes
may share the cells (`--share 1/2`, `--share 2/2`), each kept to one processor. Finished cells are kept in
judgement.jsonl, so that a stopped benchmark resumes; of cells that were measured twice, the last counts. Hours.
`--default-again` plans and fits only the default of measured cells anew, beside what the other arms reached before.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import thawline as tl
from thawline.backbones.lines import depth_rungs
from thawline.data import subset
from thawline.planning import Asked, FitPlan, make_plan
from thawline.planning.scenarios import scenario
from thawline.planning.similarity import measure_similarity
from thawline.planning.size import measure_size
from thawline.randomness import generator
from thawline.runs.reporting import environment

SEEDS = (0, 1, 2)
SIZES = (50, 200, 10**9)
MOST_TO_TEST = 1_000
LAST, DEPTHS, HALF, EVERYTHING = "last layer", "all depths", "from:blocks.3.1", "all"
SCRATCH = "from scratch"
DEFAULT, BY_THE_MAP = "default", "what the guides' map says"
KEPT = Path(__file__).with_suffix(".jsonl")
TILES = 4
"""Along each side, that are shuffled."""
Row = dict[str, Any]
"""A cell, as it is kept."""
Change = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


def _inverted(picture: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    noise = generator(row, "noise").normal(0, 30, picture.shape)
    return np.clip(255 - picture + noise, 0, 255).astype(np.uint8)


def _shuffled(picture: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    """The same order of tiles for every picture."""
    side = picture.shape[0] // TILES
    tiles = picture.reshape(TILES, side, TILES, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    tiles = tiles[generator(0, "tiles").permutation(len(tiles))]
    return np.ascontiguousarray(tiles.reshape(TILES, TILES, side, side, 3).swapaxes(1, 2).reshape(picture.shape))


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learned from, and how it is shown to the network."""

    data: str
    px: int
    """Side of the input."""
    change: Change | None = None
    """Made to every picture and its row."""


SETS = {
    "hymenoptera": Task("hymenoptera", 96),
    "brain_mri": Task("brain_mri", 96),
    "digits": Task("digits", 64),
    "fashion_mnist_small": Task("fashion_mnist_small", 64),
    "flowers5_128": Task("flowers5_128", 96),
    "flowers5_128 inverted, noisy": Task("flowers5_128", 96, _inverted),
    "flowers5_128 shuffled tiles": Task("flowers5_128", 96, _shuffled),
    "hymenoptera at 224 px": Task("hymenoptera", 224),
    "brain_mri at 224 px": Task("brain_mri", 224),
    "digits at 224 px": Task("digits", 224),
    "fashion_mnist_small at 224 px": Task("fashion_mnist_small", 224),
    "flowers5_128 at 224 px": Task("flowers5_128", 224),
    "flowers5_128 inverted, noisy, at 224 px": Task("flowers5_128", 224, _inverted),
    "flowers5_128 shuffled tiles, at 224 px": Task("flowers5_128", 224, _shuffled),
}
"""Shown at the 224 px of the weights, as a fit shows them, and smaller, so that all samples take hours, not days."""


def has_dearest(name: str, n: int, seed: int) -> bool:
    """Whether progressive unfreezing and random weights are fitted too: twice what all other arms cost."""
    return seed == SEEDS[0] and n in SIZES[:-1] and SETS[name].px < 224


def is_measured(name: str, n: int) -> bool:
    """All samples at 224 px would take an hour a cell and more."""
    return n in SIZES[:-1] or SETS[name].px < 224


def load(name: str, n: int, seed: int) -> tl.Dataset:
    """The samples of one cell, the part to be tested on marked; corrupted where the name says so."""
    base, change = SETS[name].data, SETS[name].change
    data = _digits() if base == "digits" else tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / base)
    order = generator(seed, "benchmark", base).permutation(len(data))
    if data.given is None:
        n_test = min(MOST_TO_TEST, round(0.25 * len(data)))
        parts = np.where(np.isin(np.arange(len(data)), order[:n_test]), "test", "train")
        # duplicates must not stand on both sides: they follow the first of their group
        first = {group: parts[row] for row, group in reversed(list(enumerate(data.groups)))}
        parts = np.array([first[group] for group in data.groups])
    else:
        parts = np.where(data.given == "test", "test", "train")
    learn = in_proportion(np.array([row for row in order if parts[row] == "train"]), data.labels)[:n]
    # what is left over tests as well: on 57 pictures, the best of nine arms is mostly the luckiest
    seen = set(data.groups[learn])
    spare = [row for row in order if parts[row] == "train" and data.groups[row] not in seen]
    test = [*(row for row in order if parts[row] == "test"), *spare][:MOST_TO_TEST]
    parts[spare] = "test"
    chosen = subset(replace(data, given=parts), np.sort(np.array([*learn, *test])))
    return _changed(chosen, change) if change else chosen


def in_proportion(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reorder so that any first n hold the classes in proportion, every class as soon as may be."""
    share = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        own = labels[rows] == label
        share[own] = np.arange(own.sum()) / own.sum()
    return rows[np.argsort(share, kind="stable")]


def _digits() -> tl.Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = tl.open_data(np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels, name="digits")
    return replace(data, groups=np.arange(len(data)))  # at 8 x 8 any two nines look like copies


def _changed(data: tl.Dataset, change: Change) -> tl.Dataset:
    pictures = []
    for row in range(len(data)):
        picture = Image.open(io.BytesIO(bytes(data.source.read(row)))).convert("RGB").resize((128, 128))
        pictures.append(change(np.asarray(picture), row))
    made = tl.open_data(np.stack(pictures), data.labels, class_names=data.classes)
    return replace(made, given=data.given, groups=data.groups)


def measure(
    name: str, n: int, seed: int, weights: Path, folder: Path, known: dict[str, Any], *, dearest: bool
) -> dict[str, Any]:
    """Plan one cell, then fit every arm of it that is not known."""
    data = load(name, n, seed)
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{weights}", input_px=SETS[name].px)
    started = time.process_time()
    decided = make_plan(data, backbone, Asked.of(seed=seed)).plan
    planning_s = time.process_time() - started
    fits: dict[str, dict[str, float]] = dict(known)
    for arm, plan in arms(data, backbone, decided, seed, dearest=dearest).items():
        if arm in fits:
            continue
        started = time.process_time()
        run = tl.fit(data, plan, backbone=backbone, run=folder / f"{len(fits)}-{time.monotonic_ns()}")
        fits[arm] = {"accuracy": run.report.accuracy.value, "seconds": round(time.process_time() - started, 2)}
    chosen = key(decided)
    return {
        "data": name,
        "n": int(np.count_nonzero(data.given == "train")),
        "asked": n,
        "n_test": int(np.count_nonzero(data.given == "test")),
        "seed": seed,
        "chosen": chosen,
        "guides": by_the_map(data, backbone, seed),
        "verdict": decided.verdict,
        "planning_s": round(planning_s, 2),
        "timed_together": not known,
        "fits": fits,
    }


def default_again(name: str, n: int, seed: int, weights: Path, folder: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Plan one measured cell anew, as one fit does, and fit what was chosen; nothing else."""
    data = load(name, n, seed)
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{weights}", input_px=SETS[name].px)
    planned = make_plan(data, backbone, Asked.of(seed=seed))
    run = tl.fit(data, planned, backbone=backbone, run=folder / f"default-{time.monotonic_ns()}")
    found = {"chosen": key(planned.plan), "verdict": planned.plan.verdict, "default": run.report.accuracy.value}
    return before | found | {"default_on": time.strftime("%Y-%m-%d"), "timed_together": False}


def by_the_map(data: tl.Dataset, backbone: tl.Backbone, seed: int) -> str:
    """The arm that the guides' map of size and likeness would try first, with nothing measured against it."""
    rows = np.flatnonzero(data.given == "train")
    values = tl.extract_features(data, backbone).values[rows]
    size = measure_size(values, data.labels[rows], len(data.classes), groups=data.groups[rows], seed=seed)
    first = scenario(size, measure_similarity(backbone, data, rows, seed=seed)).first_arm
    return {"last-layer linear": LAST, "all-depth linear": DEPTHS, "thaw all": EVERYTHING}[first]


def key(plan: FitPlan) -> str:
    """What an arm is called."""
    if plan.from_scratch:
        return SCRATCH
    if plan.thaw != "none":
        return plan.thaw
    where = LAST if plan.layer == "pooled" else DEPTHS if "," in plan.layer else plan.layer
    return where if plan.head == "logistic" else f"{where}, {plan.head}"


def arms(data: tl.Dataset, backbone: tl.Backbone, decided: FitPlan, seed: int, *, dearest: bool) -> dict[str, FitPlan]:
    """Everything that could have been chosen; on request also the dearest ways, which never are."""
    depths = ",".join(depth_rungs(backbone.ladder))
    asked: list[dict[str, Any]] = [
        {"thaw": "none"},
        {"thaw": "none", "head": "ridge"},
        {"thaw": "none", "head": "svm"},
        {"thaw": "none", "layer": depths},
    ]
    asked += [{"thaw": thaw} for thaw in ("from:blocks.5.1", HALF, EVERYTHING)]
    plans = [tl.plan(data, backbone, seed=seed, **settings) for settings in asked]
    if dearest:
        plans.append(tl.plan(data, backbone, seed=seed, thaw="progressive"))
        plans.append(tl.plan(data, backbone, seed=seed, from_scratch=True))
    return {key(plan): plan for plan in (*plans, decided)}


def report(cells: list[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = [
        "# How good is the default choice?",
        "",
        f"Written by `python benchmarks/judgement.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Mean test accuracy in % over the seeds that were run, with an ImageNet MobileNetV2. *default* is what",
        "`--thaw auto` chose. *regret* is how far it is behind the best arm, which is the one that is best on average",
        "over the seeds of a row; it was found by training every arm and looking at the test set. A negative regret",
        "means that another arm was better for some seeds. *luckiest* compares with the best arm of each seed: on few",
        "samples that arm is partly luck, and the number would be above 0 even if all arms were equal.",
        "",
        "Inputs have 224 px if the row says so, as in a fit; all others have 64 to 96 px, because all samples take",
        "hours. Progressive unfreezing and random weights were fitted for the first seed of the small inputs with 50",
        "and 200 samples only. Costs are shares of the processor time of all arms, for the cells whose plan and fits",
        "were timed in one run. Two constants were chosen by looking at the cells with small inputs and 50 or 200",
        "samples: how far a trial falls short of a whole training, and from how many samples on everything is tried.",
        "The regret of these cells is that of known data.",
        *_again(cells),
        "",
        "| data | n | tested | seeds | default | best arm | regret | luckiest | chosen | cost of default / of all |",
        "|---|" + "---|" * 9,
    ]
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["data"], cell["asked"]), []).append(cell)
    of_cell = {_mark(cell): best_on_average(found) for found in groups.values() for cell in found}
    for (name, _), found in groups.items():
        arm = best_on_average(found)
        chosen = ", ".join(cell["chosen"] for cell in found)
        numbers = [
            percent(map(default, found)),
            f"{percent(accuracy(cell, arm) for cell in found)} ({arm})",
            percent(regret(cell, arm) for cell in found),
            percent(regret(cell, luckiest(cell)) for cell in found),
        ]
        lines.append(
            f"| {name} | {found[0]['n']:,} | {found[0]['n_test']:,} | {len(found)} | {' | '.join(numbers)} | {chosen} "
            f"| {_cost(found)} |"
        )
    large = [cell for cell in cells if SETS[cell["data"]].px == 224]
    small = [cell for cell in cells if SETS[cell["data"]].px < 224]
    for title, some in (("All cells", cells), ("Those at 224 px", large), ("Those with small inputs", small)):
        if some:
            lines += ["", f"{title} ({len(some)}):", *_policies(some, of_cell)]
    lines += ["", f"Cost of the default, of fitting every arm: {_cost(cells)}."]
    return "\n".join([*lines, ""])


def _again(cells: list[dict[str, Any]]) -> list[str]:
    """Say what the default reached where it was fitted anew, beside the same cells before."""
    anew = [cell for cell in cells if "default" in cell]
    if not anew:
        return []
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    before = {_mark(cell): default(cell) for cell in map(json.loads, lines) if "default" not in cell}
    gained = np.array([100 * (default(cell) - before[_mark(cell)]) for cell in anew])
    low, high = bootstrapped(gained)
    return [
        "",
        f"Of {len(anew)} cells, only the default was planned and fitted anew ({max(c['default_on'] for c in anew)}); "
        "the other arms are those",
        f"of the training before. There the default was {gained.mean():+.2f} points better than before "
        f"(95 % {low:+.2f} to {high:+.2f}, paired over cells),",
        f"and its regret is {percent(regret(cell, best_on_average(_row(cell, cells))) for cell in anew)} points.",
    ]


def _row(cell: dict[str, Any], cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of the same data set and number of samples."""
    return [one for one in cells if (one["data"], one["asked"]) == (cell["data"], cell["asked"])]


def _policies(cells: list[dict[str, Any]], of_cell: dict[tuple[str, int, int], str]) -> list[str]:
    """What each way to decide costs, and what the default has over it.

    Args:
        of_cell: The arm that is best on average over the seeds of a cell.
    """
    lines = [
        "",
        "| policy | mean regret, points | luckiest | default better by, points (95 %, paired over cells) |",
        "|---|---|---|---|",
    ]
    for policy in (DEFAULT, LAST, DEPTHS, HALF, EVERYTHING, BY_THE_MAP):
        arms = [_of_policy(policy, cell) for cell in cells]
        pairs = list(zip(cells, arms, strict=True))
        reached = [default(cell) if policy == DEFAULT else accuracy(cell, arm) for cell, arm in pairs]
        behind = percent(accuracy(cell, of_cell[_mark(cell)]) - a for cell, a in zip(cells, reached, strict=True))
        unlucky = percent(accuracy(cell, luckiest(cell)) - a for cell, a in zip(cells, reached, strict=True))
        less = np.array([default(cell) - a for cell, a in zip(cells, reached, strict=True)]) * 100
        low, high = bootstrapped(less)
        compared = "" if policy == DEFAULT else f"{less.mean():+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {policy} | {behind} | {unlucky} | {compared} |")
    return lines


def _of_policy(policy: str, cell: dict[str, Any]) -> str:
    """The arm that a policy takes."""
    return str({DEFAULT: cell["chosen"], BY_THE_MAP: cell["guides"]}.get(policy, policy))


def accuracy(cell: dict[str, Any], arm: str) -> float:
    return float(cell["fits"][arm]["accuracy"])


def default(cell: dict[str, Any]) -> float:
    """What the default reached, if it was fitted again; or the arm that it chose."""
    return float(cell["default"]) if "default" in cell else accuracy(cell, cell["chosen"])


def best_on_average(cells: list[dict[str, Any]]) -> str:
    """Of the arms that every one of these cells has."""
    common: list[str] = [arm for arm in cells[0]["fits"] if all(arm in cell["fits"] for cell in cells)]
    return max(common, key=lambda arm: statistics.mean(accuracy(cell, arm) for cell in cells))


def luckiest(cell: dict[str, Any]) -> str:
    arms: list[str] = list(cell["fits"])
    return max(arms, key=lambda arm: accuracy(cell, arm))


def regret(cell: dict[str, Any], arm: str) -> float:
    """What an arm has over the default."""
    return accuracy(cell, arm) - default(cell)


def _cost(cells: list[dict[str, Any]]) -> str:
    """Planning and the fit that follows, as a share of all fits, over the cells where every arm was fitted.

    Only where plan and fits were timed in one run: machines differ twofold from day to day.
    """
    whole = [cell for cell in cells if SCRATCH in cell["fits"] and cell.get("timed_together")]
    if not whole:
        return "-"
    own = sum(cell["planning_s"] + cell["fits"][cell["chosen"]]["seconds"] for cell in whole)
    return f"{100 * own / sum(fit['seconds'] for cell in whole for fit in cell['fits'].values()):.0f} %"


def percent(values: Any) -> str:
    return f"{100 * statistics.mean(values):.1f}"


def bootstrapped(values: NDArray[np.float64]) -> tuple[float, float]:
    rng = generator(0, "cells")
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", help=f"of {', '.join(SETS)}; by default all")
    parser.add_argument(
        "--samples",
        nargs="+",
        type=int,
        choices=SIZES,
        default=SIZES,
        help=f"to learn from; {SIZES[-1]}: all there are",
    )
    parser.add_argument("--share", default="1/1", metavar="I/K", help="measure every K-th cell, from the I-th on")
    anew = parser.add_mutually_exclusive_group()
    anew.add_argument("--plan-again", action="store_true", help="make the plans of measured cells anew, keep the fits")
    anew.add_argument("--again", action="store_true", help="measure finished cells anew, fits included")
    anew.add_argument("--default-again", action="store_true", help="plan and fit the default of measured cells anew")
    given = parser.parse_args()
    own, of = (int(part) for part in given.share.split("/"))
    before = {_mark(cell): cell for cell in finished()}
    few_first = [(n, s) for s in SEEDS for n in SIZES[:-1]] + [(SIZES[-1], s) for s in SEEDS]
    wanted = [(d, n, s) for n, s in few_first if n in given.samples for d in given.data or SETS if is_measured(d, n)]
    with tempfile.TemporaryDirectory() as name:
        for cell in wanted[own - 1 :: of]:
            only_known = given.plan_again or given.default_again
            if cell not in before if only_known else is_finished(before.get(cell)) and not given.again:
                continue
            os.environ["THAWLINE_CACHE"] = str(Path(name) / f"cache-{time.monotonic_ns()}")
            known = {} if given.again else before.get(cell, {}).get("fits", {})
            dearest = has_dearest(*cell) and not given.plan_again
            if given.default_again:
                found = default_again(*cell, weights, Path(name), before[cell])
            else:
                found = measure(*cell, weights, Path(name), known, dearest=dearest)
            with KEPT.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(found, file=sys.stderr, flush=True)
            KEPT.with_suffix(".md").write_text(report(finished()), encoding="utf-8")
    print(report(finished()))


def is_finished(cell: dict[str, Any] | None) -> bool:
    """Whether every arm of a cell was fitted."""
    return cell is not None and (not has_dearest(*_mark(cell)) or SCRATCH in cell["fits"])


def _mark(cell: dict[str, Any]) -> tuple[str, int, int]:
    return cell["data"], cell["asked"], cell["seed"]


def finished() -> list[dict[str, Any]]:
    """Cells that were measured before, by this process or another, in the order of the tables."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    cells = {_mark(cell): cell for cell in map(json.loads, lines)}
    return [cells[mark] for mark in sorted(cells, key=lambda mark: (list(SETS).index(mark[0]), *mark[1:]))]


if __name__ == "__main__":
    main()
