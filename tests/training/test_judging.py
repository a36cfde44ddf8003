"""Temperature, log loss and paired gains against plain computations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from thawline.heads.temperature import fit_net_temperature
from thawline.training.judging import (
    LEAST_GAIN,
    LEAST_TO_CALIBRATE,
    Judgement,
    clearly_better,
    highest_gain,
    judge,
)

C = 4


def problem(n: int, scale: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, n)
    return scale * (rng.normal(size=(n, C)) + 1.2 * np.eye(C)[labels]), labels


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_temperature_is_the_best_of_a_grid(scale: float, seed: int) -> None:
    logits, labels = problem(120, scale, seed)
    grid = np.geomspace(1 / 20, 20, 301)
    losses = [log_loss(labels, softmax(logits / t, axis=1), labels=range(C)) for t in grid]
    assert fit_net_temperature(logits, labels) == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)


def test_a_temperature_stays_within_its_bounds() -> None:
    labels = np.arange(60) % C
    assert 1 / 20 <= fit_net_temperature(0.01 * np.eye(C)[labels], labels) < 0.051  # never wrong: as sure as may be
    assert 19.9 < fit_net_temperature(100 * np.eye(C)[labels[::-1]], labels) <= 20


def test_few_samples_fit_no_temperature() -> None:
    logits, labels = problem(LEAST_TO_CALIBRATE, 5.0)
    assert judge(logits[1:], labels[1:]).temperature == 1.0
    assert judge(logits, labels).temperature != 1.0


@pytest.mark.parametrize("n", [10, 200])
def test_the_loss_is_that_of_scikit_learn(n: int) -> None:
    logits, labels = problem(n, 4.0)
    judged = judge(logits, labels)
    chances = softmax(logits / judged.temperature, axis=1)
    assert judged.loss == pytest.approx(log_loss(labels, chances, labels=range(C)))
    assert judged.accuracy == accuracy_score(labels, logits.argmax(1))
    assert judged.losses == pytest.approx(-np.log(chances[np.arange(n), labels]))
    if n == 200:
        assert judged.loss < log_loss(labels, softmax(logits, axis=1), labels=range(C)) - 0.05


def test_intervals() -> None:
    logits, labels = problem(200, 1.0)
    judged = judge(logits, labels)
    half = 1.96 * judged.losses.std(ddof=1) / np.sqrt(200)
    assert judged.loss_ci95 == pytest.approx((judged.loss - half, judged.loss + half))
    p, z = judged.accuracy, 1.959964
    centre, width = p + z * z / 400, z * np.sqrt(p * (1 - p) / 200 + z * z / 4 / 200**2)
    expected = ((centre - width) / (1 + z * z / 200), (centre + width) / (1 + z * z / 200))
    assert judged.accuracy_ci95 == pytest.approx(expected)


def test_one_sample_says_nothing_for_sure() -> None:
    judged = judge(np.array([[1.0, 0.0]]), np.array([0]))
    assert judged.loss_ci95 == (-np.inf, np.inf)
    assert judged.accuracy_ci95[0] < 0.5 < judged.accuracy_ci95[1] == 1


def test_clearly_better_is_more_than_one_standard_error() -> None:
    gain = np.array([0.1, -0.1, 0.3, -0.1])
    error = gain.std(ddof=1) / 2
    before = np.ones(4)
    for shift, expected in ((error * 1.01, True), (error * 0.99, False)):
        assert clearly_better(before, before - (gain - gain.mean() + shift)) is expected
    assert not clearly_better(before, before)
    assert not clearly_better(before, before + 0.5)
    assert clearly_better(np.ones(1), np.zeros(1))
    assert not clearly_better(np.zeros(1), np.ones(1))


def test_noise_does_not_look_promising_and_a_gain_does() -> None:
    rng = np.random.default_rng(0)
    before = rng.exponential(1.0, 400)
    nothing = [before + rng.normal(0, 0.02, 400) for _ in range(20)]
    assert all(highest_gain(before, losses, seed=0) < LEAST_GAIN for losses in nothing)
    assert highest_gain(before, 0.9 * before, seed=0) > LEAST_GAIN
    assert highest_gain(before, before - 0.02, seed=0) == pytest.approx(0.02 / before.mean())
    assert highest_gain(before, before + 0.1, seed=0) < 0


def test_doubt_leaves_hope() -> None:
    """With few samples and wide scatter, a loss as large as before still may hide a gain."""
    rng = np.random.default_rng(0)
    before, losses = rng.exponential(1.0, 20), rng.exponential(1.0, 20)
    losses += (before - losses).mean()
    assert highest_gain(before, losses, seed=0) > LEAST_GAIN


def test_the_highest_gain_is_a_bootstrap_quantile() -> None:
    rng = np.random.default_rng(1)
    before = rng.exponential(1.0, 300)
    losses = before - rng.normal(0.05, 0.4, 300)
    gain = before - losses
    normal = (gain.mean() + 1.645 * gain.std(ddof=1) / np.sqrt(300)) / before.mean()
    assert highest_gain(before, losses, seed=0) == pytest.approx(normal, abs=0.01)
    assert highest_gain(before, losses, seed=0) == highest_gain(before, losses, seed=0)
    assert highest_gain(before, losses, seed=0) != highest_gain(before, losses, seed=1)


def test_a_perfect_start_is_no_division_by_zero() -> None:
    assert highest_gain(np.zeros(5), np.zeros(5), seed=0) == 0


def test_logits_are_kept_as_they_came() -> None:
    logits, labels = problem(30, 3.0)
    judged: Judgement = judge(logits, labels)
    assert judged.logits is logits
