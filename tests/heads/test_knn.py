from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from thawline.heads import fit_head


def test_votes_equal_scikit_learn(blobs, monkeypatch):
    monkeypatch.setattr("thawline.heads.head.BLOCK_ROWS", 7)
    values, labels = blobs(60, 10, 4)
    fresh = blobs(25, 10, 4, seed=1)[0]
    head = fit_head("knn", values, labels, 4).head
    votes = 5 * KNeighborsClassifier(5, metric="cosine").fit(values, labels).predict_proba(fresh)
    assert head.predict_proba(fresh) == pytest.approx((votes + 1 / 4) / 6)


def test_left_out_loss_equals_a_plain_loop(blobs):
    values, labels = blobs(40, 6, 3)
    groups = np.arange(40) // 3
    fitted = fit_head("knn", values, labels, 3, groups=groups)
    losses = []
    for i in range(40):
        others = groups != groups[i]
        head = fit_head("knn", values[others], labels[others], 3).head
        losses.append(-head.logits(values[i : i + 1])[0, labels[i]])
    assert fitted.cv_log_loss == pytest.approx(np.mean(losses))
    assert fitted.chosen == 5


def test_fewer_rows_than_neighbours_and_a_row_of_zeros():
    fitted = fit_head("knn", [[1.0, 0.0], [0.0, 0.0]], [0, 2], 3)
    p = fitted.head.predict_proba(np.zeros((1, 2), np.float32))
    assert p[0] == pytest.approx([(1 + 1 / 3) / 3, (1 / 3) / 3, (1 + 1 / 3) / 3])


def test_the_own_group_has_no_vote_even_where_too_few_others_are_left():
    values, labels = np.array([[1.0, 0.0], [1.0, 0.1], [0.9, 0.0], [0.0, 1.0]]), np.array([0, 0, 0, 1])
    logits = fit_head("knn", values, labels, 2, groups=[0, 0, 0, 1]).held_out_logits
    assert np.exp(logits) == pytest.approx(np.array([[0.25, 0.75]] * 3 + [[3.5 / 4, 0.5 / 4]]))


def test_one_group_cannot_be_judged():
    fitted = fit_head("knn", [[1.0, 0.0], [0.0, 1.0]], [0, 1], 2, groups=[1, 1])
    assert fitted.cv_log_loss is None
    assert fitted.held_out_logits is None


def test_only_drawn_rows_are_judged(blobs, monkeypatch):
    monkeypatch.setattr("thawline.heads.knn.JUDGED_ROWS", 8)
    values, labels = blobs(40, 6, 3)
    logits = fit_head("knn", values, labels, 3).held_out_logits
    assert np.isfinite(logits).all(axis=1).sum() == 8
