from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from thawline.evaluation import wilson
from thawline.evaluation.intervals import cross_validated, mean_of_proportions, percentile_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 17), (17, 17), (3, 40), (148, 153), (5000, 9999)])
def test_wilson_equals_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson(successes, n)


@pytest.mark.parametrize("n", [15, 100, 1000])
def test_wilson_covers_as_often_as_it_says(n):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 2000)  # at a single p the coverage of any such interval jumps about with n
    limits = np.array([wilson(int(s), n) for s in rng.binomial(n, p)])
    assert 0.93 <= np.mean((limits[:, 0] <= p) & (p <= limits[:, 1])) <= 0.97


def test_mean_of_one_proportion_is_wilson():
    assert mean_of_proportions(np.array([7]), np.array([9])) == pytest.approx(wilson(7, 9))


@pytest.mark.parametrize("p", [(0.9, 0.6, 0.8), (0.98, 0.95, 0.99)])
def test_mean_of_proportions_covers_as_often_as_it_says(p):
    n = np.array([20, 60, 120])
    draws = np.random.default_rng(0).binomial(n, p, (2000, 3))
    limits = np.array([mean_of_proportions(s, n) for s in draws])
    covered = np.mean((limits[:, 0] <= np.mean(p)) & (np.mean(p) <= limits[:, 1]))
    assert 0.93 <= covered <= 0.98


def test_mean_of_perfect_proportions_keeps_a_width():
    low, high = mean_of_proportions(np.array([5, 5]), np.array([5, 5]))
    assert wilson(5, 5)[0] < low < 0.9
    assert high == 1.0


@pytest.mark.parametrize(
    ("judged", "folds", "counts_for"),
    [(150, 3, 60), (50, 3, 50 / 1.5), (100, 3, 50), (150, 2, 50), (150, 150, 150 / (1 + 150 / 149))],
)
def test_samples_of_a_cross_validation_count_for_less(judged, folds, counts_for):
    """(1/J + n2/n1) of Nadeau and Bengio: (1/3 + 1/2) / (1/3) = 2.5 for three folds of 50, (1 + 1/2) for one."""
    found = cross_validated(0.7, judged, of=150, folds=folds)
    assert found == pytest.approx(wilson(0.7 * counts_for, counts_for))


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_an_interval_of_a_cross_validation_holds_its_value(accuracy):
    low, high = cross_validated(accuracy, 40, of=120, folds=3)
    assert low <= accuracy <= high


def test_percentiles_hold_the_value():
    replicates = np.arange(1001) / 1000
    assert percentile_interval(replicates, 0.5) == pytest.approx((0.025, 0.975))
    assert percentile_interval(replicates, 0.99) == pytest.approx((0.025, 0.99))
