"""Records that go into files keep the keys that files have always had, and come back from them as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thawline.records import HeadSearch, StageReport
from thawline.training_records import InputsReport, Point, TrainingReport, ValidationReport

SOLVED: dict[str, Any] = {
    "name": "head", "trainable": 30, "frozen": 1000, "score": 0.5, "score_name": "log loss", "seconds": 0.25,
    "details": {"kind": "logistic", "chosen": 0.1, "path": [{"C": 0.1, "mean": 0.5}]},
}  # fmt: skip
POINT = {"step": 8, "epoch": 2.0, "train_loss": 0.75, "val_loss": 0.5, "val_accuracy": 0.875}
CACHE = {"kind": "boundary", "computed": 3, "reused": 5, "bytes": 64, "made_from": "pictures", "seconds": 0.5}
TRAINED: dict[str, Any] = SOLVED | {
    "name": "last:2",
    "details": {
        "thaw": "last:2", "rung": "layer3", "epochs": 2.0, "steps": 8, "best_step": 8, "kept": False, "views": 2,
        "cache": CACHE, "history": [POINT], "val_loss_ci95": [0.25, 0.75], "val_accuracy": 0.875,
        "val_ci95": [0.75, 0.96875], "val_n": 16, "temperature": 1.25,
    },
}  # fmt: skip
REFITTED: dict[str, Any] = TRAINED | {
    "score": None,
    "details": {
        name: value for name, value in TRAINED["details"].items() if "val" not in name and name != "temperature"
    }
    | {"cache": {"kind": "fresh"}},
}


@pytest.mark.parametrize("plain", [SOLVED, TRAINED, REFITTED], ids=["solved", "trained", "refitted"])
def test_a_stage_has_the_keys_of_metrics_json_in_their_order(plain: dict[str, Any]) -> None:
    report = StageReport.from_json(plain)
    assert json.dumps(report.to_json()) == json.dumps(plain)
    assert StageReport.from_json(report.to_json()) == report


def test_what_a_stage_says_is_typed() -> None:
    solved, trained, refitted = (StageReport.from_json(plain) for plain in (SOLVED, TRAINED, REFITTED))
    assert solved.details == HeadSearch(kind="logistic", chosen=0.1, path=({"C": 0.1, "mean": 0.5},))
    assert (solved.training, solved.kept, trained.kept) == (None, True, False)
    training = trained.training
    assert isinstance(training, TrainingReport)
    assert training.cache == InputsReport(**CACHE)
    assert training.history == (Point(**POINT),)  # type: ignore[arg-type]
    assert training.validation == ValidationReport(
        loss_ci95=(0.25, 0.75), accuracy=0.875, accuracy_ci95=(0.75, 0.96875), n=16, temperature=1.25
    )
    assert refitted.training is not None and refitted.training.validation is None


def test_a_stage_without_details_has_an_empty_object() -> None:
    plain = SOLVED | {"details": {}}
    assert StageReport.from_json(plain).to_json() == plain
