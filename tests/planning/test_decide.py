"""The whole decision on pictures: what is chosen, what is said, and that the test part has no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from tests.embedded import opened
from tests.noisy_digits import noisy_digits

import thawline as tl
from thawline.backbones.lines import depth_rungs, thaw_lines
from thawline.backbones.providers.timm_import import import_timm
from thawline.data.digits import open_digits
from thawline.inputs.image.kind import SIMPLE
from thawline.planning import FitPlan, make_plan, read_plan, write_plan
from thawline.planning.arms import Arm
from thawline.planning.choice import Gain, Honest
from thawline.planning.explain import against_guides, verdict_of, why_not
from thawline.planning.scenarios import look_up
from thawline.planning.trials import Trials

BRIEF = {"epochs": 3}
pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def hard() -> tl.Dataset:
    """Digits with a fifth of the labels drawn anew: enough errors to go on measuring."""
    return noisy_digits(60, 30, 0.2)


@pytest.fixture(scope="module")
def decided(hard: tl.Dataset, _module_cache: Path) -> FitPlan:
    """With trials of three epochs, which take a second in the place of ten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(_module_cache))
        return tl.plan(hard, opened(), seed=1, training=BRIEF)


def test_every_kind_of_arm_was_measured(decided: FitPlan) -> None:
    thaws = {one.thaw for one in decided.candidates}
    layers = {one.layer for one in decided.candidates}
    heads = {one.head for one in decided.candidates}
    assert thaws == {"none", "from:layer1.1"}  # of 60 samples, everything would learn less than the half of it
    assert {"pooled", SIMPLE.name} < layers
    assert any("," in layer for layer in layers)
    assert heads == {"logistic", "ridge", "svm", "knn"}
    assert [one.why for one in decided.candidates].count("chosen") == 1
    for one in decided.candidates:
        assert one.ci95[0] <= one.score <= one.ci95[1]
        assert 0 < one.n <= 60  # of the 60 to learn from
        assert (one.behind is None) == (one.why == "chosen")
        assert one.bytes == 0 or one.thaw != "none"


@pytest.mark.slow
def test_trials_of_full_length_try_the_same(hard: tl.Dataset) -> None:
    plan = tl.plan(hard, opened(), seed=1)
    assert {one.thaw for one in plan.candidates} == {"none", "from:layer1.1"}
    assert {one.head for one in plan.candidates} == {"logistic", "ridge", "svm", "knn"}


@pytest.mark.parametrize(
    ("whole", "gain", "expected"),
    [
        (1_500, 0.0, [("from:layer1.1", "")]),
        (1_500, 0.05, [("all", "")]),  # it begins at the middle
        (39, 0.0, [("from:layer1.1", ""), ("all", "from:layer1.1")]),
    ],
)
def test_which_lines_are_tried(
    hard: tl.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    whole: int,
    gain: float,
    expected: list[tuple[str, str]],
) -> None:
    """By whether a trial is a part of the training, with 40 samples, and what is expected of thawing everything."""
    tried = []

    def judge(self: Trials, setting: str, folds: range, before: Arm | None = None, *, over: str = "") -> Arm:
        tried.append((setting, over))
        logits = np.log(np.eye(3)[self.ground.field.labels] * 0.9 + 0.1 / 3)
        return Arm(name=setting, thaw=setting, layer="pooled", head="logistic", logits=logits, seconds=1.0, over=over)

    monkeypatch.setattr(Trials, "judge", judge)
    monkeypatch.setattr("thawline.planning.trials.WHOLE", whole)
    monkeypatch.setattr("thawline.planning.line_arms.more_than_middle", lambda n: gain)
    plan = tl.plan(hard, opened())
    assert tried == expected
    assert plan.thaw == expected[0][0]


def test_a_trial_is_short_where_samples_are_many_and_is_compared_with_a_head_on_the_same(
    hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thawline.planning.trials.WHOLE", 30)
    monkeypatch.setattr("thawline.planning.trials.MOST_TO_LEARN", 16)
    monkeypatch.setattr("thawline.planning.trials.OF_CLASS", 5)
    monkeypatch.setattr("thawline.planning.trials.MOST_TO_JUDGE", 8)
    splits, made = [], []
    trained, judge = Trials._trained, Trials.judge
    monkeypatch.setattr(
        Trials, "_trained", lambda self, plan, fold: splits.append(self._split(fold)) or trained(self, plan, fold)
    )

    def remembered(self: Trials, *args: Any, **options: Any) -> Arm:
        made.append(judge(self, *args, **options))
        return made[-1]

    monkeypatch.setattr(Trials, "judge", remembered)
    plan = tl.plan(hard, opened(), training=BRIEF)
    assert len(splits) >= 2  # of the line in the middle, and of everything
    for split in splits:
        assert len(split.train) <= 20
        assert len(split.val) <= 10
        assert not set(split.train) & set(split.val)
        assert set(hard.labels[split.train]) == set(hard.labels)
    line = made[0]
    assert line.start is not None
    assert np.array_equal(line.judged, line.start.judged)
    assert np.count_nonzero(line.judged) == len(splits[0].val)
    assert not np.array_equal(line.logits, line.start.logits)
    assert line.learned == len(splits[0].train)
    assert any(f"learned from {line.learned} samples" in reason for reason in plan.reasons)


def test_the_plan_is_whole_and_can_be_replayed(decided: FitPlan, hard: tl.Dataset, tmp_path: Path) -> None:
    write_plan(decided, tmp_path / "plan.toml")
    again = read_plan(tmp_path / "plan.toml")
    assert again == decided
    chosen = next(one for one in decided.candidates if one.why == "chosen")
    assert (decided.thaw, decided.layer, decided.head) == (chosen.thaw, chosen.layer, chosen.head)
    assert decided.verdict in (tmp_path / "plan.toml").read_text()
    run = tl.fit(hard, again, run=tmp_path / "run")
    assert run.plan.thaw == decided.thaw


def test_the_test_part_has_no_say(hard: tl.Dataset, decided: FitPlan) -> None:
    """Other labels in the test part change nothing that was measured."""
    turned = hard.labels.copy()
    test = hard.given == "test"
    turned[test] = (turned[test] + 1) % 3
    again = tl.plan(replace(hard, labels=turned), opened(), seed=1, training=BRIEF)
    assert [one.model_dump(exclude={"seconds", "memory"}) for one in again.candidates] == [
        one.model_dump(exclude={"seconds", "memory"}) for one in decided.candidates
    ]


def test_where_nothing_is_left_to_decide_nothing_else_is_tried(
    tiny_photos: Path, clean_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", str(clean_cache))  # what it computes is counted
    data = tl.open_data(tiny_photos)
    planned = make_plan(data, tl.open_backbone())
    assert [one.name for one in planned.plan.candidates] == ["last layer, logistic"]
    assert "could not tell another way from it" in " ".join(planned.plan.reasons)
    assert planned.evidence is None
    assert planned.computed == len(data)
    assert planned.seconds > 0


def test_explaining_measures_size_and_likeness_all_the_same(tiny_photos: Path) -> None:
    planned = make_plan(tl.open_data(tiny_photos), tl.open_backbone(), explain=True)
    assert planned.evidence is not None
    assert set(planned.evidence.to_json()) == {"size", "similarity", "scenario"}
    assert not any(one.thaw != "none" for one in planned.plan.candidates)
    assert SIMPLE.name in {one.layer for one in planned.plan.candidates}
    reasons = " ".join(planned.plan.reasons)
    assert "the guides say" in reasons
    assert "Measuring " in reasons


def test_settings_of_training_reach_the_trials_and_the_plan(hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def judge(self: Trials, setting: str, folds: range, before: Arm | None = None, *, over: str = "") -> Arm:
        seen.append(self.planned(setting).training)
        logits = np.log(np.eye(3)[self.ground.field.labels] * 0.9 + 0.1 / 3)
        return Arm(name=setting, thaw=setting, layer="pooled", head="logistic", logits=logits, seconds=1.0)

    monkeypatch.setattr(Trials, "judge", judge)
    plan = tl.plan(hard, opened(), training={"lr": 3e-4, "epochs": 2})
    assert {training.lr for training in seen if training} == {3e-4}
    assert plan.thaw != "none"
    assert plan.training is not None
    assert (plan.training.lr, plan.stages[0].epochs + plan.stages[0].joint_epochs) == (3e-4, 2)


def test_settings_that_cannot_be_are_refused_before_anything_is_measured(hard: tl.Dataset) -> None:
    with pytest.raises(tl.ThawlineError, match="lr"):
        tl.plan(hard, opened(), training={"lr": -1})


def test_depths_end_with_the_last_and_hold_no_layer_twice() -> None:
    ladder = tl.open_backbone().ladder
    names = depth_rungs(ladder)
    assert names[-1] == "pooled"
    assert len(set(names)) == len(names) <= 9
    assert set(names) <= {rung.read_at for rung in ladder.rungs}


def test_lines_go_from_the_end_to_everything() -> None:
    ladder = tl.open_backbone().ladder
    lines = thaw_lines(ladder)
    below = [next(rung.flops_below_frac for rung in ladder.rungs if f"from:{rung.name}" == line) for line in lines[:-1]]
    assert lines[-1] == "all"
    assert below == sorted(below, reverse=True)


def arm(thaw: str = "none", layer: str = "pooled", *, wrong: int = 0) -> Arm:
    """Of 40 samples, the first few wrong."""
    named = (np.arange(40) + (np.arange(40) < wrong)) % 2
    logits = np.log(np.eye(2)[named] * 0.8 + 0.1)
    return Arm(name="x", thaw=thaw, layer=layer, head="logistic", logits=logits, seconds=0.0)


@pytest.mark.parametrize(
    ("honest", "chosen", "text"),
    [
        # above the commonest class at 95 % by a one-sided interval, which is what is asked
        (Honest(0.66, (0.49, 0.79), 0.52, 40), "none", "^Retrain only the head"),
        (
            Honest(0.55, (0.4, 0.7), 0.42, 40),
            "none",
            r"^Nothing was learned: about 55.0 % .* not clearly more than the 50.0 % .* commonest class",
        ),
        (
            Honest(0.95, (0.9, 0.98), 0.91, 40),
            "none",
            r"^Retrain only the head.*: about 95.0 % of unseen samples right \(95 % 90.0 to 98.0\)\.$",
        ),
        (
            Honest(0.95, (0.9, 0.98), 0.91, 40),
            "all",
            r"^Retrain everything: about 95.0 % .* in a short trial .* \+10.0 points over a new head .* \(n=40\)\.$",
        ),
        (
            Honest(0.95, (0.9, 0.98), 0.91, 40),
            "from:b.2",
            r"^Retrain everything from b.2 on: .* no gain \(\+0.0 points .*nearly always gained on other data\.$",
        ),
        (
            Honest(0.95, (0.9, 0.98), 0.91, 40),
            "fewer",
            r"everything: .* in a short trial on 600 samples .* \+20.0 points .* on the same samples \(n=40\)\.$",
        ),
    ],
)
def test_the_verdict(honest: Honest, chosen: str, text: str) -> None:
    import re

    first = arm(wrong=4)
    begun = replace(arm("all", wrong=2), name="fewer", learned=600, start=arm(wrong=10))
    of = {"none": first, "all": arm("all"), "from:b.2": arm("from:b.2", wrong=4), "fewer": begun}
    verdict = verdict_of(of[chosen], first, honest, np.arange(40) % 2)
    assert re.search(text, verdict), verdict


def test_the_guides_agree_or_are_overruled() -> None:
    similar = look_up("small", "similar")
    assert "agrees" in against_guides(similar, arm())
    assert "next" in against_guides(similar, arm(layer="a,b"))
    assert "overrules" in against_guides(similar, arm("all"))


@pytest.mark.parametrize(
    ("loss", "error", "of", "text"),
    [
        (0.1, 0.01, {}, "log loss 0.100 higher, clearly (SE 0.010, n=50)"),
        (0.1, 0.09, {}, "log loss 0.100 higher (SE"),
        (-0.01, 0.09, {}, "chance may give as much"),
        (-0.1, 0.02, {}, "too small a gain for its trouble"),
        (-0.1, 0.02, {"in_trial": True}, "a whole training is expected to gain more"),
        (-0.1, 0.02, {"in_trial": True, "shown_only": True}, "never chosen"),
    ],
)
def test_why_an_arm_lost(loss: float, error: float, of: dict[str, bool], text: str) -> None:
    assert text in why_not(Gain(loss, error, 0.0, 50), **{"shown_only": False, "in_trial": False} | of)


def test_a_vision_transformer_is_planned_by_default(tmp_path: Path) -> None:
    """Its stem ends with a position embedding, which is no module that could be read."""
    module = import_timm().create_model("test_vit")
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)
    plan = tl.plan(open_digits(6), tl.open_backbone(f"timm/test_vit@{path}"))
    assert any("all depths" in candidate.name for candidate in plan.candidates)
