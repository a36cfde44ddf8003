from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thawline.errors import DataError
from thawline.heads import fit_head
from thawline.heads.folds import stratified_group_folds
from thawline.heads.logistic import fit_at, fit_logistic
from thawline.heads.path import ABSENT_LOGIT, N_FOLDS, UNCHOSEN_STRENGTH
from thawline.heads.row_space import scale_features
from thawline.heads.training_rows import check_rows


def sklearn_logistic(values, labels, strength):
    """The same C on features as they come: the global scale is only the unit of C."""
    scale = np.sqrt(np.mean(np.square(values - values.mean(axis=0, dtype=np.float64))))
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=20_000)
    return model.fit(values.astype(np.float64) / scale, labels), scale


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize(("n", "d", "classes"), [(120, 20, 10), (60, 90, 3), (80, 12, 2), (30, 50, 2)])
def test_probabilities_equal_scikit_learn_at_the_same_strength(blobs, n, d, classes, strength):
    values, labels = blobs(n, d, classes)
    model, scale = sklearn_logistic(values, labels, strength)
    head = fit_at(check_rows(values, labels, classes), strength)
    fresh = blobs(50, d, classes, seed=1)[0]
    expected = model.predict_proba(fresh.astype(np.float64) / scale)
    assert head.predict_proba(fresh).shape == (50, classes)
    assert np.abs(head.predict_proba(fresh) - expected).max() < 1e-5


@pytest.mark.parametrize("classes", [2, 4])
def test_chosen_strength_equals_an_explicit_loop_over_the_same_folds(blobs, classes):
    values, labels = blobs(90, 15, classes, apart=0.6)
    groups = np.arange(90) // 2 * 2  # numbers with gaps, pairs of rows
    strengths = [1e-3, 1e-2, 1e-1, 1.0]
    rows = check_rows(values, labels, classes, groups)
    _, path = fit_logistic(rows, strengths=strengths, seed=3)
    fold = stratified_group_folds(rows.labels, rows.groups, N_FOLDS, 3)
    scale = scale_features(values).scale
    expected = {}
    for strength in strengths:
        losses = np.empty(90)
        for f in range(N_FOLDS):
            out = fold == f
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(values[~out] / scale, labels[~out])
            losses[out] = -model.predict_log_proba(values[out] / scale)[np.arange(out.sum()), labels[out]]
        by_group = np.bincount(rows.groups, weights=losses - losses.mean())
        expected[strength] = (losses.mean(), np.sqrt(np.sum(by_group**2)) / 90)
    assert path.strength == min(strengths, key=lambda c: expected[c][0])
    for step in path.steps:
        # The path is walked at a loose tolerance; only its ranking and its error bars are used.
        assert (step["mean"], step["standard_error"]) == pytest.approx(expected[step["C"]], rel=1e-2)


def test_training_loss_falls_along_the_path(blobs):
    values, labels = blobs(100, 30, 5)
    rows = check_rows(values, labels, 5)
    losses = [
        -np.log(fit_at(rows, c).predict_proba(values)[np.arange(100), labels]).mean() for c in 10.0 ** np.arange(-5, 3)
    ]
    assert np.all(np.diff(losses) < 0)


def test_search_stops_after_the_loss_has_risen_and_refines_around_the_best(blobs):
    values, labels = blobs(100, 30, 5, apart=0.4)
    seen = []
    fitted = fit_head("logistic", values, labels, 5, progress=lambda tried, foreseen: seen.append((tried, foreseen)))
    tried = [step["C"] for step in fitted.path]
    means = [step["mean"] for step in fitted.path]
    assert tried == sorted(tried)
    assert tried[-1] < 1e4, "the weakest penalties were not worth their time"
    assert len(tried) == len(seen) == seen[-1][0] == seen[-1][1]
    assert fitted.chosen == tried[int(np.argmin(means))]
    assert fitted.cv_log_loss == min(means)
    assert any(abs(np.log10(fitted.chosen / c)) == pytest.approx(0.25) for c in tried)


def test_held_out_logits_are_those_the_loss_was_measured_on(blobs):
    values, labels = blobs(60, 8, 3)
    fitted = fit_head("logistic", values, labels, 3)
    logits = fitted.held_out_logits
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(60), labels]
    assert losses.mean() == pytest.approx(fitted.cv_log_loss, rel=1e-5)


def test_turning_the_weights_finds_what_turning_the_features_finds(blobs, monkeypatch):
    values, labels = blobs(90, 15, 3, apart=0.6)
    plain = fit_head("logistic", values, labels, 3)
    monkeypatch.setattr("thawline.heads.path.TURNED_PER_COLUMN", 0)
    turned = fit_head("logistic", values, labels, 3)
    assert turned.chosen == plain.chosen
    assert turned.cv_log_loss == pytest.approx(plain.cv_log_loss, rel=1e-3)
    assert np.abs(turned.head.predict_proba(values) - plain.head.predict_proba(values)).max() < 1e-5


@pytest.mark.parametrize("one_fold", [False, True])
def test_passing_over_the_rows_held_out_changes_nothing(blobs, monkeypatch, one_fold):
    values, labels = blobs(90, 15, 3, apart=0.6)
    groups = np.arange(90) // 6 % 12  # some large, some small
    if one_fold:
        monkeypatch.setattr("thawline.heads.path.ONE_FOLD_ROWS", 90)
    plain = fit_head("logistic", values, labels, 3, groups=groups)
    monkeypatch.setattr("thawline.heads.path.WORTH_BLOCKS", 0)
    blocked = fit_head("logistic", values, labels, 3, groups=groups)
    assert blocked.chosen == plain.chosen
    both = [f.held_out_logits - f.held_out_logits[:, :1] for f in (blocked, plain)]
    assert both[0] == pytest.approx(both[1], abs=2e-2, nan_ok=True)
    for name in ("mean", "standard_error"):
        assert [step[name] for step in blocked.path] == pytest.approx([step[name] for step in plain.path], rel=5e-3)


@pytest.mark.parametrize("change", ["permutation", "rotation"])
def test_neither_row_order_nor_rotation_matters(blobs, change):
    values, labels = blobs(80, 16, 4)
    rng = np.random.default_rng(0)
    order = rng.permutation(80) if change == "permutation" else np.arange(80)
    turn = np.linalg.qr(rng.standard_normal((16, 16)))[0] if change == "rotation" else np.eye(16)
    turned = (values.astype(np.float64) @ turn).astype(np.float32)
    plain = fit_at(check_rows(values, labels, 4), 0.1).predict_proba(values)
    changed = fit_at(check_rows(turned[order], labels[order], 4), 0.1).predict_proba(turned)
    assert np.abs(plain - changed).max() < 1e-5


def test_copies_with_random_labels_stay_at_chance(blobs):
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((300, 100)).astype(np.float32), 2, axis=0)
    labels, groups = np.repeat(rng.integers(0, 2, 300), 2), np.repeat(np.arange(300), 2)
    honest = fit_head("logistic", values, labels, 2, groups=groups)
    leaking = fit_head("logistic", values, labels, 2)
    assert honest.cv_log_loss > np.log(2) - 0.02
    assert leaking.cv_log_loss < 0.9 * np.log(2), "without groups the copies give the labels away"


def test_same_seed_same_bits_and_another_seed_other_folds(blobs):
    values, labels = blobs(60, 8, 3)
    first, again, other = (fit_head("logistic", values, labels, 3, seed=s) for s in (0, 0, 1))
    assert np.array_equal(first.head.tensors()["weight"], again.head.tensors()["weight"])
    assert first.path == again.path
    assert first.path != other.path


def test_constant_features_give_the_class_frequencies():
    labels = np.array([0, 0, 0, 1])
    fitted = fit_head("logistic", np.full((4, 3), 7.0), labels, 2)
    assert fitted.head.predict_proba(np.full((1, 3), 7.0, np.float32))[0] == pytest.approx([0.75, 0.25], abs=1e-6)


def test_separable_data_keep_finite_weights(blobs):
    values, labels = blobs(40, 10, 2, apart=20)
    fitted = fit_head("logistic", values, labels, 2)
    assert np.isfinite(fitted.head.tensors()["weight"]).all()
    assert (fitted.head.predict_proba(values).argmax(axis=1) == labels).all()


def test_a_class_in_one_group_only_is_left_out_of_the_choice_but_learned(blobs):
    values, labels = blobs(61, 6, 3)
    labels[60] = 3
    rows = check_rows(values, labels, 4)
    head, path = fit_logistic(rows, strengths=[0.1])
    fold, scale = stratified_group_folds(labels, rows.groups, N_FOLDS, 0), scale_features(values).scale
    losses = []
    for f in range(N_FOLDS):
        out = fold == f
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(values[~out] / scale, labels[~out])
        judged = out & (labels < 3)
        losses.append(-model.predict_log_proba(values[judged] / scale)[np.arange(judged.sum()), labels[judged]])
    assert path.log_loss == pytest.approx(np.concatenate(losses).mean(), rel=2e-3)
    assert head.predict_proba(values)[60, 3] > 0.01


def test_fewer_rows_than_classes_and_nothing_to_hold_out():
    values = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    fitted = fit_head("logistic", values, [0, 3], 5)
    p = fitted.head.predict_proba(values)
    assert (fitted.chosen, fitted.path, fitted.cv_log_loss) == (UNCHOSEN_STRENGTH, (), None)
    assert p.shape == (2, 5)
    assert p[:, [1, 2, 4]].max() == 0
    assert fitted.head.tensors()["bias"][1] == ABSENT_LOGIT
    assert (p.argmax(axis=1) == [0, 3]).all()


def test_large_sets_hold_out_one_fold_only(blobs, monkeypatch):
    values, labels = blobs(50, 4, 2)
    monkeypatch.setattr("thawline.heads.path.ONE_FOLD_ROWS", 50)
    path = fit_logistic(check_rows(values, labels, 2), strengths=[0.1])[1]
    assert np.isfinite(path.held_out_logits).all(axis=1).sum() == 10


@pytest.mark.parametrize(
    ("values", "labels", "groups", "match"),
    [
        ([[1.0], [np.nan]], [0, 1], None, r"must be finite; row 1, column 0 is nan"),
        ([[1.0], [2.0]], [0, 0], None, r"at least two classes; all 2 are of class 0"),
        ([[1.0], [2.0]], [0, 2], None, r"whole numbers in 0\.\.1; got \[0 2\]"),
        ([[1.0], [2.0]], [0], None, r"got \(2, 1\) with \(1,\)"),
        ([[1.0], [2.0]], [0, 1], [0], r"Groups must be \(2,\)"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(values, labels, groups, match):
    with pytest.raises(DataError, match=match):
        fit_head("logistic", values, labels, 2, groups=groups)
