"""Scores, thresholds, baselines and verdicts of labels and of numbers; scikit-learn is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from pytest import approx
from scipy.stats import spearmanr
from sklearn import metrics

from thawline.errors import DataError
from thawline.evaluation import Rows, evaluator_for
from thawline.evaluation.label_scores import best_thresholds, mean_average_precision, score_labels
from thawline.evaluation.number_scores import score_numbers
from thawline.inputs.simple import Simple

N = 300


@pytest.fixture
def labelled():
    """True labels, one of them rare, and probabilities with ties that know something."""
    rng = np.random.default_rng(5)
    has = rng.random((N, 4)) < (0.5, 0.3, 0.1, 0.05)
    p = 1 / (1 + np.exp(-(2.5 * (has - 0.6) + rng.normal(size=has.shape))))
    return has, np.round(p, 2)


@pytest.fixture
def measured():
    rng = np.random.default_rng(6)
    y = rng.normal(size=(N, 2)) * (1, 50) + (0, 1000)
    return y, y + rng.normal(size=y.shape) * (0.5, 60)


def test_scores_of_labels_are_those_of_scikit_learn(labelled):
    has, p = labelled
    found, given = score_labels(has, p, n_bootstrap=200), p >= 0.5
    assert found["micro_f1"].value == approx(metrics.f1_score(has, given, average="micro"))
    assert found["macro_f1"].value == approx(metrics.f1_score(has, given, average="macro"))
    assert found["mean_average_precision"].value == approx(metrics.average_precision_score(has, p, average="macro"))
    assert found["subset_accuracy"].value == approx(metrics.accuracy_score(has, given))
    assert found["hamming_loss"].value == approx(metrics.hamming_loss(has, given))
    assert found["log_loss"].value == approx(np.mean([metrics.log_loss(has[:, i], p[:, i]) for i in range(4)]))
    assert found.main == found["micro_f1"]
    for i, row in enumerate(found.per_class):
        assert row["precision"] == approx(metrics.precision_score(has[:, i], given[:, i], zero_division=0))
        assert row["recall"] == approx(metrics.recall_score(has[:, i], given[:, i]))
        assert row["f1"] == approx(metrics.f1_score(has[:, i], given[:, i]))
        assert row["average_precision"] == approx(metrics.average_precision_score(has[:, i], p[:, i]))
        assert row["n"] == has[:, i].sum()


def test_scores_of_numbers_are_those_of_scikit_learn(measured):
    y, guess = measured
    found = score_numbers(y, guess, n_bootstrap=200)
    assert found["r2"].value == approx(metrics.r2_score(y, guess))
    assert found["rmse"].value == approx(metrics.root_mean_squared_error(y, guess))
    assert found["mae"].value == approx(metrics.mean_absolute_error(y, guess))
    assert found["spearman"].value == approx(np.mean([spearmanr(y[:, i], guess[:, i]).statistic for i in range(2)]))
    assert found.per_class[1]["r2"] == approx(metrics.r2_score(y[:, 1], guess[:, 1]))


def test_intervals_hold_the_value_and_cover_the_truth():
    rng = np.random.default_rng(0)
    inside = np.zeros(2)
    for seed in range(60):
        y = rng.normal(size=(80, 1))
        guess = 0.8 * y + rng.normal(size=y.shape) * 0.6
        r2 = score_numbers(y, guess, seed=seed, n_bootstrap=200)["r2"]
        assert r2.ci95[0] <= r2.value <= r2.ci95[1]
        inside[0] += r2.ci95[0] <= 1 - (0.04 + 0.36) <= r2.ci95[1]
        has = rng.random((80, 3)) < 0.4
        p = np.where(rng.random(has.shape) < 0.8, has, ~has).astype(float)
        f1 = score_labels(has, p, seed=seed, n_bootstrap=200)["micro_f1"]
        truth = 2 * 0.32 / (2 * 0.32 + 0.08 + 0.12)
        inside[1] += f1.ci95[0] <= truth <= f1.ci95[1]
    assert (inside >= 50).all()


def test_perfect_answers_have_an_interval_with_a_width(labelled):
    has, _ = labelled
    found = score_labels(has, has.astype(float), n_bootstrap=50)
    assert found["micro_f1"].value == 1 and found["micro_f1"].ci95[0] < 1
    assert found["hamming_loss"].value == 0 and found["hamming_loss"].ci95[1] > 0


def test_thresholds_are_the_best_of_all(labelled):
    has, p = labelled
    found = best_thresholds(has, p)
    for i in range(4):
        every = [metrics.f1_score(has[:, i], p[:, i] >= at) for at in np.linspace(0, 1, 201)]
        assert metrics.f1_score(has[:, i], p[:, i] >= found[i]) == approx(max(every))
        assert not (p[:, i] == found[i]).any()
    assert best_thresholds(np.zeros((5, 1), bool), np.full((5, 1), 0.2)).tolist() == [0.5]
    scores = score_labels(has, p, thresholds=found, n_bootstrap=50)
    assert scores["macro_f1_best"].value == approx(metrics.f1_score(has, p >= found, average="macro"))
    assert scores["macro_f1_best"].value > scores["macro_f1"].value
    assert scores.per_class[2]["threshold"] == found[2]


def test_a_label_that_no_sample_has_does_not_count(labelled):
    has, p = labelled
    has = np.column_stack([has, np.zeros(N, bool)])
    p = np.column_stack([p, np.full(N, 0.1)])
    value, each, _ = mean_average_precision(has, p, n_bootstrap=50)
    assert np.isnan(each[4]) and value == approx(metrics.average_precision_score(has[:, :4], p[:, :4]))
    assert score_labels(has, p, n_bootstrap=50)["macro_f1"].value == approx(
        metrics.f1_score(has, p >= 0.5, average="macro", zero_division=np.nan)
    )


@pytest.mark.parametrize("target", ["labels", "number"])
def test_baselines_and_verdicts(target):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(N, 8)).astype(np.float32)
    simple = (features[:, :1] + 3 * rng.normal(size=(N, 1))).astype(np.float32)
    truth = features[:, :2] + 0.3 * rng.normal(size=(N, 2))
    truth = truth > 0.2 if target == "labels" else truth.astype(np.float64)
    by, half = evaluator_for(target), N // 2
    train, test = (Rows(features[rows], simple[rows], truth[rows]) for rows in (slice(half), slice(half, N)))
    simpler = by.baselines(train, test, 2, simple=Simple("pixels", "16 x 16 pixels"), seed=0, groups=None)
    names = [one.name for one in simpler]
    assert names == (["frequency", "knn", "pixels"] if target == "labels" else ["mean", "median", "knn", "pixels"])
    constant = simpler[0].probabilities
    np.testing.assert_allclose(constant[0], truth[:half].mean(axis=0))
    if target == "number":
        np.testing.assert_allclose(simpler[1].probabilities[0], np.median(truth[:half], axis=0))
        assert simpler[0].scores["r2"].value < 0.01
    good = np.where(truth[half:], 0.9, 0.1) if target == "labels" else truth[half:] + 0.1
    said = by.verdict(by.score(truth[half:], good), simpler, truth[half:], good, ("a", "b"))
    assert said.startswith("Worth it: the pre-trained features are clearly better than")
    said = by.verdict(by.score(truth[half:], constant), simpler, truth[half:], constant, ("a", "b"))
    assert said.startswith("Nothing was learned")
    other = evaluator_for(target).difference(truth[half:], good, good)
    assert other.value == 0 and other.ci95 == (0, 0)


def test_what_cannot_be_scored(labelled, measured):
    has, p = labelled
    with pytest.raises(DataError, match=r"must be from 0 to 1\. Pass probabilities, not logits"):
        score_labels(has, p * 3)
    with pytest.raises(DataError, match=r"got none\. Is the test set empty"):
        score_numbers(np.empty((0, 1)), np.empty((0, 1)))
    with pytest.raises(DataError, match="finite numbers"):
        score_numbers(measured[0], np.full_like(measured[1], np.nan))
