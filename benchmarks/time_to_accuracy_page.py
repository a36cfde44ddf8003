"""The page of time_to_accuracy.py, from the rows in time_to_accuracy.jsonl.

python benchmarks/time_to_accuracy_page.py     write the page anew, measure nothing
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from thawline.randomness import generator
from thawline.runs.reporting import environment

Row = dict[str, Any]
Key = tuple[str, int, str]
"""Data set, pictures asked for, line."""
KEPT = Path(__file__).with_name("time_to_accuracy.jsonl")
SCRIPT, BEFORE = "script", ", before"
TITLES = {
    "given": "`fit --thaw LINE`",
    "given, before": "`fit --thaw LINE`, before",
    "default": "`fit`",
    "default, before": "`fit`, before",
    SCRIPT: "script",
    "fastai": "fastai",
}
ENOUGH = 0.99
"""Share of the final accuracy that counts as reached."""
SERIES = ("series", "processor", "asked_precision")


def report(rows: list[Row]) -> str:
    """The page: a section for what was measured together."""
    lines = [
        "# Time to accuracy",
        "",
        f"Written by `python benchmarks/time_to_accuracy.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items() if key != 'processor')}.",
        "",
        "An ImageNet MobileNetV2 at 224 px. Every run is a whole process that finds nothing cached; all ways read the",
        "same files, in turn within a round, and the round is the seed. *script* is `peers/lp_ft.py`, an expert's",
        "LP-FT that is told the thaw line; `fit --thaw LINE` is told it too; `fit` finds it. *before* is another",
        "version of Thawline. Seconds are medians over rounds; ratios are those of one round, their geometric mean",
        "over the rounds. Intervals are 95 % bootstraps: of ratios over cells (data set, size, line), of differences",
        "in accuracy over cells and rounds.",
    ]  # fmt: skip
    for series in sorted({tuple(row[key] for key in SERIES) for row in rows}):
        found = [row for row in rows if tuple(row[key] for key in SERIES) == series]
        dates = sorted({row["date"] for row in found})
        lines += ["", f"## {series[0]}: {series[1]}, precision {series[2]}", ""]
        lines += [f"Measured {dates[0]} to {dates[-1]}. {_versions(found)}", ""]
        lines += [*_speed(found), "", *_accuracy(found), "", *_reached(found), *_before(found), "", *_parts(found)]
    return "\n".join([*lines, ""])


def _versions(rows: list[Row]) -> str:
    commits = {
        name: sorted({row["commit"] for row in rows if "commit" in row and row["way"].endswith(BEFORE) == old})
        for name, old in (("Thawline", False), ("before", True))
    }
    own = [f"{name} at {', '.join(found)}" for name, found in commits.items() if found]
    theirs = sorted({f"{name} {number}" for row in rows for name, number in row.get("versions", {}).items()})
    return "; ".join([*own, *([f"peers with {', '.join(theirs)}"] if theirs else [])]) + "."


class Cells:
    """Rows of one series, found by cell, way and round."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = {(r["data"], r["n"], r["line"], r["way"], r["round"], r["epochs"]): r for r in rows}
        self._untold = {row["way"] for row in rows if row["line"] is None}
        self.ways = [way for way in TITLES if any(row["way"] == way for row in rows)]
        places = {(row["data"], row["n"]) for row in rows}
        told = {(r["data"], r["n"], r["line"]) for r in rows if r["line"] is not None}
        self.keys: list[Key] = sorted(told | {(*place, "-") for place in places - {key[:2] for key in told}})
        self.rounds = sorted({row["round"] for row in rows})
        self.epochs = sorted({row["epochs"] for row in rows if row["epochs"] is not None})

    def get(self, key: Key, way: str, number: int, epochs: int | None = None) -> Row | None:
        """One run; a way that is not told the line serves every line."""
        line = None if way in self._untold else key[2]
        return self._rows.get((key[0], key[1], line, way, number, epochs))

    def all(self, key: Key, way: str) -> list[Row]:
        """Its runs in all rounds."""
        return [row for number in self.rounds if (row := self.get(key, way, number))]

    def pairs(self, key: Key, way: str, other: str) -> list[tuple[Row, Row]]:
        """Runs of two ways in the same rounds."""
        both = [(self.get(key, way, number), self.get(key, other, number)) for number in self.rounds]
        return [(a, b) for a, b in both if a and b]

    def title(self, key: Key) -> str:
        """Data set, pictures that were learned from, line."""
        n = next(row["n_train"] for way in self.ways for row in self.all(key, way) if "n_train" in row)
        return f"{key[0]} | {n:,} | {key[2]}"


def _head(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def log_ratios(cells: Cells, way: str, other: str, field: str = "seconds") -> dict[Key, float]:
    """Mean logarithm, over the rounds, of what a way takes by what another takes; of cells that have both."""
    found = {}
    for key in cells.keys:
        logs = [np.log(a[field] / b[field]) for a, b in cells.pairs(key, way, other) if a.get(field) and b.get(field)]
        if logs:
            found[key] = float(np.mean(logs))
    return found


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % bootstrap interval."""
    array = np.array(list(values), dtype=np.float64)
    means = array[generator(0, "cells").integers(0, len(array), (2000, len(array)))].mean(axis=1)
    return float(array.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _ratio(values: Iterable[float]) -> str:
    mean, low, high = np.exp(interval(values))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _speed(rows: list[Row]) -> list[str]:
    """Seconds, and their ratio to the script's."""
    cells = Cells(rows)
    lines = ["Seconds of the whole process (times the script's):", ""]
    lines += _head("data", "n", "line", *(TITLES[way] for way in cells.ways))
    ratios = {way: log_ratios(cells, way, SCRIPT) for way in cells.ways}
    for key in cells.keys:
        row = []
        for way in cells.ways:
            seconds = [run["seconds"] for run in cells.all(key, way)]
            times = f" ({np.exp(ratios[way][key]):.2f})" if key in ratios[way] and way != SCRIPT else ""
            row.append(f"{statistics.median(seconds):.1f}{times}" if seconds else "")
        lines.append(f"| {cells.title(key)} | {' | '.join(row)} |")

    def summary(title: str, tell: Callable[[str], str]) -> str:
        told = ["" if way == SCRIPT or not ratios[way] else tell(way) for way in cells.ways]
        return f"| {title} | | | {' | '.join(told)} |"

    lines.append(summary("geometric mean", lambda way: _ratio(ratios[way].values())))
    lines.append(summary("highest of a cell", lambda way: f"{np.exp(max(ratios[way].values())):.2f}"))
    used = {way: log_ratios(cells, way, SCRIPT, "cpu_s") for way in cells.ways}
    lines.append(summary("geometric mean, processor time", lambda way: _ratio(used[way].values()) if used[way] else ""))
    return lines


def _differences(cells: Cells, way: str, other: str) -> list[float]:
    """In points, of every cell and round that has both."""
    pairs = [pair for key in cells.keys for pair in cells.pairs(key, way, other)]
    return [100 * (a["test_accuracy"] - b["test_accuracy"]) for a, b in pairs]


def _accuracy(rows: list[Row]) -> list[str]:
    """Accuracy by cell; differences to the script and to the other version."""
    cells = Cells(rows)
    lines = ["Test accuracy, mean over rounds, in % (log loss; optimiser steps of the training that ships):", ""]
    lines += _head("data", "n", "line", "tested", *(TITLES[way] for way in cells.ways))
    for key in cells.keys:
        row = []
        for way in cells.ways:
            runs = cells.all(key, way)
            losses = [run["test_log_loss"] for run in runs if run.get("test_log_loss") is not None]
            steps = [run["steps"] for run in runs if run.get("steps") is not None]
            more = [f"{statistics.mean(losses):.3f}"] if losses else []
            more += [f"{statistics.mean(steps):.0f}"] if steps else []
            told = f" ({'; '.join(more)})" if more else ""
            row.append(f"{100 * statistics.mean(run['test_accuracy'] for run in runs):.1f}{told}" if runs else "")
        tested = next(run["n_test"] for way in cells.ways for run in cells.all(key, way))
        lines.append(f"| {cells.title(key)} | {tested:,} | {' | '.join(row)} |")
    compared = [(way, SCRIPT) for way in cells.ways if way != SCRIPT]
    compared += [(way, way + BEFORE) for way in cells.ways if way + BEFORE in cells.ways]
    told = []
    for way, other in compared:
        if values := _differences(cells, way, other):
            mean, low, high = interval(values)
            told.append(
                f"- {TITLES[way]} less {TITLES[other]}: {mean:+.2f} points ({low:+.2f} to {high:+.2f}), "
                f"{len(values)} pairs"
            )
    return [*lines, *(["", "Differences, paired by cell and round:", "", *told] if told else [])]


def reached_on_curve(row: Row) -> float | None:
    """Seconds until a run was first within 1 % of its final accuracy; None if it tells no curve."""
    curve = [
        (point["seconds"], point.get("test_accuracy", point.get("val_accuracy"))) for point in row.get("curve", [])
    ]
    if not curve:
        return None
    return float(next(seconds for seconds, accuracy in curve if accuracy >= ENOUGH * curve[-1][1]))


def reached_by_schedule(rows: list[Row]) -> float:
    """Seconds of the quickest whole run, of those with several numbers of epochs, within 1 % of the full one."""
    full = next(row for row in rows if row["epochs"] is None)
    return float(min(row["seconds"] for row in rows if row["test_accuracy"] >= ENOUGH * full["test_accuracy"]))


def _reached(rows: list[Row]) -> list[str]:
    """Time to 99 % of the final accuracy, measured in two ways."""
    cells = Cells(rows)
    of_run: dict[str, dict[Key, list[float]]] = {way: {} for way in cells.ways}
    of_schedule: dict[str, dict[Key, list[float]]] = {way: {} for way in cells.ways}
    for way in cells.ways:
        for key in cells.keys:
            runs = cells.all(key, way)
            of_run[way][key] = [s for run in runs if (s := reached_on_curve(run)) is not None]
            shorter = [[cells.get(key, way, run["round"], epochs) for epochs in cells.epochs] for run in runs]
            families = [[run, *(row for row in more if row)] for run, more in zip(runs, shorter, strict=True)]
            of_schedule[way][key] = [reached_by_schedule(family) for family in families if len(family) > 1]
    lines: list[str] = []
    counts = ", ".join(map(str, cells.epochs))
    titles = (
        (of_run, "Seconds until a run is first within 1 % of its final accuracy. A fit is followed on its validation "
        "set, the script on its test set; what comes after the training is not in it:"),
        (of_schedule, "Seconds of the quickest whole run within 1 % of the accuracy of the full one, of runs with "
        f"{counts} epochs and the full one:"),
    )  # fmt: skip
    for found, title in titles:
        ways = [way for way in cells.ways if any(found[way].values())]
        if not ways:
            continue
        lines += [*([""] if lines else []), title, "", *_head("data", "n", "line", *(TITLES[way] for way in ways))]
        for key in cells.keys:
            seconds = [f"{statistics.median(found[way][key]):.1f}" if found[way][key] else "" for way in ways]
            lines.append(f"| {cells.title(key)} | {' | '.join(seconds)} |")
    return lines


def _before(rows: list[Row]) -> list[str]:
    """This version against the other, by cell."""
    cells = Cells(rows)
    ways = [way for way in cells.ways if way + BEFORE in cells.ways]
    if not ways:
        return []
    lines = ["", "Seconds by those of the version before (points of accuracy gained):", ""]
    lines += _head("data", "n", "line", *(TITLES[way] for way in ways))
    ratios = {way: log_ratios(cells, way, way + BEFORE) for way in ways}
    for key in cells.keys:
        row = []
        for way in ways:
            gained = [a["test_accuracy"] - b["test_accuracy"] for a, b in cells.pairs(key, way, way + BEFORE)]
            row.append(f"{np.exp(ratios[way][key]):.2f} ({100 * statistics.mean(gained):+.1f})" if gained else "")
        lines.append(f"| {cells.title(key)} | {' | '.join(row)} |")
    means = [_ratio(ratios[way].values()) if ratios[way] else "" for way in ways]
    return [*lines, f"| geometric mean | | | {' | '.join(means)} |"]


def _parts(rows: list[Row]) -> list[str]:
    """Where the time goes, as each tells it itself."""
    lines = ["Seconds of the parts, as a run tells them, mean over cells and rounds:", ""]
    for way in TITLES:
        told = [row["parts_s"] for row in rows if row["way"] == way and row["epochs"] is None and "parts_s" in row]
        names = dict.fromkeys(name for parts in told for name in parts)
        means = [f"{name} {statistics.mean(parts.get(name, 0.0) for parts in told):.1f}" for name in names]
        if means:
            lines.append(f"- {TITLES[way]}: {', '.join(means)}")
    return lines


def main() -> None:
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []
    if not rows:
        print("Nothing was measured yet: run `python benchmarks/time_to_accuracy.py`.")
        return
    KEPT.with_suffix(".md").write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
