from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Ridge, RidgeClassifierCV

from thawline.heads import fit_head
from thawline.heads.ridge import fit_ridge, spectrum
from thawline.heads.row_space import scale_features
from thawline.heads.temperature import fit_temperature
from thawline.heads.training_rows import check_rows

SHAPES = [(60, 12, 4), (30, 50, 3), (40, 8, 2)]


def pm_one(labels, classes):
    return 2 * np.eye(classes)[labels] - 1


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_coefficients_equal_scikit_learn(blobs, n, d, classes):
    values, labels = blobs(n, d, classes)
    basis = spectrum(scale_features(values), check_rows(values, labels, classes))
    weight, bias = basis.coefficients(3.0)
    model = Ridge(alpha=3.0, solver="svd").fit(values.astype(np.float64) / basis.space.scale, pm_one(labels, classes))
    assert weight == pytest.approx(model.coef_ / basis.space.scale, abs=1e-9)
    assert bias == pytest.approx(model.intercept_, abs=1e-9)


@pytest.mark.parametrize("penalty", [0.1, 30.0])
@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
@pytest.mark.parametrize("grouped", [False, True])
def test_left_out_equals_brute_force(blobs, n, d, classes, penalty, grouped):
    values, labels = blobs(n, d, classes)
    groups = np.random.default_rng(0).integers(0, n // 2, n) if grouped else None
    rows = check_rows(values, labels, classes, groups)
    basis = spectrum(scale_features(values), rows)
    scaled = values.astype(np.float64) / basis.space.scale
    expected = np.empty((n, classes))
    for group in np.unique(rows.groups):
        out = rows.groups == group
        model = Ridge(alpha=penalty, solver="svd").fit(scaled[~out], pm_one(labels, classes)[~out])
        expected[out] = model.predict(scaled[out])
    assert np.abs(basis.left_out(penalty, rows.groups) - expected).max() < 1e-8


def test_squared_errors_equal_ridge_classifier_cv(blobs):
    values, labels = blobs(60, 12, 4)
    _, path = fit_ridge(check_rows(values, labels, 4), penalties=(0.01, 1.0, 100.0))
    scale = scale_features(values).scale
    alphas = [step["lambda"] for step in path.steps]
    model = RidgeClassifierCV(alphas=alphas, store_cv_results=True).fit(values.astype(np.float64) / scale, labels)
    assert [step["squared_error"] for step in path.steps] == pytest.approx(model.cv_results_.mean(axis=(0, 1)))


def test_smallest_log_loss_is_chosen_and_its_temperature_kept(blobs):
    values, labels = blobs(60, 12, 4, apart=0.5)
    fitted = fit_head("ridge", values, labels, 4)
    assert len(fitted.path) == 17
    best = min(fitted.path, key=lambda step: step["mean"])
    assert (fitted.chosen, fitted.cv_log_loss) == (best["lambda"], best["mean"])
    assert fitted.head.settings() == {"temperature": best["temperature"]}
    logits = fitted.held_out_logits
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(60), labels]
    assert losses.mean() == pytest.approx(best["mean"])
    assert (logits.argmax(axis=1) == labels).mean() == best["accuracy"]


def test_temperature_is_the_minimum():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    decisions = rng.standard_normal((200, 3)) + 2 * np.eye(3)[labels]

    def loss(t):
        z = decisions / t
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(200), labels])

    expected = minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(decisions, labels) == pytest.approx((expected.x, expected.fun), rel=1e-4)


def test_copies_with_random_labels_stay_at_chance():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((300, 100)), 2, axis=0)
    labels, groups = np.repeat(rng.integers(0, 2, 300), 2), np.repeat(np.arange(300), 2)
    assert fit_head("ridge", values, labels, 2, groups=groups).cv_log_loss > np.log(2) - 0.02
    assert fit_head("ridge", values, labels, 2).cv_log_loss < 0.9 * np.log(2)


def test_one_group_and_constant_features_still_give_a_head():
    one_group = fit_head("ridge", [[0.0, 1.0], [1.0, 0.0]], [0, 1], 2, groups=[5, 5])
    assert (one_group.path, one_group.cv_log_loss) == ((), None)
    constant = fit_head("ridge", np.ones((6, 3)), [0, 0, 0, 0, 1, 1], 2)
    assert constant.head.predict_proba(np.ones((1, 3), np.float32)).argmax() == 0
