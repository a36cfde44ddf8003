"""Ways by pairs: named, planned, refused, tried beside the cross-entropy; and the curve that asks when either pays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.toy_text import text_dataset, toy_encoder

import thawline as tl
from thawline.backbones import Backbone
from thawline.errors import DataError, UsageError
from thawline.listening import Silent
from thawline.planning import Asked, Ground, make_plan
from thawline.planning.few_samples import FEW_OF_CLASS, worth_pairs
from thawline.planning.fine_tuning_curve import DRAWS, fine_tuning_curve
from thawline.planning.stage_plans import PAIRS_LR, whole_epochs
from thawline.planning.ways import Way
from thawline.records import Dataset
from thawline.training.schedule import n_pairs
from thawline.training.settings import TrainAsk, TrainPlan

BY_PAIRS = {"objective": "contrastive", "pairs": 4_000}


def asked(**settings: Any) -> TrainAsk:
    return TrainAsk.model_validate(settings)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Texts of two classes: 60 to learn from, 20 to test."""
    made = text_dataset(80)
    return replace(made, given=np.array(["train"] * 60 + ["test"] * 20))


@pytest.fixture
def encoder() -> Backbone:
    return toy_encoder()


@pytest.mark.parametrize("way", [Way("all"), Way("from:blocks.1", by_pairs=True), Way("none")])
def test_a_way_is_read_as_it_was_written(way: Way) -> None:
    assert Way.read(str(way)) == way


def test_a_thaw_setting_alone_is_a_way() -> None:
    assert Way.read("last:2") == Way("last:2")
    assert str(Way("last:2")) == "last:2"
    assert Way("all", by_pairs=True).training(asked(lr=0.1)).objective == "contrastive"
    assert Way("all").training(asked(lr=0.1)) == asked(lr=0.1)


@pytest.mark.parametrize(
    ("kind", "of_class", "settings", "worth"),
    [
        ("text", 8, {}, True),
        ("text", 8, {"lr": 0.1}, True),
        ("text", FEW_OF_CLASS, {}, False),
        ("text", 1.5, {}, False),
        ("image", 8, {}, False),
        ("text", 8, {"objective": "cross-entropy"}, False),
        ("text", 8, {"mixup": 0.2}, False),
    ],
)
def test_pairs_are_tried_on_texts_of_few_samples_unless_the_user_decided(
    kind: str, of_class: float, settings: dict[str, Any], worth: bool
) -> None:
    assert worth_pairs(kind, of_class, asked(**settings)) == worth


def test_a_plan_by_pairs_has_a_rate_and_epochs_of_its_own(data: Dataset, encoder: Backbone) -> None:
    plan = tl.plan(data, encoder, thaw="all", training=BY_PAIRS)
    assert plan.training is not None
    assert (plan.training.objective, plan.training.lr, plan.training.evaluations) == ("contrastive", PAIRS_LR, 1)
    assert Way.of(plan) == Way("all", by_pairs=True)
    (stage,) = plan.stages
    epochs = stage.epochs + stage.joint_epochs
    n = int((data.given == "train").sum()) if data.given is not None else 0
    compared = epochs * (n // plan.training.batch_size) * n_pairs(plan.training.batch_size)
    assert compared == pytest.approx(4_000, rel=0.2)
    usual = tl.plan(data, encoder, thaw="all").training
    assert usual is not None and usual.objective == "cross-entropy" and usual.lr != PAIRS_LR


def test_more_samples_make_fewer_epochs_by_pairs() -> None:
    training = TrainPlan(objective="contrastive", pairs=100 * n_pairs(32))
    assert [whole_epochs(n, training, of_texts=True) for n in (32, 320, 100_000)] == [100, 10, 2]


@pytest.mark.parametrize(
    ("settings", "training", "text"),
    [
        ({"thaw": "none", "head": "mlp"}, BY_PAIRS, "got an MLP head. Leave out --set objective=contrastive"),
        ({"thaw": "all", "from_scratch": True}, BY_PAIRS, "got random weights. Leave out"),
        ({"thaw": "all"}, {**BY_PAIRS, "mixup": 0.2}, "objective contrastive must do without mixup"),
        ({"thaw": "all"}, {**BY_PAIRS, "accumulate": 2}, "must do without accumulate above 1"),
        ({"thaw": "all"}, {**BY_PAIRS, "class_weights": "balanced"}, "must do without class_weights"),
        ({"thaw": "all"}, {"objective": "contrastiv"}, "'cross-entropy' or 'contrastive'"),
        ({"thaw": "all"}, {"pairs": 0}, "greater than or equal to 1"),
    ],
)
def test_what_is_refused(
    data: Dataset, encoder: Backbone, settings: dict[str, Any], training: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        tl.plan(data, encoder, training=training, **settings)


@pytest.mark.slow
def test_a_plan_of_few_texts_tries_pairs_and_a_fit_goes_on_from_the_trial(data: Dataset, encoder: Backbone) -> None:
    planned = make_plan(data, encoder, Asked.of(training={"pairs": 4_000, "lr": 3e-3, "epochs": 6}), explain=True)
    found = {one.name: one for one in planned.plan.candidates}
    lines = [one for one in found.values() if one.thaw != "none"]
    assert {one.objective for one in lines} == {"cross-entropy", "contrastive"}
    (pairs,) = [one for one in lines if one.objective == "contrastive"]
    assert pairs.name.startswith("fine-tuning by pairs, ")
    assert pairs.seconds > 0
    assert all(one.objective == "" for one in found.values() if one.thaw == "none")
    chosen = next(one for one in found.values() if one.behind is None)
    if chosen.thaw != "none":
        assert planned.plan.training is not None
        assert planned.plan.training.objective == chosen.objective
        assert planned.begun is not None, "the trial was the first part of the training"


def test_a_curve_of_texts(data: Dataset, encoder: Backbone) -> None:
    plan = tl.plan(data, encoder, thaw="none")
    ground = Ground.of(data, plan, validating=True)
    heard: list[str] = []

    class Hears:
        def progress(self, phase: str, done: int, total: int) -> None:
            heard.append(phase)

        def note(self, text: str) -> None:
            heard.append(text)

    found = fine_tuning_curve(ground, encoder, plan, asked(epochs=1, pairs=1_000), Hears())
    learned = int((~ground.field.inside(0)).sum())
    assert [one.n for one in found.reached] == pytest.approx([learned / 8, learned / 4, learned / 2, learned], abs=1)
    assert [one.draws for one in found.reached] == [DRAWS, DRAWS, DRAWS, 1]
    assert found.judged == int(ground.field.inside(0).sum())
    assert all(Way.read(one.way).by_pairs for one in found.reached), "few texts of each class"
    assert found.words.startswith("Fine-tuning ")
    assert f"training 7 of 7, {learned} samples" in heard
    again = fine_tuning_curve(ground, encoder, plan, asked(epochs=1, pairs=1_000), Hears())
    assert again == found


def test_a_larger_share_of_a_draw_holds_the_smaller(data: Dataset, encoder: Backbone) -> None:
    from thawline.planning.fine_tuning_curve import _Measuring

    plan = tl.plan(data, encoder, thaw="none")
    measuring = _Measuring(Ground.of(data, plan, validating=True), encoder, plan, asked(), Silent())
    eighth, half, other = (set(measuring._drawn(*of).tolist()) for of in ((1 / 8, 0), (1 / 2, 0), (1 / 2, 1)))
    assert eighth < half
    assert half != other
    assert not half & set(measuring._judge.tolist())
    assert {int(data.labels[row]) for row in eighth} == {0, 1}


def test_a_curve_needs_samples_classes_and_layers_that_learn(data: Dataset, encoder: Backbone) -> None:
    plan = tl.plan(data, encoder, thaw="none")
    ground = Ground.of(data, plan, validating=True)
    few = text_dataset(8)
    with pytest.raises(DataError, match="data must leave 4 samples a class to learn from"):
        fine_tuning_curve(Ground.of(few, plan, validating=True), encoder, plan, asked(), Silent())
    with pytest.raises(UsageError, match="--curve must have a pre-trained model whose layers can learn; got random"):
        scratch = tl.plan(data, encoder, from_scratch=True)
        fine_tuning_curve(ground, encoder, scratch, asked(), Silent())
