"""Trials of a line: the first part of its training, stopped where they cannot win."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.embedded import opened

import thawline as tl
from thawline.features import extract_features
from thawline.planning import Ground, trials
from thawline.planning.budget import Budget
from thawline.planning.planned import Begun, TrialsFolder
from thawline.planning.trials import FUTILE, Futility, Trials
from thawline.planning.ways import Way
from thawline.randomness import generator
from thawline.training.checkpoint import read_checkpoint
from thawline.training.stages import STAGES_FILE

LINE = "last:2"
pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def data() -> tl.Dataset:
    """Digits of three classes, 60 to learn from."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(n_class=3, return_X_y=True)
    pictures = np.rint(pixels[:90].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    opened_data = tl.open_data(pictures, labels[:90], given=["train"] * 60 + ["test"] * 30)
    return replace(opened_data, groups=np.arange(90))


Make = Callable[..., Trials]


@pytest.fixture
def make(data: tl.Dataset, tmp_path: Path) -> Make:
    """Makes trials of the data, given settings of training."""

    def made(progress: Callable[[str, int, int], None] = lambda *_: None, **training: Any) -> Trials:
        planned = cache(lambda thaw: tl.plan(data, opened(), thaw=thaw, training={"epochs": 5, **training}))
        ground = Ground.of(data, planned(LINE))
        values = extract_features(data, opened()).values
        return Trials(
            ground=ground,
            backbone=opened(),
            values=values,
            planned=planned,
            progress=progress,
            budget=Budget(),
            folder=tmp_path / "trials",
        )

    return made


def losses(mean: float, spread: float = 0.1, n: int = 200) -> Any:
    drawn = generator(0, "losses", str(mean)).normal(size=n)
    return mean + spread * (drawn - drawn.mean()) / drawn.std()


@pytest.mark.parametrize(
    ("done", "worse", "futile"),
    [
        (0.25, 0.5 * FUTILE, False),  # what is left may make up for it
        (0.25, 0.9 * FUTILE, True),
        (0.75, 0.5 * FUTILE, True),
        (0.75, 0.1 * FUTILE, False),
        (0.25, 0.0, False),
        (0.25, -0.5, False),
        (1.0, 5.0, False),  # it is over: nothing can be saved
    ],
)
def test_a_trial_is_futile_if_the_steps_left_cannot_make_up_for_what_it_lost(
    done: float, worse: float, futile: bool
) -> None:
    start = losses(2.0)
    stopped = Futility(len(start))
    stopped.at(done)
    assert stopped.is_futile(start, start + 2.0 * worse) == futile
    assert stopped.was == futile


def test_a_loss_within_the_noise_is_not_futile() -> None:
    start, now = losses(1.0, 3.0, 20), losses(1.0 + 1.5 * FUTILE, 3.0, 20)
    stopped = Futility(20)
    stopped.at(0.5)
    assert not stopped.is_futile(start, now)
    stopped = Futility(1)
    assert not stopped.is_futile(start[:1], now[:1] + 9)


def test_a_hopeless_trial_stops_early_and_is_not_gone_on_from(make: Make) -> None:
    heard: list[tuple[str, int, int]] = []
    tried = make(lambda *of: heard.append(of), lr=10.0, clip_norm=0.0, warmup_frac=0.0)
    arm = tried.judge(LINE, range(1))
    assert arm.start is not None
    labels = tried.ground.field.labels
    assert np.nanmean(arm.losses(labels)) > np.nanmean(arm.start.losses(labels))
    steps = [(done, total) for what, done, total in heard if what.startswith("trying")]
    assert steps[-1][0] < steps[-1][1]
    assert tried.begun(tried.planned(LINE)) is None


def test_a_trial_that_is_not_hopeless_makes_all_its_steps_and_is_gone_on_from(make: Make) -> None:
    heard: list[tuple[str, int, int]] = []
    tried = make(lambda *of: heard.append(of))
    before, disk = tried.cost(LINE)
    assert (before, disk) == (0.0, 0)  # nothing is timed
    tried.judge(LINE, range(3))
    steps = [(done, total) for what, done, total in heard if what == f"trying {LINE}, fold 1"]
    assert steps[-1][0] == steps[-1][1]
    plan = tried.planned(LINE)
    folder = tried.begun(plan)
    assert folder is not None
    found = read_checkpoint(folder / STAGES_FILE)
    assert found is not None
    held = tried.ground.held_out(plan)
    assert [record["name"] for record in found[1]["records"]] == [LINE]
    assert found[1]["records"][0]["details"]["val_n"] == len(held.val)
    # another plan of that line, or another line, is another training
    (stage,) = plan.stages
    for other in ({"epochs": stage.epochs + 1}, {"views": stage.views + 1}):
        assert tried.begun(plan.changed(stages=(stage.changed(**other),))) is None
    assert tried.begun(plan.changed(stages=(stage.changed(joint_epochs=1),))) == folder
    assert tried.begun(tried.planned("last:3")) is None
    longer = plan.changed(stages=(stage.changed(epochs=stage.epochs + 1),))
    assert tried.cost(LINE, longer)[0] > 1.5 * tried.cost(LINE)[0]  # of which the trial has done a part


def test_a_trial_on_a_part_of_the_samples_is_not_gone_on_from(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "WHOLE", 20)
    tried = make()
    assert tried.are_parts
    tried.judge(LINE, range(1))
    assert tried.begun(tried.planned(LINE)) is None


def test_a_trial_of_everything_begins_in_the_middle(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = make()
    arm = tried.judge("all", range(1))
    plan = tried.planned("all")
    (stage,) = plan.stages
    assert (stage.thaw, stage.goal, arm.thaw, arm.thawed) == ("from:layer1.1", "all", "all", 1.0)
    folder = tried.begun(plan)
    assert folder is not None
    found = read_checkpoint(folder / STAGES_FILE)
    assert found is not None and [record["name"] for record in found[1]["records"]] == [stage.thaw]
    assert tried.begun(tried.planned(stage.thaw)) is None  # its own trial would be another training
    assert tried.has_paces("all")
    without = plan.changed(stages=(stage.changed(joint_epochs=0),))
    assert tried.cost("all")[0] > tried.cost("all", without)[0] >= 0


def test_a_trial_of_everything_on_a_part_of_the_samples_thaws_everything(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "WHOLE", 20)
    tried = make()
    tried.judge("from:layer1.1", range(1))
    tried.judge("all", range(1))
    assert tried._paces.keys() == {Way("from:layer1.1"), Way("all")}
    found = read_checkpoint(tried.folder / "all-0" / STAGES_FILE)
    assert found is not None
    (record,) = found[1]["records"]
    assert (record["name"], record["details"]["rung"], record["frozen"]) == ("all", "input", 0)


def test_the_folder_of_trials_goes_with_the_last_that_holds_it() -> None:
    folder = TrialsFolder()
    begun = Begun(folder.path / "a", folder)
    (folder.path / "a").mkdir()
    del folder
    path = begun.folder
    assert path.is_dir()
    del begun  # without a warning, which would be an error here
    assert not path.parent.exists()


def test_the_first_fold_is_judged_by_what_the_training_holds_out(make: Make) -> None:
    tried = make()
    field, held = tried.ground.field, tried.ground.held_out(tried.planned(LINE))
    arm = tried.judge(LINE, range(1))
    assert np.array_equal(field.rows[arm.judged], held.val)
    assert set(tried.ground.split.val) <= set(held.val)
    assert arm.learned == 0  # not from fewer samples than there are
