"""A fit that decides by itself goes on from its trial, and ends as the fit of its own plan does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.embedded import opened
from tests.noisy_digits import noisy_digits

import thawline as tl
from thawline.listening import Silent
from thawline.planning import Asked, make_plan
from thawline.planning.arms import Arm
from thawline.planning.trials import Trials
from thawline.runs import Run
from thawline.training_records import Evaluated

LINE = "from:layer1.1"
pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def hard() -> tl.Dataset:
    """Digits of which a third of the labels was drawn anew."""
    return noisy_digits(90, 30, 0.3)


@pytest.fixture(scope="module", autouse=True)
def _it_pays(_module_cache: Path) -> Iterator[None]:
    """Trials are made as they are, and then said to have got everything right."""
    judge = Trials.judge

    def judged(self: Trials, setting: str, *of: Any, **options: Any) -> Arm:
        arm = judge(self, setting, *of, **options)
        logits = np.log(np.eye(3)[self.ground.field.labels] * 0.9 + 0.1 / 3)
        logits[~arm.judged] = np.nan
        return replace(arm, logits=logits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "judge", judged)
        yield


class Ears(Silent):
    """Remembers evaluations; interrupts one stage of training at its second step if asked to."""

    def __init__(self, stop_in: str = "") -> None:
        self.rows: list[Evaluated] = []
        self.stop_in = stop_in

    def evaluated(self, row: Evaluated) -> None:
        self.rows.append(row)

    def progress(self, phase: str, done: int, total: int) -> None:
        if phase == self.stop_in and done == 2:
            raise KeyboardInterrupt


def asked(**settings: Any) -> Asked:
    """Small steps: the trial harms nothing, and is not given up."""
    return Asked.of(training={"epochs": 5, "lr": 1e-4}, **settings)


@pytest.fixture(scope="module")
def whole(
    hard: tl.Dataset, _it_pays: None, _module_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Ears]:
    """A fit that decided by itself, and what it heard."""
    ears, folder = Ears(), tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(_module_cache))
        return tl.fit(hard, asked(), backbone=opened(), run=folder, listener=ears), ears  # type: ignore[arg-type]


def assert_same(one: Run, other: Run) -> None:
    assert (one.plan.stages, one.plan.training) == (other.plan.stages, other.plan.training)
    for file in ("model.safetensors", "predictions.csv"):
        assert (one.folder / file).read_bytes() == (other.folder / file).read_bytes(), file
    stages = [json.loads((run.folder / "receipt.json").read_text())["stages"][1:] for run in (one, other)]
    assert stages[0] == stages[1]
    assert one.report.score("log_loss") == other.report.score("log_loss")
    assert one.report.content["validation"] == other.report.content["validation"]


def test_going_on_from_the_trial_gives_the_bits_of_the_plan(
    hard: tl.Dataset, whole: tuple[Run, Ears], tmp_path: Path
) -> None:
    (run, ears), again = whole, Ears()
    assert run.plan.thaw == run.report.content["thawed"] == LINE
    replayed = tl.fit(hard, run.plan, backbone=opened(), run=tmp_path / "b", listener=again)
    assert {row.stage for row in ears.rows} == {f"{LINE}, all samples"}  # the trial was the rest
    assert again.rows[0].stage == LINE
    names = [[stage["name"] for stage in one.report.content["stages"]] for one in (run, replayed)]
    assert names[0] == names[1] == ["head", LINE, f"{LINE}, all samples"]
    assert_same(run, replayed)


def test_killed_after_the_trial_it_ends_with_the_same_bits(
    hard: tl.Dataset, whole: tuple[Run, Ears], tmp_path: Path
) -> None:
    stopping = Ears(f"{LINE}, all samples")
    with pytest.raises(KeyboardInterrupt):
        tl.fit(hard, asked(), backbone=opened(), run=tmp_path / "b", listener=stopping)  # type: ignore[arg-type]
    ears = Ears()
    resumed = tl.resume(tmp_path / "b", data=hard, listener=ears)
    assert {row.stage for row in ears.rows} == {f"{LINE}, all samples"}
    assert_same(resumed, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])  # after the first, the run would have nothing to keep
def test_killed_while_the_trial_is_taken_over_it_ends_with_the_same_bits(
    hard: tl.Dataset, whole: tuple[Run, Ears], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    planned = make_plan(hard, opened(), asked())
    copy, copied = shutil.copyfileobj, []

    def killed(source: Any, target: Any) -> None:
        copied.append(Path(source.name).name)
        if len(copied) == number:
            target.write(source.read(1_000))  # a part of the file
            raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("thawline.runs.walk.shutil.copyfileobj", killed)
        tl.fit(hard, planned, backbone=opened(), run=tmp_path / "b")  # type: ignore[arg-type]
    assert len(copied) == number
    assert_same(tl.resume(tmp_path / "b", data=hard), whole[0])


@pytest.mark.slow
def test_the_checkpoints_of_trials_go_when_the_fit_is_over(hard: tl.Dataset, tmp_path: Path) -> None:
    planned = make_plan(hard, opened(), asked())
    assert planned.begun is not None
    folder = planned.begun.folder
    assert folder.is_dir()
    tl.fit(hard, planned, backbone=opened(), run=tmp_path / "a")  # type: ignore[arg-type]
    del planned
    assert not folder.exists()


def test_validation_scores_are_of_the_validation_set_only(whole: tuple[Run, Ears]) -> None:
    content = whole[0].report.content
    held = content["stages"][1]["details"]["val_n"]
    assert content["n"]["val"] < held == 30  # a third
    assert {score["n"] for score in content["validation"].values()} == {content["n"]["val"]}
