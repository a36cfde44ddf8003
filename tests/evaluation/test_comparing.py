from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from thawline.errors import DataError, UsageError
from thawline.evaluation import MeasuredBaseline, baselines, only_class, paired_difference, score, verdict
from thawline.evaluation.difference import stratified_resamples
from thawline.heads import fit_head
from thawline.heads.logistic import scale_features
from thawline.inputs.image.kind import simple_features


def hard(predicted, classes):
    return np.eye(classes)[predicted]


METRIC = {
    "accuracy": lambda y, p: accuracy_score(y, p.argmax(axis=1)),
    "balanced_accuracy": lambda y, p: balanced_accuracy_score(y, p.argmax(axis=1)),
    "log_loss": lambda y, p: log_loss(y, p, labels=range(p.shape[1])),
}


@pytest.mark.parametrize("metric", METRIC)
def test_difference_equals_scikit_learn(predictions, metric):
    labels, a = predictions(120, 4)
    _, b = predictions(120, 4, skill=0.2, seed=1)
    found = paired_difference(labels, a, b, metric)
    assert found.name == f"{metric}_difference"
    assert found.value == pytest.approx(METRIC[metric](labels, a) - METRIC[metric](labels, b))
    mirrored = paired_difference(labels, b, a, metric)
    assert mirrored.value == pytest.approx(-found.value)
    assert found.ci95[0] < found.value < found.ci95[1]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
def test_paired_bootstrap_equals_a_plain_loop(predictions, metric):
    labels, a = predictions(60, 3)
    _, b = predictions(60, 3, seed=1)
    rows = np.concatenate(list(stratified_resamples(labels, 2, 80)))
    draws = [METRIC[metric](labels[r], a[r]) - METRIC[metric](labels[r], b[r]) for r in rows]
    found = paired_difference(labels, a, b, metric, 2, n_bootstrap=80)
    assert found.ci95 == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))))


@pytest.mark.parametrize("p_only", [(0.10, 0.02), (0.05, 0.05), (0.3, 0.1)])
def test_accuracy_difference_covers_as_often_as_it_says(p_only):
    rng = np.random.default_rng(0)
    labels = np.zeros(100, int)
    covered = []
    for _ in range(1000):
        draw = rng.random(100)
        a_wrong = (draw >= p_only[0]) & (draw < sum(p_only))
        found = paired_difference(labels, hard(a_wrong.astype(int), 2), hard((draw < p_only[0]).astype(int), 2))
        covered.append(found.ci95[0] <= p_only[0] - p_only[1] <= found.ci95[1])
    assert 0.93 <= np.mean(covered) <= 0.98


def test_full_agreement_is_not_certainty(predictions):
    labels, p = predictions(20, 3)
    found = paired_difference(labels, p, p)
    assert found.value == 0
    assert found.ci95[0] < -0.05 and found.ci95[1] > 0.05


def test_unknown_metric_and_unequal_shapes_are_refused(predictions):
    labels, p = predictions(20, 3)
    with pytest.raises(UsageError, match="accuracy, balanced_accuracy, log_loss; got 'auc'"):
        paired_difference(labels, p, p, "auc")
    with pytest.raises(DataError, match=r"got \(20,\) and \(20, 2\)"):
        paired_difference(labels, p, p[:, :2])


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits as thumbnails; their 64 grey values stand for features."""
    data = load_digits()
    grey = np.repeat(np.repeat(data.images, 2, axis=1), 2, axis=2) * 15.9
    sketches = np.repeat(grey[..., None], 3, axis=3).astype(np.uint8)
    rows = np.random.default_rng(0).permutation(len(data.target))[:400]
    return data.data[rows].astype(np.float32), sketches[rows], data.target[rows]


def test_baselines_are_what_they_say(digits):
    features, sketches, labels = digits
    train, test = slice(0, 250), slice(250, None)
    rows = np.arange(400)
    simple = simple_features(sketches, None, rows, rows[:0], 10).learned  # pictures are not read
    found = baselines(
        features[train], simple[train], labels[train], features[test], simple[test], labels[test], 10, seed=0
    )
    assert [(b.name, b.uses_backbone) for b in found] == [("majority", False), ("knn", True), ("pixels", False)]
    majority, knn, pixels = found
    frequency = np.bincount(labels[train], minlength=10) / 250
    assert majority.probabilities == pytest.approx(np.tile(frequency, (150, 1)))
    head = fit_head("knn", features[train], labels[train], 10).head
    assert np.array_equal(knn.probabilities, head.predict_proba(features[test]))
    assert pixels.title == "logistic regression on 16 x 16 pixels"
    flat = sketches.reshape(len(sketches), -1) / 255
    fitted = fit_head("logistic", flat[train], labels[train], 10)
    scale = scale_features(flat[train].astype(np.float32)).scale
    model = LogisticRegression(C=fitted.chosen, tol=1e-8, max_iter=5000).fit(flat[train] / scale, labels[train])
    assert np.abs(pixels.probabilities - model.predict_proba(flat[test] / scale)).max() < 1e-4
    for b in found:
        assert b.scores["accuracy"].value == accuracy_score(labels[test], b.probabilities.argmax(axis=1))
        assert b.seconds >= 0


def measured(name, title, labels, p, *, uses_backbone=False):
    return MeasuredBaseline(name, title, score(labels, p, p.shape[1]), 0.0, p, uses_backbone)


def wrong_in(labels, n_wrong):
    """Right everywhere but in the first ``n_wrong`` rows."""
    return hard(np.where(np.arange(len(labels)) < n_wrong, 1 - labels, labels), 2)


@pytest.mark.parametrize(
    ("model_wrong", "rival_wrong", "judgement"),
    [
        (2, 40, "Worth it: the pre-trained features are clearly better than"),
        (20, 22, "Undecided: the pre-trained features are not distinguishable from"),
        (60, 10, "Not worth it: the pre-trained features are worse than"),
    ],
)
def test_verdict_says_what_was_measured(model_wrong, rival_wrong, judgement):
    labels = np.arange(100) % 2
    p, rival = wrong_in(labels, model_wrong), wrong_in(labels, rival_wrong)
    others = [
        measured("majority", "always the commonest class", labels, wrong_in(labels, 90)),
        measured("pixels", "the pixel model", labels, rival),
    ]
    sentence = verdict(score(labels, p, 2), others, labels, p)
    gap = paired_difference(labels, p, rival)
    assert sentence == (
        f"{judgement} the pixel model, accuracy {1 - model_wrong / 100:.3f} against {1 - rival_wrong / 100:.3f} "
        f"(difference {gap.value:+.3f}, 95 % {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f}, n=100)."
    )


def test_verdict_names_a_better_method_on_the_same_features():
    labels = np.arange(100) % 2
    p = wrong_in(labels, 30)
    others = [
        measured("pixels", "the pixel model", labels, wrong_in(labels, 50)),
        measured("knn", "the neighbours", labels, wrong_in(labels, 5), uses_backbone=True),
    ]
    sentence = verdict(score(labels, p, 2), others, labels, p)
    assert sentence.startswith("Worth it: the pre-trained features are clearly better than the pixel model, ")
    assert sentence.endswith(" The fitted model is worse than the neighbours (0.950).")


@pytest.mark.parametrize(
    ("pixels_wrong", "end"),
    [
        (52, "Look at the labels, or bring more samples."),
        (10, "It is worse than the pixel model (0.900), which learned something."),
    ],
)
def test_verdict_says_that_nothing_was_learned(pixels_wrong, end):
    labels, n = np.arange(100) % 2, 100
    p = np.where(wrong_in(labels, 50) > 0.5, 0.55, 0.45)  # half of it right, and not sure of anything
    shares = np.full((n, 2), 0.5)
    others = [
        measured("majority", "always the commonest class", labels, shares),
        measured("pixels", "the pixel model", labels, wrong_in(labels, pixels_wrong)),
    ]
    sentence = verdict(score(labels, p, 2), others, labels, p)
    assert sentence.startswith("Nothing was learned: the model cannot be told from always naming the commonest class, ")
    assert sentence.endswith(end)


def test_probabilities_of_a_rare_class_are_something_learned():
    """Naming it never pays, so accuracy is that of the commonest class; what is said of it is worth knowing."""
    rng = np.random.default_rng(0)
    chance = np.where(np.arange(1000) < 200, 0.4, 0.01)
    labels = np.asarray(rng.random(1000) < chance, dtype=np.int64)
    p = np.stack([1 - chance, chance], axis=1)
    shares = np.tile([1 - labels.mean(), labels.mean()], (1000, 1))
    others = [measured("majority", "always the commonest class", labels, shares)]
    assert (p.argmax(axis=1) == 0).all()
    assert verdict(score(labels, p, 2), others, labels, p).startswith("Undecided: ")


def test_verdict_needs_a_method_without_the_features(predictions):
    labels, p = predictions(20, 2)
    knn = measured("knn", "the neighbours", labels, p, uses_backbone=True)
    with pytest.raises(UsageError, match="does without the pre-trained features"):
        verdict(score(labels, p, 2), [knn], labels, p)


def test_importing_the_room_loads_neither_torch_nor_scikit_learn():
    code = "import sys, thawline.evaluation; print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_model_that_names_one_class_is_told_apart():
    labels, classes = np.array([0, 1, 1, 2]), ("a", "b", "c")
    one = np.array([[0.1, 0.5, 0.4]] * 4)
    assert only_class(labels, one, classes) == "The model names 'b' for all 4 samples and no other class."
    two = one.copy()
    two[3] = [0.6, 0.2, 0.2]
    assert only_class(labels, two, classes) is None
    assert only_class(np.array([1, 1]), one[:2], classes) is None  # as it should
