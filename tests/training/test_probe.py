"""The probe learns from the training part, is measured on validation, and ships fitted on both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thawline.heads import fit_head
from thawline.records import HeadSearch, Split
from thawline.training import fit_probe

N, DIM, CLASSES = 120, 12, 3


def rows(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@pytest.fixture
def problem() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % CLASSES
    values = (rng.normal(size=(N, DIM)) + 1.5 * np.eye(DIM)[labels]).astype(np.float32)
    return {"values": values, "labels": labels, "groups": np.arange(N)}


def split(n_val: int) -> Split:
    order = np.arange(N)
    return Split(train=order[: 90 - n_val], val=order[90 - n_val : 90], test=order[90:], origin="", dropped=rows())


def probe(problem: dict[str, Any], parts: Split, kind: str = "logistic") -> Any:
    return fit_probe(
        kind,  # type: ignore[arg-type]
        problem["values"],
        problem["labels"],
        parts,
        CLASSES,
        groups=problem["groups"],
        seed=0,
        backbone_parameters=1000,
    )


@pytest.mark.parametrize("kind", ["logistic", "ridge", "svm"])
def test_the_test_part_changes_nothing(problem: dict[str, Any], kind: str) -> None:
    parts = split(20)
    before = probe(problem, parts, kind)
    problem["values"][parts.test] = 1e6
    problem["labels"][parts.test] = 0
    after = probe(problem, parts, kind)
    assert np.array_equal(before.head.weight, after.head.weight)
    assert before.stages[0].score == after.stages[0].score


def test_the_strength_is_chosen_on_the_training_part_alone(problem: dict[str, Any]) -> None:
    parts = split(20)
    before = probe(problem, parts)
    problem["labels"][parts.val] = (problem["labels"][parts.val] + 1) % CLASSES
    after = probe(problem, parts)
    assert before.probe.chosen == after.probe.chosen
    assert np.array_equal(before.validation_probabilities, after.validation_probabilities)
    assert not np.array_equal(before.head.weight, after.head.weight)  # the head that ships has seen the validation part


def test_validation_is_measured_by_a_head_that_has_not_seen_it(problem: dict[str, Any]) -> None:
    parts = split(20)
    fitted = probe(problem, parts)
    values, labels, groups = problem["values"], problem["labels"], problem["groups"]
    alone = fit_head("logistic", values[parts.train], labels[parts.train], CLASSES, groups=groups[parts.train])
    expected = alone.head.predict_proba(values[parts.val])
    assert fitted.validation_probabilities == pytest.approx(expected)


def test_the_shipped_head_is_fitted_on_both_parts(problem: dict[str, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    from thawline.heads.logistic import scale_features

    parts = split(20)
    fitted = probe(problem, parts)
    both = np.sort(np.concatenate([parts.train, parts.val]))
    scale = scale_features(problem["values"][both]).scale
    oracle = LogisticRegression(C=fitted.probe.chosen, tol=1e-10, max_iter=10_000)
    oracle.fit(problem["values"][both].astype(np.float64) / scale, problem["labels"][both])
    expected = oracle.predict_proba(problem["values"][parts.test].astype(np.float64) / scale)
    assert fitted.head.predict_proba(problem["values"][parts.test]) == pytest.approx(expected, abs=1e-5)


def test_without_validation_nothing_is_refitted(problem: dict[str, Any]) -> None:
    fitted = probe(problem, split(0))
    assert fitted.validation_probabilities is None
    assert fitted.head is fitted.probe.head


def test_the_stage_says_what_it_cost_and_what_learned(problem: dict[str, Any]) -> None:
    (stage,) = probe(problem, split(20)).stages
    assert (stage.name, stage.trainable, stage.frozen) == ("head", CLASSES * (DIM + 1), 1000)
    assert stage.seconds > 0
    assert isinstance(stage.details, HeadSearch)
    assert stage.score == min(point["mean"] for point in stage.details.path)
