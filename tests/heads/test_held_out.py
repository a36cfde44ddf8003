"""Heads asked about folds that they were not fitted on, one search for the strength of all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thawline.heads import fit_head, held_out_logits, path
from thawline.heads.head import softmax
from thawline.heads.losses import LogLoss
from thawline.heads.row_space import scale_features
from thawline.heads.temperature import mean_log_loss
from thawline.heads.training_rows import check_rows


def test_each_fold_is_answered_by_the_strength_that_is_best_for_the_others(blobs):
    values, labels = blobs(91, 15, 3)
    fold, strengths = np.arange(91) // 3 % 3, [1e-4, 1e-2, 1.0]
    labels[fold == 0] = np.roll(labels[fold == 0], 1)  # wrong in one fold, which wants a strong penalty
    rows, space = check_rows(values, labels, 3), scale_features(values)
    logits = path.held_out_logits(rows, space, LogLoss(), lambda d, y: 1.0, fold, strengths=strengths)
    answers, losses = {}, {}
    for strength in strengths:
        answers[strength] = np.empty((91, 3))
        for f in range(3):
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
            model.fit(space.centred[fold != f], labels[fold != f])
            answers[strength][fold == f] = model.predict_proba(space.centred[fold == f])
        losses[strength] = -np.log(answers[strength][np.arange(91), labels])
    chosen = [min(strengths, key=lambda c: losses[c][fold != f].mean()) for f in range(3)]
    assert len(set(chosen)) > 1, "the folds must disagree, or this shows nothing"
    for f in range(3):
        assert softmax(logits[fold == f]) == pytest.approx(answers[chosen[f]][fold == f], abs=5e-3)


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_it_tells_what_a_search_within_the_other_folds_tells(blobs, kind):
    values, labels = blobs(240, 60, 4, apart=0.3)
    fold = np.arange(240) // 4 % 3
    shared = held_out_logits(kind, values, labels, 4, fold)
    nested = np.empty_like(shared)
    for f in range(3):
        head = fit_head(kind, values[fold != f], labels[fold != f], 4).head
        nested[fold == f] = head.logits(values[fold == f])
    assert mean_log_loss(shared, labels) == pytest.approx(mean_log_loss(nested, labels), rel=0.02)
    assert (shared.argmax(axis=1) == nested.argmax(axis=1)).mean() > 0.95


def test_large_problems_skip_what_they_hold_out(blobs, monkeypatch):
    values, labels = blobs(120, 20, 3)
    fold = np.random.default_rng(0).integers(0, 3, 120)
    plain = held_out_logits("logistic", values, labels, 3, fold)
    monkeypatch.setattr(path, "WORTH_BLOCKS", 1)
    blocks = held_out_logits("logistic", values, labels, 3, fold)
    # logits of ten and more differ in the last place that the search is exact to, and more on some processors
    assert softmax(blocks) == pytest.approx(softmax(plain), abs=5e-3)
    assert mean_log_loss(blocks, labels) == pytest.approx(mean_log_loss(plain, labels), rel=5e-3)


def test_depths_weigh_the_same_whatever_their_units(blobs):
    values, labels = blobs(90, 12, 3)
    fold = np.arange(90) // 3 % 3
    louder = np.concatenate([values[:, :4] * 1000, values[:, 4:]], axis=1)
    told = [held_out_logits("logistic", v, labels, 3, fold, widths=(4, 8)) for v in (values, louder)]
    assert softmax(told[0]) == pytest.approx(softmax(told[1]), abs=5e-3)
    assert mean_log_loss(told[0], labels) == pytest.approx(mean_log_loss(told[1], labels), rel=5e-3)


def test_a_class_of_one_fold_is_answered_with_next_to_no_probability(blobs):
    values, labels = blobs(60, 5, 2)
    labels, fold = labels.copy(), np.arange(60) // 2 % 3
    labels[fold == 1] = np.where(np.arange(20) < 3, 2, labels[fold == 1])
    logits = held_out_logits("logistic", values, labels, 3, fold)
    assert np.isfinite(logits).all()
    assert (logits[fold == 1][:, 2] == path.ABSENT_LOGIT).all()
    assert (logits[fold != 1][:, 2] > path.ABSENT_LOGIT).all()


def test_a_fold_without_which_one_class_remains_is_not_judged(blobs):
    values, labels = blobs(30, 5, 2)
    fold = np.where(labels == 1, 0, 1 + np.arange(30) // 2 % 2)
    logits = held_out_logits("logistic", values, labels, 2, fold)
    assert np.isnan(logits[fold == 0]).all()
    assert np.isfinite(logits[fold != 0]).all()
    alone = held_out_logits("logistic", values, labels, 2, labels)
    assert np.isnan(alone).all()
