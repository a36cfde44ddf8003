"""Transferability scores: each against its definition, and against what published versions get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import KNeighborsClassifier

from thawline.errors import DataError
from thawline.planning.scores import (
    class_evidence,
    h_score,
    knn_left_out,
    leep,
    log_evidence,
    nleep,
    ridge_left_out,
)

SHAPES = [(40, 100), (100, 40), (60, 60), (30, 500), (300, 12)]


def made(n: int, width: int, *, n_classes: int = 3, apart: float = 2.0, seed: int = 0):
    """Features (N, D), the first columns of which hold the class, and labels."""
    rng = np.random.default_rng((seed, n, width))
    labels = rng.permutation(np.arange(n) % n_classes)
    values = rng.normal(size=(n, width))
    values[:, :n_classes] += apart * np.eye(n_classes)[labels]
    return values, labels


def noise(n: int, width: int, *, n_classes: int = 10, seed: int = 0):
    rng = np.random.default_rng((seed, 99))
    return rng.normal(size=(n, width)), rng.permutation(np.arange(n) % n_classes)


def by_definition(features, y, alpha: float, beta: float) -> float:
    """log N(y; 0, I/beta + F F'/alpha), through the log-determinant."""
    covariance = np.eye(len(y)) / beta + features @ features.T / alpha
    log_det = np.linalg.slogdet(covariance)[1]
    return -(len(y) * np.log(2 * np.pi) + log_det + y @ np.linalg.solve(covariance, y)) / 2


def published(features, labels) -> float:
    """LogME as its authors' code has it: a fixed point over alpha and beta, right for N > D of full rank only."""
    n, width = features.shape
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    total = 0.0
    for label in np.unique(labels):
        y = (labels == label).astype(float)
        along, squares = u.T @ y, s**2
        rest = (y @ y) - (along @ along)
        alpha = beta = 1.0
        for _ in range(2000):
            gamma = (squares / (squares + alpha / beta)).sum()
            weight2 = (squares * along**2 / (squares + alpha / beta) ** 2).sum()
            residual2 = (along**2 / (1 + squares * beta / alpha) ** 2).sum() + rest
            alpha, beta = gamma / weight2, (n - gamma) / residual2
        log_det = np.log(alpha + beta * squares).sum()
        total += width / 2 * np.log(alpha) + n / 2 * np.log(beta / 2 / np.pi) - log_det / 2
        total -= beta / 2 * residual2 + alpha / 2 * weight2
    return total / len(np.unique(labels)) / n


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_the_evidence_is_that_of_the_definition(n: int, width: int) -> None:
    values, labels = made(n, width)
    found = class_evidence(values, labels)
    for label, evidence in enumerate(found):
        y = (labels == label).astype(float)
        assert evidence.value == pytest.approx(by_definition(values, y, evidence.alpha, evidence.beta), abs=1e-8)
    assert log_evidence(values, labels) == pytest.approx(np.mean([e.value for e in found]) / n, abs=1e-12)


@pytest.mark.parametrize(("n", "width"), SHAPES[:-1])
def test_no_other_alpha_and_beta_give_more_evidence(n: int, width: int) -> None:
    values, labels = made(n, width)
    for label, evidence in enumerate(class_evidence(values, labels)):
        y = (labels == label).astype(float)
        for start in ((0.0, 0.0), (6.0, 3.0)):
            other = minimize(
                lambda p, y=y: -by_definition(values, y, *np.exp(p)), x0=start, method="Nelder-Mead",
                options={"xatol": 1e-8, "fatol": 1e-10},
            )  # fmt: skip
            assert evidence.value >= -other.fun - 1e-8


@pytest.mark.parametrize(("n", "width"), [(100, 40), (300, 12)])
def test_the_evidence_is_the_published_one_where_that_is_right(n: int, width: int) -> None:
    values, labels = made(n, width)
    assert log_evidence(values, labels) == pytest.approx(published(values, labels), abs=1e-8)


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_columns_of_zeros_and_the_unit_change_no_evidence(n: int, width: int) -> None:
    values, labels = made(n, width)
    padded = np.concatenate([values, np.zeros((n, 700))], axis=1)
    assert log_evidence(padded, labels) == pytest.approx(log_evidence(values, labels), abs=1e-8)
    assert log_evidence(1000 * values, labels) == pytest.approx(log_evidence(values, labels), abs=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_noise_of_many_columns_never_outranks_signal_of_few(seed: int) -> None:
    values, labels = made(250, 64, n_classes=10, seed=seed)
    wide = np.random.default_rng((seed, 1)).normal(size=(250, 1024))
    assert log_evidence(wide, labels) < log_evidence(values, labels)
    assert ridge_left_out([wide], labels, 10).log_loss > ridge_left_out([values], labels, 10).log_loss


def test_features_of_zeros_have_the_evidence_of_noise_alone() -> None:
    labels = np.arange(12) % 2
    y = (labels == 0).astype(float)
    best = -6 * (np.log(2 * np.pi * np.mean(y**2)) + 1)
    assert log_evidence(np.zeros((12, 5)), labels) * 12 == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("n", "width"), [(40, 100), (100, 40), (60, 60)])
def test_the_h_score_is_that_of_the_definition(n: int, width: int) -> None:
    values, labels = made(n, width)
    covariance, shrinkage = ledoit_wolf(values)
    means = np.stack([values[labels == label].mean(axis=0) for label in labels]) - values.mean(axis=0)
    between = means.T @ means / n
    expected = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, between))
    assert shrinkage > 0.01
    assert h_score(values, labels) == pytest.approx(expected, rel=1e-8)
    assert 0 < h_score(values, labels) < 2


def test_the_h_score_knows_signal_from_noise_where_columns_outnumber_rows() -> None:
    values, labels = made(60, 200, apart=4.0)
    assert h_score(values, labels) > 1.5 * h_score(*noise(60, 200, n_classes=3))
    assert h_score(np.ones((6, 3)), [0, 1] * 3) == 0


def test_leep_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    labels = [0, 0, 1, 1]
    given = {(0, 0): 1.7 / 2.2, (1, 0): 0.5 / 2.2, (0, 1): 0.3 / 1.8, (1, 1): 1.5 / 1.8}  # P(y|z)
    expected = np.mean([np.log(given[y, 0] * a + given[y, 1] * b) for y, (a, b) in zip(labels, p, strict=True)])
    assert leep(p, labels) == pytest.approx(expected, abs=1e-12)
    assert leep(np.eye(2)[labels], labels) == pytest.approx(0, abs=1e-12)
    assert leep(np.full((4, 5), 0.2), labels) == pytest.approx(-np.log(2), abs=1e-12)


def test_leep_refuses_logits() -> None:
    with pytest.raises(DataError, match="Pass probabilities, not logits"):
        leep(np.array([[3.0, -1.0], [0.2, 0.8]]), [0, 1])


def test_nleep_sees_clusters_and_is_at_most_zero() -> None:
    values, labels = made(240, 30, apart=12.0)
    seen, unseen = nleep(values, labels), nleep(*noise(240, 30, n_classes=3))
    assert unseen < -0.5 < seen <= 0
    assert nleep(values, labels, seed=1) == nleep(values, labels, seed=1)


def test_neighbours_are_those_of_scikit_learn() -> None:
    values, labels = made(60, 20)
    rows = np.arange(60)
    right = 0
    for row in rows:
        model = KNeighborsClassifier(5, metric="cosine").fit(values[rows != row], labels[rows != row])
        votes = np.bincount(labels[rows != row][model.kneighbors(values[[row]])[1][0]], minlength=3)
        right += votes.argmax() == labels[row]
    assert knn_left_out(values, labels, 3).accuracy == pytest.approx(right / 60)


def test_groups_are_left_out_together() -> None:
    values, labels = noise(60, 20, n_classes=2)
    copied, twice = np.concatenate([values, values]), np.concatenate([labels, labels])
    groups = np.tile(np.arange(60), 2)
    assert knn_left_out(copied, twice, 2, k=1).accuracy == 1
    apart = knn_left_out(copied, twice, 2, k=1, groups=groups).accuracy
    assert apart == knn_left_out(values, labels, 2, k=1).accuracy < 0.8
    alone = ridge_left_out([copied], twice, 2, groups=groups)
    assert alone.log_loss > ridge_left_out([copied], twice, 2).log_loss
    with pytest.raises(DataError, match="at least two groups"):
        ridge_left_out([values], labels, 2, groups=np.zeros(60))


def test_rows_left_out_of_nothing_learned_are_not_below_chance() -> None:
    """Leaving out a row takes one from its class, which alone would make every answer wrong."""
    scores = [ridge_left_out([noise(40, 200, seed=s)[0]], np.arange(40) % 2, 2).accuracy for s in range(20)]
    assert 0.42 < np.mean(scores) < 0.58


def test_losses_and_answers_fit_together() -> None:
    values, labels = made(60, 20)
    for answer in (knn_left_out(values, labels, 3), ridge_left_out([values, values[:, :5]], labels, 3)):
        p = np.exp(answer.logits) / np.exp(answer.logits).sum(axis=1, keepdims=True)
        assert answer.losses == pytest.approx(-np.log(p[np.arange(60), labels]))
        assert answer.log_loss == pytest.approx(answer.losses.mean())
        assert answer.accuracy == answer.correct.mean() > 0.5


@pytest.mark.parametrize("score", [log_evidence, h_score, nleep])
def test_what_cannot_be_scored_is_refused(score) -> None:
    with pytest.raises(DataError, match=r"got \(4, 2\) and \(3,\)"):
        score(np.ones((4, 2)), [0, 1, 0])
    with pytest.raises(DataError, match="row 1, column 0 is nan"):
        score(np.array([[1.0], [np.nan]]), [0, 1])
    with pytest.raises(DataError, match="all 3 are 1"):
        score(np.ones((3, 2)), [1, 1, 1])
