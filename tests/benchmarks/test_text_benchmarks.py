"""The benchmarks of texts: what all ways are given, their tables, their resuming. No rival is run."""

from __future__ import annotations

import csv
import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script as Python does that runs it from its folder."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(ROOT / "peers"))
    return importlib.import_module


@pytest.fixture
def text_sets(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The data sets, over small ones of the same form."""
    folder = tmp_path / "real" / "text"
    for name in ("trec6", "sms_spam"):
        (folder / name).mkdir(parents=True)
    for part, n in (("train", 30), ("test", 10)):
        rows = [("text", "label"), *((f'{part} {i}, "said"', i % 3) for i in range(n))]
        with (folder / "trec6" / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    ham = [f"ham\tHello number {i // 2}{'!' * (i % 2)}\t\t\t0" for i in range(100)]  # each text and a copy of it
    spam = [f'spam\t"win {i}"' for i in range(20)]
    (folder / "sms_spam" / "SMSSpamCollection").write_text("\n".join(ham + spam))
    monkeypatch.setenv("THAWLINE_REAL_DATA", str(tmp_path / "real"))
    module: ModuleType = load("text_sets")
    return module


def test_sms_spam_is_split_alike_for_all_and_copies_stay_on_one_side(text_sets: ModuleType) -> None:
    parts = text_sets.load("sms_spam")
    assert parts == text_sets.load("sms_spam")
    assert Counter(label for _, label in parts["test"]) == {"ham": 20, "spam": 4}
    assert Counter(label for _, label in parts["train"]) == {"ham": 80, "spam": 16}
    texts = {part: {text.strip("!") for text, _ in rows} for part, rows in parts.items()}
    assert not texts["train"] & texts["test"]
    assert "win 3" in texts["train"] | texts["test"]  # neither quotes nor empty columns


def test_what_is_written_is_what_rivals_read(text_sets: ModuleType, load: Any, tmp_path: Path) -> None:
    folder = text_sets.write("trec6", tmp_path, each=4, seed=1, most_to_test=6)
    job = load("text_job")
    train, test = job.read(folder / "train.csv"), job.read(folder / "test.csv")
    assert Counter(train.labels) == {"0": 4, "1": 4, "2": 4} and len(test.texts) == 6
    assert set(zip(train.texts, train.labels, strict=True)) <= set(text_sets.load("trec6")["train"])
    again, other = (text_sets.drawn(text_sets.load("trec6")["train"], 4, seed) for seed in (1, 2))
    assert train.texts == [text for text, _ in again] != [text for text, _ in other]


def row(peer: str, accuracy: float, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "data_set": "sst2", "round": 1, "date": "2026-01-02", "processor": "p", "peer": peer, "seconds": seconds,
        "test_accuracy": accuracy, "n_test": 100, "peak_rss_bytes": 10**9, "versions": {"lib": "1"}, "thaw": "none",
    } | more  # fmt: skip


def test_main_job_says_how_thawline_stands(load: Any) -> None:
    page = load("text_main_job")
    rows = [row("thawline", 0.80, 10), row("frozen", 0.75, 40), row("setfit", 0.79, 500)]
    assert "within the interval of the best of the others, SetFit (79.0 %)" in page.report(rows)
    assert "It takes 0.25 times the seconds" in page.report(rows)
    assert "is below the best of the others, SetFit (95.0 %)" in page.report([*rows[:2], row("setfit", 0.95, 1)])
    assert "is above the best of the others" in page.report([row("thawline", 0.9, 1), row("frozen", 0.5, 40)])
    assert "| 50.00 |" in page.report(rows)  # SetFit's 500 s over 10


def test_few_compares_the_same_cells(load: Any) -> None:
    page = load("text_few")
    cells = [
        row(peer, accuracy + 0.01 * seed, 10, each=8, seed=seed)
        for peer, accuracy in (("thawline", 0.8), ("setfit", 0.75))
        for seed in range(3)
    ]
    assert page.difference(cells, "setfit") == "+5.0 (+5.0 to +5.0), 3 pairs"
    assert page.difference(cells[:4], "setfit") == "-"  # one pair has no interval
    text = page.report(cells)
    assert "| sst2 | 8 | 3 | 81.0 ± 1.0, 10 s | 76.0 ± 1.0, 10 s | not run | not run |" in text


def test_a_stopped_benchmark_goes_on(load: Any, tmp_path: Path) -> None:
    kept, ran = tmp_path / "kept.jsonl", []

    def job(name: str) -> tuple[dict[str, Any], Any]:
        return {"peer": name}, lambda: ran.append(name) or {"test_accuracy": 0.5}

    kept.write_text(json.dumps({"peer": "a", "test_accuracy": 1.0}) + "\n")
    load("text_rivals").measure(kept, [job("a"), job("b")], lambda rows: f"{len(rows)} rows")
    assert ran == ["b"] and len(kept.read_text().splitlines()) == 2
    assert kept.with_suffix(".md").read_text() == "2 rows"


def test_setfit_takes_as_many_steps_as_its_paper_at_most(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("setfit", "datasets"):
        fake = ModuleType(name)
        fake.__dict__.update(dict.fromkeys(("SetFitModel", "Trainer", "TrainingArguments", "Dataset")))
        monkeypatch.setitem(sys.modules, name, fake)
    steps = load("text_setfit").steps
    assert steps(["a"] * 2 + ["b"] * 2) == (1, 1)  # six pairs alike, four not: twice six in one batch
    assert steps([str(i % 6) for i in range(384)])[1] == 384 * 40 // 16
    assert steps([str(i % 77) for i in range(4928)])[1] == 1500


def test_regret_is_that_of_the_way_that_is_best_on_average(load: Any) -> None:
    page = load("text_regret")

    def cell(seed: int, frozen: float, thawed: float) -> dict[str, Any]:
        fits = {"last layer": {"accuracy": frozen, "seconds": 1.0}, "all": {"accuracy": thawed, "seconds": 3.0}}
        return {"data": "sst2", "asked": 50, "seed": seed, "n_test": 100, "chosen": "last layer", "planning_s": 1.0,
                "date": "2026-01-02", "fits": fits}  # fmt: skip

    text = page.report([cell(0, 0.80, 0.86), cell(1, 0.82, 0.80)])
    assert "Mean regret over 2 cells: 2.00 points" in text and ": no." in text
    assert "| sst2 | 50 | 100 | 2 | 81.0 | 83.0 (all) | 2.0 | 3.0 | last layer, last layer | 50 % |" in text


def test_encoding_is_compared_with_the_default(load: Any) -> None:
    page = load("text_encoding")
    shared = {"data_set": "sst2", "date": "2026-01-02", "processor": "p", "n": 100, "versions": {"lib": "1"},
              "accuracy": 0.9, "changed_same_head": 0.004, "changed_own_head": 0.006}  # fmt: skip
    rows = [
        shared | {"way": "default", "seconds": [2.0, 2.0], "cosine_min": 1.0, "cosine_mean": 1.0},
        shared | {"way": "int8", "seconds": [0.5, 0.5], "cosine_min": 0.98, "cosine_mean": 0.99},
    ]
    text = page.report(rows)
    assert "| 200 (200 to 200) | 4.00 | 0.9900 (0.9800) | 0.4; 0.6 | 90.0 |" in text
