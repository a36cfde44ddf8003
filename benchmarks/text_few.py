"""Few labelled texts: Thawline's default beside SetFit and the frozen encoder. Writes text_few.md.

    bash benchmarks/peers/setup.sh      # once: an environment per group of peers
    THAWLINE_REAL_DATA=... python benchmarks/text_few.py [--each 8 16 64] [--seeds 5] [--only NAME ...] [--sanity]

A cell is a data set, a number of texts of each class, and a seed that draws them; all ways are given the same texts and
the whole test set. Every run is a whole process. Finished runs are kept in text_few.jsonl, so that a stopped benchmark
resumes on any day. SetFit takes an hour a cell and more on 64 texts of each of 77 classes, so it is left out if a cell
has more than `--setfit-most` texts to learn from; the page says "not run". `--sanity` also runs MTEB's protocol on
Banking77, whose published figure for this encoder is 80.0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import peers
import text_rivals
import text_sets
from peers import Peer, Row
from text_rivals import THAWLINE, TITLES

from thawline.randomness import generator
from thawline.runs.reporting import environment

KEPT = Path(__file__).with_suffix(".jsonl")
WAYS = (THAWLINE, "setfit", "frozen", "tfidf")
SETS = {"sst2": 2, "trec6": 6, "banking77": 77}
"""Data set -> its classes."""
CELL = ("data_set", "each", "seed")
MTEB = Peer("MTEB's protocol", "text", "text_frozen.py", "mteb")
PUBLISHED = 80.0
"""MTEB's leaderboard for all-MiniLM-L6-v2: Banking77Classification, in %."""


def jobs(folder: Path, given: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every run, all ways of a cell together, the small cells first."""
    if given.sanity:
        yield {"data_set": "banking77", "peer": "mteb"}, lambda: _mteb(folder)
    for each in given.each:
        for seed in range(given.seeds):
            for data_set in given.sets:
                for name in given.only:
                    if name == "setfit" and each * SETS[data_set] > given.setfit_most:
                        continue
                    mark = {"data_set": data_set, "each": each, "seed": seed, "peer": name}
                    yield mark, lambda name=name, cell=(data_set, each, seed): _run(folder, name, *cell)


def _run(folder: Path, name: str, data_set: str, each: int, seed: int) -> Row:
    place = folder / f"{each}-{seed}"
    data = place / data_set
    if not data.exists():
        text_sets.write(data_set, place, each=each, seed=seed)
    return text_rivals.here() | text_rivals.run(name, data, seed)


def _mteb(folder: Path) -> Row:
    encoder = text_sets.encoder_folder()
    assert encoder is not None
    command = MTEB.command(text_sets.write("banking77", folder / "mteb"), encoder, 0, smoke=False)
    seconds, _, line = peers.run_process("mteb", command, **text_rivals.OFFLINE)
    return text_rivals.here() | json.loads(line) | {"peer": "mteb", "seconds": round(seconds, 2)}


def difference(rows: list[Row], other: str) -> str:
    """Mean difference in points of Thawline to another way over the cells that both have, and its 95 % interval."""

    def of(name: str) -> dict[tuple[object, ...], float]:
        return {tuple(row[key] for key in CELL): row["test_accuracy"] for row in rows if row["peer"] == name}

    ours, theirs = of(THAWLINE), of(other)
    paired = np.array([100 * (ours[cell] - theirs[cell]) for cell in ours if cell in theirs])
    if len(paired) < 2:
        return "-"
    draws = generator(0, "cells").integers(0, len(paired), (2000, len(paired)))
    low, high = np.quantile(paired[draws].mean(axis=1), (0.025, 0.975))
    return f"{paired.mean():+.1f} ({low:+.1f} to {high:+.1f}), {len(paired)} pairs"


def report(rows: list[Row]) -> str:
    """The page."""
    dates = [row["date"] for row in rows]
    cells = [row for row in rows if "each" in row]
    lines = [
        "# Few labelled texts",
        "",
        f"Written by `python benchmarks/text_few.py`; measured {min(dates)} to {max(dates)}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items() if key != 'processor')}.",
        "",
        f"The others ran with {text_rivals.versions(rows)}.",
        "",
        "Test accuracy in %, mean ± standard deviation over the seeds, which draw the texts to learn from; and the",
        "median seconds of a whole process on two cores. All ways get the same texts, the whole test set and the same",
        "encoder, all-MiniLM-L6-v2. SetFit runs with its own settings, but with at most 40 pairs a text, as its paper",
        "had, and 1,500 steps. Differences are paired over data set, texts a class and seed (bootstrap over pairs).",
        "",
        f"| data | texts a class | seeds | {' | '.join(TITLES[name] for name in WAYS)} |",
        "|---|---|---|" + "---|" * len(WAYS),
    ]
    for data_set, each in sorted(
        {(r["data_set"], r["each"]) for r in cells}, key=lambda c: (list(SETS).index(c[0]), c[1])
    ):
        own = [row for row in cells if (row["data_set"], row["each"]) == (data_set, each)]
        parts = []
        for name in WAYS:
            found = [row for row in own if row["peer"] == name]
            seconds = f", {statistics.median(row['seconds'] for row in found):.0f} s" if found else ""
            parts.append(
                f"{text_rivals.mean_percent(r['test_accuracy'] for r in found)}{seconds}" if found else "not run"
            )
        lines.append(f"| {data_set} | {each} | {len({r['seed'] for r in own})} | {' | '.join(parts)} |")
    lines += ["", "`thawline fit` better by, points (95 %):", ""]
    lines += [f"- than {TITLES[name]}: {difference(cells, name)}" for name in WAYS[1:]]
    for row in rows:
        if row["peer"] == "mteb":
            lines += [
                "",
                f"Sanity: MTEB's protocol on Banking77 (8 texts a class, ten times) gives "
                f"{100 * row['test_accuracy']:.1f} with this encoder; published: {PUBLISHED}.",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", nargs="+", type=int, default=[8, 16, 64], metavar="N", help="texts of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME", help=", ".join(WAYS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--setfit-most", type=int, default=1300, metavar="N", help="texts that SetFit may learn from")
    parser.add_argument("--sanity", action="store_true", help="MTEB's protocol on Banking77 as well")
    given = parser.parse_args()
    if sentence := text_rivals.missing(given.only):
        print(f"{sentence} Nothing was run.")
        return
    with tempfile.TemporaryDirectory() as name:
        text_rivals.measure(KEPT, jobs(Path(name), given), report)
    if rows := peers.finished(KEPT):
        print(report(rows))


if __name__ == "__main__":
    main()
