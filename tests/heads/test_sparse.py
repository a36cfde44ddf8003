"""Sparse features: the same classifier as scikit-learn's, and as on the same numbers held densely."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from thawline.errors import DataError, UsageError
from thawline.heads import fit_head, held_out_logits, sparse
from thawline.heads.sparse import MOST_TO_CHOOSE, STRENGTHS, fit_sparse
from thawline.heads.training_rows import check_rows


def terms(n, n_classes=3, width=400, seed=0):
    """Rows of length 1 with a few dozen numbers; a class prefers some columns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    liked = rng.random((n_classes, width)) ** 3
    dense = (rng.random((n, width)) < 0.15 * liked[labels]) * rng.random((n, width))
    dense[np.arange(n), rng.integers(0, width, n)] = 1  # no row is empty
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    return csr_array(dense.astype(np.float32)), labels


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fit_is_logistic_regression_as_scikit_learn_has_it(n_classes, monkeypatch):
    values, labels = terms(300, n_classes)
    rough = fit_head("logistic", values, labels, n_classes)
    monkeypatch.setattr(sparse, "TOLERANCE", 1e-6)
    monkeypatch.setattr(sparse, "ITERATIONS", 1000)
    fitted = fit_head("logistic", values, labels, n_classes)
    assert fitted.chosen in STRENGTHS
    exact = LogisticRegression(C=fitted.chosen, tol=1e-8, max_iter=5000).fit(values, labels)
    fresh, _ = terms(200, n_classes, seed=1)
    assert np.abs(fitted.head.predict_proba(fresh) - exact.predict_proba(fresh)).max() < 0.005
    losses = [log_loss(labels, of.predict_proba(values)) for of in (rough.head, exact)]
    assert losses[0] == pytest.approx(losses[1], abs=0.01)  # where it stops otherwise


def test_a_dense_copy_gets_the_same_answers():
    values, labels = terms(120)
    head = fit_head("logistic", values, labels, 3).head
    assert head.predict_proba(values) == pytest.approx(head.predict_proba(values.toarray()), abs=1e-6)


def test_strength_is_the_best_of_those_tried_on_rows_held_out():
    values, labels = terms(400)
    fitted = fit_head("logistic", values, labels, 3)
    losses = {step["C"]: step["mean"] for step in fitted.path}
    assert set(losses) == set(STRENGTHS) and fitted.chosen == min(losses, key=losses.get)


def test_some_of_many_rows_choose_the_strength_and_all_are_fitted():
    values, labels = terms(MOST_TO_CHOOSE + 700, width=120)
    head, path = fit_sparse(check_rows(values, labels, 3))
    exact = LogisticRegression(C=path.strength, tol=1e-8, max_iter=5000).fit(values, labels)
    assert np.abs(head.predict_proba(values) - exact.predict_proba(values)).max() < 0.02


def test_a_class_without_a_row_gets_next_to_no_probability():
    values, labels = terms(90)
    p = fit_head("logistic", values, labels, 5).head.predict_proba(values)
    assert p.shape == (90, 5) and p[:, 3:].max() < 1e-9


def test_each_fold_is_asked_of_a_fit_on_the_others():
    values, labels = terms(240)
    fold = np.arange(240) % 3
    logits = held_out_logits("logistic", values, labels, 3, fold)
    right = np.mean(logits.argmax(axis=1) == labels)
    mixed = held_out_logits("logistic", values, np.random.default_rng(0).permutation(labels), 3, fold)
    assert np.isfinite(logits).all() and right > 0.6 > np.mean(mixed.argmax(axis=1) == labels)


def test_rows_and_widths_that_do_not_agree_are_refused():
    values, labels = terms(60)
    with pytest.raises(DataError, match=r"features \(N, D\) with labels \(N,\)"):
        fit_head("logistic", values, labels[:50], 3)
    head = fit_head("logistic", values, labels, 3).head
    with pytest.raises(DataError, match=r"must be \(N, 400\)"):
        head.predict_proba(values[:, :10])


def test_each_label_is_a_logistic_regression_of_its_own(monkeypatch):
    values, classes = terms(300)
    truth = np.stack([classes == 0, classes != 1], axis=1)
    monkeypatch.setattr(sparse, "TOLERANCE", 1e-6)
    monkeypatch.setattr(sparse, "ITERATIONS", 1000)
    fitted = fit_head("logistic", values, truth, 2)
    p = fitted.head.predict_proba(values)
    for label in range(2):
        exact = LogisticRegression(C=fitted.chosen, tol=1e-8, max_iter=5000).fit(values, truth[:, label])
        assert np.abs(p[:, label] - exact.predict_proba(values)[:, 1]).max() < 0.005


def test_numbers_are_fitted_by_ridge():
    values, classes = terms(300)
    truth = np.stack([classes, -2.0 * classes], axis=1).astype(np.float64)
    fitted = fit_head("ridge", values, truth, 2)
    exact = Ridge(fitted.chosen).fit(values.toarray(), truth)
    assert fitted.head.predict_proba(values) == pytest.approx(exact.predict(values.toarray()), abs=0.01)
    losses = {step["lambda"]: step["mean"] for step in fitted.path}
    assert fitted.chosen == min(losses, key=losses.get) and losses[fitted.chosen] < truth.var()
    with pytest.raises(UsageError, match="must go with a logistic head, or with ridge for numbers; got svm"):
        fit_head("svm", values, classes, 3)
