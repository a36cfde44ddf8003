"""Heads of several labels and of numbers against scikit-learn's, and what the three targets mean."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss, r2_score

from thawline.errors import DataError, RunError, UsageError
from thawline.heads import LinearHead, fit_depths, fit_head, head_from_tensors, held_out_logits, refit_head, task_of
from thawline.heads.row_space import scale_features
from thawline.heads.training_rows import check_rows

N, WIDTH = 240, 12


@pytest.fixture
def planted():
    """Features, labels of which one is rare, and two numbers of very different size."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(N, WIDTH)).astype(np.float32)
    has = values[:, :3] + 0.7 * rng.normal(size=(N, 3)) > (0.0, 0.3, 1.6)
    numbers = np.stack([values[:, 3] + 0.2 * rng.normal(size=N), 5000 + 300 * values[:, 4]], axis=1)
    return values, has, numbers.astype(np.float64)


def test_labels_are_those_of_a_logistic_regression_each(planted):
    values, has, _ = planted
    fitted = fit_head("logistic", values, has, 3)
    space = scale_features(values)
    centred = (values - space.mean) / float(space.scale)
    for i in range(3):
        oracle = LogisticRegression(C=fitted.chosen, tol=1e-8, max_iter=5000).fit(centred, has[:, i])
        np.testing.assert_allclose(
            fitted.head.predict_proba(values)[:, i], oracle.predict_proba(centred)[:, 1], atol=2e-5
        )
    best = min(fitted.path, key=lambda step: step["mean"])
    assert best["C"] == fitted.chosen and len(fitted.path) > 4
    again = fitted.held_out_logits
    task = task_of(has)
    assert fitted.cv_log_loss == pytest.approx(task.row_losses(again, has).mean(), rel=1e-4)
    assert fitted.cv_log_loss < task.row_losses(np.zeros((N, 3)), has).mean() / 1.5


def test_numbers_are_those_of_ridge(planted):
    values, _, numbers = planted
    fitted = fit_head("ridge", values, numbers, 2)
    space = scale_features(values)
    centred = (values - space.mean) / float(space.scale)
    oracle = Ridge(alpha=fitted.chosen).fit(centred, numbers)
    np.testing.assert_allclose(fitted.head.predict_proba(values), oracle.predict(centred), rtol=1e-4, atol=1e-4)
    left_out = np.empty_like(numbers)
    for row in range(0, N, 40):
        others = np.arange(N) != row
        one = Ridge(alpha=fitted.chosen).fit(centred[others] - centred.mean(axis=0), numbers[others])
        left_out[row] = one.predict(centred[[row]] - centred.mean(axis=0))
        np.testing.assert_allclose(fitted.held_out_logits[row], left_out[row], rtol=1e-3)
    assert r2_score(numbers, fitted.held_out_logits) > 0.9


def test_rows_of_a_group_are_left_out_together(planted):
    values, _, numbers = planted
    twice = np.concatenate([values, values]), np.concatenate([numbers, numbers])
    groups = np.tile(np.arange(N), 2)
    grouped = fit_head("ridge", *twice, 2, groups=groups)
    alone = fit_head("ridge", *twice, 2)
    assert grouped.cv_log_loss > alone.cv_log_loss


def test_folds_ask_heads_that_saw_no_row_of_theirs(planted):
    values, has, _ = planted
    fold = np.arange(N) % 3
    logits = held_out_logits("logistic", values, has, 3, fold)
    rng = np.random.default_rng(0)
    noise = rng.random(has.shape) < 0.5
    chance = held_out_logits("logistic", values, noise, 3, fold)
    task = task_of(has)
    assert task.row_losses(logits, has).mean() < 0.45
    assert task.row_losses(chance, noise).mean() > 0.65


def test_refit_and_round_trip(planted):
    values, has, numbers = planted
    for kind, truth in (("logistic", has), ("ridge", numbers)):
        fitted = fit_head(kind, values[:180], truth[:180], truth.shape[1])
        head = refit_head(fitted, values, truth, truth.shape[1])
        back = head_from_tensors(head.kind, head.tensors(), head.settings())
        assert isinstance(back, LinearHead) and back.target == task_of(truth).target
        np.testing.assert_array_equal(back.predict_proba(values), head.predict_proba(values))
    with pytest.raises(RunError, match="target must be one of class, labels, number; got 'other'"):
        head_from_tensors("ridge", head.tensors(), {"temperature": 1.0, "target": "other"})
    assert "target" not in fit_head("ridge", values, has[:, 0].astype(int), 2).head.settings()


def test_depths_are_judged_for_all_targets(planted):
    values, has, numbers = planted
    for truth in (has, numbers):
        found = fit_depths([values[:, :6], values[:, 6:]], truth, truth.shape[1])
        assert found.depths[0].log_loss < found.depths[1].log_loss
        assert found.path.log_loss <= found.depths[0].log_loss * 1.05
        assert found.path.held_out_logits.shape == truth.shape


def test_what_the_targets_mean(planted):
    _, has, numbers = planted
    rng = np.random.default_rng(1)
    logits = rng.normal(size=has.shape) * 3
    task = task_of(has)
    p = task.outputs(logits)
    assert task.row_losses(logits, has).mean() == pytest.approx(
        np.mean([log_loss(has[:, i], p[:, i]) for i in range(3)]), rel=1e-9
    )
    np.testing.assert_allclose(task.outputs(task.logits(p)), p, atol=1e-12)
    assert task.right(logits, has).mean() == pytest.approx(((p > 0.5) == has).all(axis=1).mean())
    divisor = task.temperature(logits, has)
    assert task.row_losses(logits / divisor, has).mean() <= min(
        task.row_losses(logits / other, has).mean() for other in (0.5 * divisor, 2 * divisor, 1.0)
    )
    task = task_of(numbers)
    guess = numbers + (0.3, 90) * rng.normal(size=numbers.shape)
    assert task.right(guess, numbers).mean() == pytest.approx(r2_score(numbers, guess))
    low, high = task.interval(task.right(guess, numbers), N)
    assert low < r2_score(numbers, guess) < high <= 1


def test_heads_that_cannot_be(planted):
    values, has, numbers = planted
    with pytest.raises(UsageError, match="Head for target labels must be logistic or mlp; got svm"):
        fit_head("svm", values, has, 3)
    with pytest.raises(UsageError, match="Head for target number must be ridge or mlp; got logistic"):
        fit_head("logistic", values, numbers, 2)
    with pytest.raises(DataError, match="Targets must be finite"):
        check_rows(values, np.full((N, 1), np.nan), 1)


def test_a_label_that_a_fold_lacks(planted):
    values, has, _ = planted
    has = has.copy()
    has[:, 2] = False
    has[:2, 2] = True
    fitted = fit_head("logistic", values, has, 3)
    p = fitted.head.predict_proba(values)
    assert np.isfinite(fitted.cv_log_loss) and np.isfinite(p).all() and p[5:, 2].mean() < 0.05


def test_real_numbers_are_predicted_as_well_as_by_scikit_learn():
    values, y = load_diabetes(return_X_y=True)
    values, y = values.astype(np.float32), y[:, None]
    train, test = np.arange(300), np.arange(300, len(y))
    ours = fit_head("ridge", values[train], y[train], 1).head.predict_proba(values[test])
    theirs = RidgeCV(np.logspace(-4, 2, 25)).fit(values[train], y[train, 0]).predict(values[test])[:, None]
    assert r2_score(y[test], ours) == pytest.approx(r2_score(y[test], theirs), abs=0.01)
    assert r2_score(y[test], ours) > 0.45
