from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from thawline.errors import DataError
from thawline.evaluation import score, to_json, wilson
from thawline.evaluation.scoring import resamples


@pytest.mark.parametrize(("n", "classes", "keep"), [(200, 3, 3), (80, 10, 7), (150, 2, 2), (1, 8, 8), (40, 7, 1)])
def test_values_equal_scikit_learn(predictions, n, classes, keep):
    labels, p = predictions(n, classes)
    labels %= keep  # the last classes have no samples
    p[0, labels[0]] = 0  # a probability of zero, to be clipped
    p[0] /= p[0].sum()
    predicted, known = p.argmax(axis=1), np.arange(classes)
    scores = score(labels, p, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro", zero_division=0),
            "log_loss": log_loss(labels, p, labels=known),
        }
        if classes >= 6:
            expected["top5_accuracy"] = top_k_accuracy_score(labels, p, k=5, labels=known)
    assert {name: s.value for name, s in scores.metrics.items()} == pytest.approx(expected)
    assert np.array_equal(scores.confusion, confusion_matrix(labels, predicted, labels=known))
    table = precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "n"), table, strict=True):
        assert [row[name] for row in scores.per_class] == pytest.approx(list(column))


def test_intervals_hold_their_values_and_proportions_are_wilson(predictions):
    labels, p = predictions(60, 7)
    scores = score(labels, p, 7)
    for s in scores.metrics.values():
        assert s.ci95[0] <= s.value <= s.ci95[1]
        assert s.ci95[0] < s.ci95[1]
        assert s.n == 60
    for name in ("accuracy", "top5_accuracy"):
        assert scores[name].ci95 == wilson(round(scores[name].value * 60), 60)
    row = scores.per_class[2]
    assert (row["recall_low"], row["recall_high"]) == wilson(round(row["recall"] * row["n"]), row["n"])


def test_bootstrap_equals_a_plain_loop(predictions):
    labels, p = predictions(90, 4)
    scores = score(labels, p, 4, seed=5, n_bootstrap=130)
    predicted = p.argmax(axis=1)
    rows = np.concatenate(list(resamples(90, 5, 130)))
    assert rows.shape == (130, 90)
    f1 = [f1_score(labels[r], predicted[r], average="macro", zero_division=0) for r in rows]
    losses = [log_loss(labels[r], p[r], labels=range(4)) for r in rows]
    assert scores["macro_f1"].ci95 == pytest.approx(tuple(np.quantile(f1, (0.025, 0.975))))
    assert scores["log_loss"].ci95 == pytest.approx(tuple(np.quantile(losses, (0.025, 0.975))))


def test_resamples_use_every_row_and_repeat_some():
    rows = np.concatenate(list(resamples(50, 0, 100)))
    assert rows.shape == (100, 50)
    assert set(rows.ravel().tolist()) == set(range(50))
    assert all(len(set(row)) < 50 for row in rows.tolist())


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1], [0, 1, 2]])
def test_a_constant_prediction_is_not_certainty(labels):
    """Always the same answer: what varies from sample to sample is which classes it is right about."""
    n = max(labels) + 1
    p = np.tile(np.arange(n, 0, -1) / np.arange(1, n + 1).sum(), (len(labels), 1))
    scores = score(labels, p, n)
    for name in ("macro_f1", "log_loss"):
        low, high = scores[name].ci95
        assert low < scores[name].value < high
    assert scores["macro_f1"].ci95 != scores["balanced_accuracy"].ci95


def test_no_mistake_is_not_certainty():
    scores = score([0, 1] * 10, np.tile(np.eye(2), (10, 1)), 2)
    assert scores["macro_f1"].value == scores["balanced_accuracy"].value == 1
    assert scores["macro_f1"].ci95 == scores["balanced_accuracy"].ci95
    assert 0.7 < scores["macro_f1"].ci95[0] < 0.95


def test_classes_with_neither_samples_nor_predictions_do_not_count():
    scores = score([0, 1, 1], np.eye(5)[[0, 1, 0]], 5)
    assert scores["macro_f1"].value == pytest.approx(f1_score([0, 1, 1], [0, 1, 0], average="macro"))


def test_same_seed_same_interval(predictions):
    labels, p = predictions(60, 3)
    first, again, other = (score(labels, p, 3, seed=s)["log_loss"] for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_json_is_the_metrics_contract(predictions):
    scores = score(*predictions(30, 3), 3)
    written = json.loads(json.dumps(to_json(scores)))
    assert list(written) == ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
    accuracy = scores["accuracy"]
    assert written["accuracy"] == {"value": accuracy.value, "ci95": list(accuracy.ci95), "n": 30}


@pytest.mark.parametrize(
    ("labels", "p", "match"),
    [
        (np.array([], int), np.zeros((0, 2)), "at least one sample; got none"),
        ([0, 1], np.full((3, 2), 0.5), r"got \(2,\) and \(3, 2\)"),
        ([0, 2], np.full((2, 2), 0.5), r"in 0\.\.1; got 0 to 2"),
        ([0, 1], [[0.5, 0.5], [3.0, -2.0]], r"row 1 does not \(sum 1\).*not logits"),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], r"row 0 does not \(sum 1\.1\)"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], r"row 1 does not \(sum nan\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, p, match):
    with pytest.raises(DataError, match=match):
        score(labels, p, 2)
