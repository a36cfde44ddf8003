from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from thawline.heads import fit_head, head_from_tensors, refit_head
from thawline.heads.folds import stratified_group_folds
from thawline.heads.path import N_FOLDS
from thawline.heads.row_space import scale_features
from thawline.heads.svm import fit_at, fit_svm
from thawline.heads.temperature import fit_temperature
from thawline.heads.training_rows import check_rows


def sklearn_svm(values, labels, strength):
    """A large intercept_scaling takes the penalty off the bias, to which ours has none."""
    return LinearSVC(C=strength, tol=1e-8, max_iter=500_000, intercept_scaling=1000.0, dual=False).fit(values, labels)


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
@pytest.mark.parametrize(("n", "d", "classes"), [(120, 20, 4), (60, 90, 3), (80, 12, 2), (30, 50, 2)])
def test_decisions_equal_scikit_learn_at_the_same_strength(blobs, n, d, classes, strength):
    values, labels = blobs(n, d, classes)
    space = scale_features(values)
    model = sklearn_svm(space.centred, labels, strength)
    decision = fit_at(check_rows(values, labels, classes), strength, 1.0).decision(values)
    own = decision[:, 1] if classes == 2 else decision
    assert own == pytest.approx(model.decision_function(space.centred), abs=2e-3)
    if classes == 2:
        assert decision[:, 0] == pytest.approx(-decision[:, 1], abs=1e-6)


def test_strength_and_temperature_are_those_of_rows_held_out(blobs):
    values, labels = blobs(90, 15, 3, apart=0.6)
    groups = np.arange(90) // 2
    strengths = [1e-3, 1e-2, 1e-1]
    rows = check_rows(values, labels, 3, groups)
    head, path = fit_svm(rows, strengths=strengths, seed=3)
    fold, x = stratified_group_folds(labels, rows.groups, N_FOLDS, 3), scale_features(values).centred
    expected = {}
    for strength in strengths:
        decisions = np.empty((90, 3))
        for f in range(N_FOLDS):
            out = fold == f
            decisions[out] = sklearn_svm(x[~out], labels[~out], strength).decision_function(x[out])
        expected[strength] = fit_temperature(decisions, labels)
    assert path.strength == min(strengths, key=lambda c: expected[c][1])
    for step in path.steps:
        assert (step["temperature"], step["mean"]) == pytest.approx(expected[step["C"]], rel=5e-3)
    assert head.temperature == path.temperature


def test_svm_is_a_head_like_the_others(blobs):
    values, labels = blobs(60, 8, 3, apart=0.7)
    fitted = fit_head("svm", values, labels, 3)
    logits = fitted.held_out_logits
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(60), labels]
    assert losses.mean() == pytest.approx(fitted.cv_log_loss, rel=1e-5)
    again = head_from_tensors("svm", fitted.head.tensors(), fitted.head.settings())
    assert np.array_equal(again.predict_proba(values), fitted.head.predict_proba(values))
    assert refit_head(fitted, values, labels, 3).predict_proba(values) == pytest.approx(
        fitted.head.predict_proba(values), abs=1e-5
    )


def test_a_class_without_rows_gets_next_to_no_probability(blobs):
    values, labels = blobs(40, 8, 2)
    assert fit_head("svm", values, labels, 3).head.predict_proba(values)[:, 2].max() == 0
