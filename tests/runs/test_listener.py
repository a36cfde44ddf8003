"""What a run says while it runs: nothing is lost when it is killed, and nothing is said twice."""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from thawline.errors import UsageError
from thawline.listening import Silent
from thawline.runs import listener as listening
from thawline.runs.listener import Both, EventLog
from thawline.training_records import Evaluated

ROW = Evaluated(
    stage="last:2",
    stage_number=2,
    n_stages=3,
    epoch=1.5,
    step=30,
    n_steps=60,
    train_loss=0.5,
    val_loss=0.25,
    val_accuracy=0.875,
    samples_per_s=120.0,
    seconds_left=12.5,
    lr=1e-3,
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write("start", data="fotoş")
    log.note("a remark")
    log.evaluated(ROW)
    start, note, evaluation = lines(tmp_path / "events.jsonl")
    assert (start["event"], start["data"]) == ("start", "fotoş")
    assert (note["event"], note["text"]) == ("note", "a remark")
    assert evaluation.pop("seconds") >= 0
    assert evaluation == {"event": "evaluation"} | asdict(ROW)
    log.close()


def test_it_goes_on_below_and_counts_the_seconds_of_all_sessions(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path, spent_s=100.0)
    assert first.earlier_s == 0.0
    time.sleep(0.05)
    first.write("phase")
    first.close()
    with path.open("a") as file:
        file.write('{"seconds": 999, "event": "cut off in the mid')  # killed while it wrote
    second = EventLog(path, spent_s=20.0)
    assert second.earlier_s == pytest.approx(100.05, abs=0.04)
    second.write("resume")
    second.close()
    assert [line["event"] for line in lines(path)] == ["phase", "resume"]
    assert lines(path)[1]["seconds"] == pytest.approx(second.earlier_s + 20.0, abs=0.04)


@pytest.mark.parametrize("content", ["", "no newline at all", "[1]\n", '{"event": "start"}\n', "\x00\x00\n"])
def test_a_log_that_says_nothing_of_seconds_counts_from_nought(tmp_path: Path, content: str) -> None:
    (tmp_path / "events.jsonl").write_text(content)
    log = EventLog(tmp_path / "events.jsonl")
    log.write("resume")
    log.close()
    assert log.earlier_s == 0.0
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])["event"] == "resume"


def test_progress_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    now = time.monotonic()
    for done, after_s in enumerate((1, 9, 11, 12, 20, 22), 1):
        monkeypatch.setattr(listening.time, "monotonic", lambda after_s=after_s: now + after_s)
        log.progress("features", done, 6)
    log.close()
    assert [(line["done"], line["total"]) for line in lines(tmp_path / "events.jsonl")] == [(3, 6), (6, 6)]


def test_both_hear_everything() -> None:
    heard: list[tuple[object, ...]] = []

    class Ear(Silent):
        def __init__(self, name: str) -> None:
            self.name = name

        def progress(self, phase: str, done: int, total: int) -> None:
            heard.append((self.name, phase, done, total))

        def note(self, text: str) -> None:
            heard.append((self.name, text))

        def evaluated(self, row: Evaluated) -> None:
            heard.append((self.name, row))

    both = Both(Ear("left"), Ear("right"))
    both.progress("features", 1, 2)
    both.note("a remark")
    both.evaluated(ROW)
    said = [("features", 1, 2), ("a remark",), (ROW,)]
    assert heard == [(name, *what) for what in said for name in ("left", "right")]


def test_curves_are_mirrored_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step in (30, 60):  # two sessions
        log = EventLog(tmp_path / "events.jsonl", tensorboard=tmp_path / "tensorboard")
        log.evaluated(replace(ROW, step=step))
        log.evaluated(replace(ROW, stage="refit", stage_number=3, step=step, val_loss=None, val_accuracy=None))
        log.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = {"train_loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.875, "lr": 1e-3, "samples_per_s": 120.0}
    without_val = {"train_loss", "lr", "samples_per_s"}
    tags = {f"02_last:2/{name}" for name in expected} | {f"03_refit/{name}" for name in without_val}
    assert set(read.Tags()["scalars"]) == tags
    for name, value in expected.items():
        points = read.Scalars(f"02_last:2/{name}")
        assert [(point.step, point.value) for point in points] == [
            (30, pytest.approx(value)),
            (60, pytest.approx(value)),
        ]


def test_a_missing_tensorboard_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "find_spec", lambda name: None)
    assert importlib.util.find_spec("tensorboard")
    with pytest.raises(UsageError, match=r"pip install 'thawline\[tensorboard\]'"):
        EventLog(tmp_path / "events.jsonl", tensorboard=tmp_path / "tensorboard")
