"""Choosing between arms: paired, cheaper among equals, and honest about having chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from thawline.planning.arms import Arm, Field, judge_head
from thawline.planning.choice import best, gain, judged_honestly, worth

N = 240
LABELS = np.arange(N) % 2


def arm(right: NDArray[np.bool_], *, name: str = "arm", price: float = 0.01, judged: slice = slice(None)) -> Arm:
    """An arm that is sure of the right class where ``right``, and of the wrong one elsewhere."""
    named = np.where(right, LABELS, 1 - LABELS)
    logits = np.full((N, 2), np.nan)
    logits[judged] = 2.0 * np.eye(2)[named][judged]
    return Arm(name=name, thaw="none", layer="pooled", head="logistic", logits=logits, seconds=0.0, price=price)


def hits(share: float, seed: int = 0) -> NDArray[np.bool_]:
    right = np.arange(N) < round(share * N)
    return np.random.default_rng(seed).permutation(right)


def test_a_gain_is_taken_on_the_samples_that_both_were_judged_on() -> None:
    right = np.arange(N) >= N // 2  # wrong on the first half
    good, half = arm(np.ones(N, bool)), arm(right, judged=slice(N // 2, None))
    over = gain(half, good, LABELS)
    assert (over.n, over.accuracy) == (N // 2, 0.0)
    assert abs(over.loss) < 0.01
    assert gain(good, arm(right), LABELS).accuracy == 0.5


def test_a_gain_has_the_standard_error_of_its_mean() -> None:
    a, b = arm(hits(0.9, 1)), arm(hits(0.7, 2))
    over = gain(a, b, LABELS)
    saved = b.losses(LABELS) - a.losses(LABELS)
    assert over.loss == pytest.approx(saved.mean())
    assert over.loss_se == pytest.approx(saved.std(ddof=1) / np.sqrt(N))
    assert over.at_least(1.0) == pytest.approx(over.loss - over.loss_se)
    assert over.relative == pytest.approx(saved.mean() / b.losses(LABELS).mean())
    assert over.at_most(1.0) == pytest.approx((saved.mean() + over.loss_se) / b.losses(LABELS).mean())


def test_the_better_arm_wins_whatever_it_costs() -> None:
    first, dear = arm(hits(0.7), price=0), arm(hits(0.95), price=0.04)
    assert best([first, dear], LABELS, first) is dear


def test_a_gain_that_is_not_worth_its_trouble_is_left() -> None:
    right = hits(0.7)
    almost = right.copy()
    almost[np.flatnonzero(~right)[:3]] = True
    first, dear, cheap = arm(right, price=0), arm(almost, price=0.05), arm(almost, price=0.0)
    assert 0 < gain(dear, first, LABELS).relative < 0.05
    assert best([first, dear], LABELS, first) is first
    assert best([first, dear, cheap], LABELS, first) is cheap


def test_a_gain_on_few_samples_is_believed_in_part() -> None:
    right = hits(0.7)
    better = right.copy()
    better[np.flatnonzero(~right[:24])[:3]] = True
    first, lucky = arm(right, price=0), arm(better, judged=slice(0, 24), price=0)
    measured = gain(lucky, first, LABELS)
    assert measured.relative > 0.1
    assert 0 < worth(lucky, first, LABELS) < 0.75 * measured.relative
    everywhere = arm(hits(0.97), price=0)
    assert worth(everywhere, first, LABELS) > 0.5 * gain(everywhere, first, LABELS).relative
    thawed = replace(lucky, thaw="all")  # which is known to change more
    assert worth(lucky, first, LABELS) < worth(thawed, first, LABELS) < measured.relative


def test_an_arm_that_was_lucky_in_its_fold_is_not_compared_with_others_elsewhere() -> None:
    """All are wrong more often on the first half; who was judged on the second only must not gain by that."""
    right = np.where(np.arange(N) < N // 2, hits(0.5, 1), hits(0.95, 2))
    everywhere, there = arm(right, price=0), arm(right, price=0.01, judged=slice(N // 2, None))
    assert there.correct(LABELS)[N // 2 :].mean() > everywhere.correct(LABELS).mean() + 0.1
    assert best([everywhere, there], LABELS, everywhere) is everywhere


def test_the_best_of_many_equal_arms_is_not_as_good_as_it_looks() -> None:
    looks, honest = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arms = [arm(rng.random(N) < 0.5) for _ in range(12)]
        looks.append(max(one.correct(LABELS).mean() for one in arms))
        honest.append(judged_honestly(arms, LABELS, arms[0], seed).accuracy)
    assert np.mean(looks) > 0.54
    assert abs(np.mean(honest) - 0.5) < 0.02


def test_without_a_choice_the_estimate_is_the_accuracy() -> None:
    only = arm(hits(0.8))
    found = judged_honestly([only], LABELS, only, 0)
    assert found.n == N
    assert found.accuracy == pytest.approx(0.8, abs=0.01)
    assert found.ci95[0] < 0.76
    assert found.ci95[1] > 0.84


def test_random_labels_stay_at_chance() -> None:
    """Reported intervals cover chance in at least 93 of 100 runs; here of 100 data sets with labels drawn by coin."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = 90
        labels = rng.permutation(np.arange(n) % 2)
        field = Field(np.arange(n), labels, np.arange(n), rng.permutation(np.arange(n) % 3), 2)
        arms = [
            judge_head(
                field, rng.normal(size=(n, 6)).astype(np.float32), name=str(i), layer="pooled", head="ridge", seed=0
            )
            for i in range(3)
        ]
        low, high = judged_honestly(arms, labels, arms[0], seed).ci95
        covered += low <= 0.5 <= high
    assert covered >= 93
