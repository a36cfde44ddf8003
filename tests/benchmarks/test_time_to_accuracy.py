"""Time to accuracy: its cells, its resuming, its page. No rival is run."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest import approx

import thawline as tl

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield importlib.import_module("time_to_accuracy")


@pytest.fixture(scope="module")
def page(bench: ModuleType) -> ModuleType:
    return sys.modules["time_to_accuracy_page"]


def row(way: str, number: int, seconds: float, right: float = 0.9, **more: Any) -> dict[str, Any]:
    line = "half" if way.startswith(("given", "script")) else None
    return {
        "series": "s", "processor": "p", "asked_precision": "auto", "data": "ants", "n": 400, "round": number,
        "way": way, "line": line, "epochs": None, "date": "2026-01-02", "seconds": seconds, "cpu_s": 2 * seconds,
        "test_accuracy": right, "n_test": 100, "n_train": 244, **more,
    }  # fmt: skip


def of_table(lines: list[str], first: str) -> list[str]:
    found = next(line for line in lines if line.startswith(f"| {first}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_ratios_are_of_one_round_and_their_mean_is_geometric(page: ModuleType) -> None:
    rows = [row("script", 1, 10.0), row("given", 1, 5.0), row("script", 2, 10.0), row("given", 2, 20.0),
            row("given", 3, 99.0), row("default", 1, 30.0),
            row("script", 1, 10.0, data="bees"), row("given", 1, 4.0, data="bees")]  # fmt: skip
    lines = page.report(rows).splitlines()
    assert of_table(lines, "ants") == ["ants", "244", "half", "20.0 (1.00)", "30.0 (3.00)", "10.0"]
    assert of_table(lines, "bees")[3:] == ["4.0 (0.40)", "", "10.0"]
    means = of_table(lines, "geometric mean |")[3:]
    assert means[0].startswith(f"{math.sqrt(1.0 * 0.4):.2f} (0.40 to 1.00)") and means[2] == ""
    assert of_table(lines, "highest")[3:] == ["1.00", "3.00", ""]
    assert of_table(lines, "geometric mean, processor time")[3] == means[0]


def test_accuracies_are_compared_by_cell_and_round(page: ModuleType) -> None:
    rows = [row("script", k, 1.0, 0.80) for k in (1, 2)] + [row("given", k, 1.0, 0.80 + k / 100) for k in (1, 2, 3)]
    assert "- `fit --thaw LINE` less script: +1.50 points (+1.00 to +2.00), 2 pairs" in page.report(rows)


def test_two_versions_stand_side_by_side(page: ModuleType) -> None:
    rows = [row("default", 1, 3.0, 0.91, commit="new"), row("default, before", 1, 12.0, 0.90, commit="old")]
    text = page.report(rows)
    lines = text[text.index("those of the version before") :].splitlines()
    assert of_table(lines, "ants")[3] == "0.25 (+1.0)"
    assert "Thawline at new; before at old." in text
    assert "- `fit` less `fit`, before: +1.00 points" in text


def test_a_way_that_is_not_told_the_line_serves_every_line(page: ModuleType) -> None:
    rows = [row("script", 1, 10.0), row("script", 1, 20.0, line="all"), row("default", 1, 30.0)]
    lines = page.report(rows).splitlines()
    assert of_table(lines, "ants | 244 | half")[3] == "30.0 (3.00)"
    assert of_table(lines, "ants | 244 | all")[3] == "30.0 (1.50)"


def test_time_to_99_percent(page: ModuleType) -> None:
    curve = [{"seconds": s, "val_accuracy": a} for s, a in ((1, 0.5), (2, 0.891), (3, 0.7), (4, 0.9))]
    assert page.reached_on_curve({"curve": curve}) == 2
    assert page.reached_on_curve({"curve": []}) is None
    full, short, shorter = (row("given", 1, s, a, epochs=e) for s, a, e in ((9, 0.9, None), (5, 0.891, 4), (2, 0.7, 2)))
    assert page.reached_by_schedule([full, short, shorter]) == 5
    assert page.reached_by_schedule([full, shorter]) == 9
    text = page.report([full | {"curve": curve}, short, shorter])
    along, whole = text.split("quickest whole run")
    assert of_table(along[along.index("first within 1 %") :].splitlines(), "ants")[3] == "2.0"
    assert of_table(whole.splitlines(), "ants")[3] == "5.0" and "2, 4 epochs" in text


def asked(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy.py", *options])
    found: argparse.Namespace = bench.parse()
    return found


def test_what_must_be_shown_is_a_short_list(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = bench.wanted(asked(bench, monkeypatch))
    assert [cell.name for cell in shown] == [
        "hymenoptera, full, half", "flowers5_128, 400, half", "fashion_mnist_small, 400, half",
        "brain_mri, full, half", "flowers5_128 shuffled tiles, 400, half",
    ]  # fmt: skip
    assert bench.wanted(asked(bench, monkeypatch, "--must-show")) == shown
    assert {cell.line for cell in bench.wanted(asked(bench, monkeypatch, "--all-thawed"))} == {"all"}
    every = bench.wanted(asked(bench, monkeypatch, "--every-cell"))
    assert len(every) == 48 and len({cell.data for cell in every}) == 6
    few = bench.wanted(asked(bench, monkeypatch, "--every-cell", "--cells", "100, last", "brain_mri, full, all"))
    assert len(few) == 7


@pytest.mark.parametrize("folder", ["", "thawline"])
def test_before_must_be_a_folder_of_source(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        asked(bench, monkeypatch, "--before", str(tmp_path / folder))
    assert "--before must be a src folder that holds thawline/; got" in capsys.readouterr().err


def test_a_stopped_series_resumes_and_ways_take_turns(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[str, str | None, int]] = []

    def measure(setup: Any, job: Any, data: Path, seed: int) -> dict[str, Any]:
        started.append((job.way, job.line, seed))
        return {"seconds": 1.0, "cpu_s": 1.0, "test_accuracy": 0.5, "n_test": 10, "n_train": 10}

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "write_cell", lambda *of, **more: tmp_path)
    setup = bench.Bench(tmp_path, {}, tmp_path, None, False, False)
    cells, ways = [bench.Cell("ants", 100, line) for line in ("half", "all")], ["given", "default", "script"]
    given = argparse.Namespace(rounds=2, series="s", epochs=[])
    kept = tmp_path / "kept.jsonl"
    bench.measure_all(kept, setup, cells, ways, given)
    first = [("given", "half"), ("given, before", "half"), ("given", "all"), ("given, before", "all"),
             ("default", None), ("default, before", None), ("script", "half"), ("script", "all")]  # fmt: skip
    assert started == [(*job, 1) for job in first] + [(*job, 2) for job in first[1:] + first[:1]]
    kept.write_text("".join(line + "\n" for line in kept.read_text().splitlines()[:-1]))
    started.clear()
    bench.measure_all(kept, setup, cells, ways, given)
    assert started == [(*first[0], 2)]
    started.clear()
    given.series, given.rounds = "another", 1
    bench.measure_all(kept, setup, cells, ["script"], given)
    assert started == [(*job, 1) for job in first[-2:]]
    assert "## another" in kept.with_suffix(".md").read_text()


def test_every_command_is_told_what_it_may_know(bench: ModuleType, tmp_path: Path) -> None:
    setup = bench.Bench(tmp_path / "w", {"half": "from:blocks.3.1"}, None, "f32", True, False)

    def command(way: str, line: str | None, epochs: int | None = None) -> list[str]:
        found: list[str] = bench.command(setup, bench.Job(way, line, epochs), tmp_path, 7, tmp_path / "run")
        return found

    given, default, script = command("given", "half", 3), command("default", None), command("script", "half", 3)
    assert given[given.index("--thaw") + 1] == "from:blocks.3.1" and given[given.index("--epochs") + 1] == "3"
    assert "--thaw" not in default and "--epochs" not in default
    assert script[script.index("--line") + 1] == "blocks.3.1" and "--curve" in script
    for one in (given, default, script):
        assert one[one.index("--seed") + 1] == "7" and one[one.index("--precision") + 1] == "f32"


def test_pictures_of_a_cell_are_written_as_they_are(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    data = tl.open_data(pixels, np.arange(12) % 2, class_names=["a/b", "c"])
    given = np.array(["train"] * 6 + ["test"] * 6)
    monkeypatch.setattr(bench.judgement, "load", lambda name, n, seed: replace(data, given=given))
    folder = bench.write_cell("some, thing", 6, 0, tmp_path, most_to_test=4)
    files = sorted(folder.glob("*/*/*"))
    assert len(list(folder.glob("train/*/*"))) == 6 and len(list(folder.glob("test/*/*"))) == 4
    of = {picture.tobytes(): number for number, picture in enumerate(pixels)}
    numbers = [of[np.asarray(Image.open(io.BytesIO(file.read_bytes()))).tobytes()] for file in files]
    assert len(set(numbers)) == 10
    for number, file in zip(numbers, files, strict=True):
        assert (file.parent.name, file.parents[1].name) == ("c" if number % 2 else "a-b", given[number])


def test_a_run_is_read_whole(bench: ModuleType, tmp_path: Path) -> None:
    metrics = {
        "test": {"accuracy": {"value": 0.9, "n": 50}, "log_loss": {"value": 0.3}}, "n": {"train": 80, "val": 20},
        "thawed": "all", "seconds": {"planning": 1.0},
        "stages": [{"details": {}}, {"details": {"steps": 12}}, {"details": {"steps": 16}}],
    }  # fmt: skip
    events: list[dict[str, Any]] = [
        {"seconds": 1.0, "event": "start"},
        {"seconds": 5.0, "event": "evaluation", "step": 12, "val_accuracy": 0.8},
        {"seconds": 7.0, "event": "evaluation", "step": 16, "val_accuracy": None},
        {"seconds": 8.0, "event": "end"},
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = bench.fitted(tmp_path, 10.0)
    assert (found["test_accuracy"], found["n_train"], found["steps"]) == (0.9, 100, 28)
    assert found["curve"] == [{"step": 12, "seconds": approx(7.0), "val_accuracy": 0.8}]  # 2 s before its own clock


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("GIF", "png")])
def test_a_file_that_all_ways_read_stays_as_it_is(bench: ModuleType, kind: str, extension: str) -> None:
    picture = Image.new("RGB", (8, 8), (120, 130, 110))
    stored = io.BytesIO()
    picture.save(stored, kind)
    written, found = bench._file(stored.getvalue())
    assert found == extension
    assert (written == stored.getvalue()) == (kind != "GIF")
    assert list(map(int, np.asarray(Image.open(io.BytesIO(written)))[0, 0])) == approx([120, 130, 110], abs=4)
