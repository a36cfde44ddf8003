"""Choosing between arms: paired, cheaper among equals, and honest about having chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from thawline.evaluation.intervals import cross_validated
from thawline.heads.folds import stratified_group_folds
from thawline.planning.arms import Arm, Field, judge_head
from thawline.planning.choice import LINE, PRICE, Belief, Choice, gain, more_than_middle

N = 240
LABELS = np.arange(N) % 2


def arm(
    right: NDArray[np.bool_],
    *,
    name: str = "arm",
    thaw: str = "none",
    over: str = "",
    judged: slice = slice(None),
) -> Arm:
    """An arm that is sure of the right class where ``right``, and of the wrong one elsewhere."""
    named = np.where(right, LABELS[: len(right)], 1 - LABELS[: len(right)])
    logits = np.full((len(right), 2), np.nan)
    logits[judged] = 2.0 * np.eye(2)[named][judged]
    return Arm(name=name, thaw=thaw, layer="pooled", head="logistic", logits=logits, seconds=0.0, over=over)


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


def test_a_belief_is_weighed_against_a_measurement_as_bayes_has_it() -> None:
    belief = Belief(0.2, 0.1)
    assert belief.after(0.6, 0.1) == pytest.approx(0.4)
    assert belief.after(0.6, 0.0) == pytest.approx(0.6)
    assert belief.after(0.6, 1e6) == pytest.approx(0.2)


def test_the_better_arm_wins() -> None:
    first, better = arm(hits(0.7)), arm(hits(0.95), name="better")
    assert Choice([first, better], LABELS).best() is better
    assert Choice([better, first], LABELS).best() is better


def test_a_gain_that_is_not_worth_its_trouble_is_left() -> None:
    right = hits(0.7)
    almost = right.copy()
    almost[np.flatnonzero(~right)[:1]] = True
    first, little = arm(right), arm(almost, name="little")
    assert 0 < gain(little, first, LABELS).loss / first.losses(LABELS).mean() < 2 * PRICE
    assert Choice([first, little], LABELS).best() is first


def test_a_gain_on_few_samples_is_believed_in_part() -> None:
    right = hits(0.7)
    better = right.copy()
    better[np.flatnonzero(~right[:24])[:3]] = True
    first, lucky = arm(right), arm(better, name="lucky", judged=slice(0, 24))
    measured = gain(lucky, first, LABELS).loss / first.losses(LABELS, lucky.judged)[:24].mean()
    believed = Choice([first, lucky], LABELS).worths()[1]
    assert measured > 0.1
    assert -PRICE < believed < 0.75 * measured
    sure = arm(hits(0.97), name="sure")
    assert Choice([first, sure], LABELS).worths()[1] > 0.5 * gain(sure, first, LABELS).loss


def test_a_line_of_which_nothing_is_known_is_believed_to_gain_on_what_frozen_features_do() -> None:
    first = arm(hits(0.7))
    unknown = arm(hits(0.7), name="line", thaw="from:x", judged=slice(0, 1))
    assert Choice([first, unknown], LABELS).worths()[1] == pytest.approx(LINE.mean - PRICE, abs=1e-3)
    frozen = arm(hits(0.9), name="frozen")
    _, other, line = Choice([first, frozen, unknown], LABELS).worths()
    assert line + PRICE == pytest.approx((other + PRICE) + LINE.mean * (1 - other - PRICE), abs=1e-3)


def test_a_line_is_compared_with_the_head_that_it_began_from() -> None:
    """What a trial on few samples reaches is no more than the first head does, which had all of them."""
    first, line = arm(hits(0.8)), arm(hits(0.8), name="line", thaw="from:x")
    begun = replace(line, start=arm(hits(0.6), name="start"))
    measured = gain(line, begun.start, LABELS).loss / begun.start.losses(LABELS).mean()
    _, without = Choice([first, line], LABELS).worths()
    _, with_start = Choice([first, begun], LABELS).worths()
    assert with_start - without == pytest.approx(0.64 * measured, abs=0.1)  # what a belief leaves of it
    assert Choice([first, begun], LABELS).best() is begun


def test_a_line_that_harms_is_not_chosen() -> None:
    first, line = arm(hits(0.9)), arm(hits(0.6), name="line", thaw="from:x")
    assert Choice([first, line], LABELS).best() is first


@pytest.mark.parametrize(("n", "expected"), [(60, False), (240, True)])
def test_everything_is_thawed_by_default_only_where_samples_are_many(n: int, expected: bool) -> None:
    """Two lines that look the same: what is believed of them beforehand decides."""
    right = hits(0.8)[:n]
    first = arm(hits(0.6)[:n])
    middle = arm(right, name="middle", thaw="from:x")
    every = arm(right, name="all", thaw="all", over="middle")
    assert (Choice([first, middle, every], LABELS[:n]).best() is every) == expected
    assert (more_than_middle(n) > 0) == expected


def test_lines_are_compared_with_each_other_on_the_samples_of_both() -> None:
    """Wrong more often on the first half; a line that was tried on the second only must not gain by that."""
    right = np.where(np.arange(N) < N // 2, hits(0.5, 1), hits(0.95, 2))
    first = arm(hits(0.5))
    middle = arm(right, name="middle", thaw="from:x")
    worse = right.copy()
    worse[np.flatnonzero(right[N // 2 :])[:40] + N // 2] = False
    every = arm(worse, name="all", thaw="all", over="middle", judged=slice(N // 2, None))
    assert every.correct(LABELS)[N // 2 :].mean() > first.correct(LABELS).mean()
    assert Choice([first, middle, every], LABELS).best() is middle


def test_an_arm_that_was_lucky_in_its_fold_is_not_compared_with_others_elsewhere() -> None:
    """All are wrong more often on the first half; who was judged on the second only must not gain by that."""
    right = np.where(np.arange(N) < N // 2, hits(0.5, 1), hits(0.95, 2))
    everywhere, there = arm(right), arm(right, name="there", judged=slice(N // 2, None))
    assert there.correct(LABELS)[N // 2 :].mean() > everywhere.correct(LABELS).mean() + 0.1
    assert Choice([everywhere, there], LABELS).best() is everywhere


@pytest.mark.slow
def test_the_best_of_many_equal_arms_is_not_as_good_as_it_looks() -> None:
    looks, honest = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arms = [arm(rng.random(N) < 0.5, name=str(i)) for i in range(12)]
        looks.append(max(one.correct(LABELS).mean() for one in arms))
        honest.append(Choice(arms, LABELS).judged_honestly(seed).accuracy)
    assert np.mean(looks) > 0.54
    assert abs(np.mean(honest) - 0.5) < 0.02


def test_without_a_choice_the_estimate_is_the_accuracy() -> None:
    only = arm(hits(0.8))
    found = Choice([only], LABELS).judged_honestly(0)
    assert found.n == N
    assert found.accuracy == pytest.approx(0.8, abs=0.01)
    assert found.ci95 == pytest.approx(cross_validated(0.8, N, of=N, folds=3), abs=0.01)


def test_an_arm_that_was_judged_on_one_fold_is_known_no_better_than_that() -> None:
    """The interval is that of the samples that the chosen arm was judged on, not of all that any was."""
    first, line = arm(hits(0.5)), arm(hits(0.9), name="line", thaw="from:x", judged=slice(0, N // 3))
    choice = Choice([first, line], LABELS)
    assert choice.best() is line
    found = choice.judged_honestly(0)
    assert found.n == pytest.approx(N // 3, abs=2)
    assert found.ci95 == pytest.approx(cross_validated(found.accuracy, found.n, of=N, folds=3), abs=0.01)


@pytest.mark.parametrize(("n_sets", "fewest"), [(8, 6), pytest.param(100, 93, marks=pytest.mark.slow)])
def test_random_labels_stay_at_chance(n_sets: int, fewest: int) -> None:
    """Reported intervals cover chance in at least 93 of 100 data sets with labels drawn by coin."""
    covered = 0
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        n = 90
        labels = rng.permutation(np.arange(n) % 2)
        field = Field(np.arange(n), labels, np.arange(n), stratified_group_folds(labels, np.arange(n), 3, seed), 2)
        arms = [
            judge_head(
                field, rng.normal(size=(n, 6)).astype(np.float32), name=str(i), layer="pooled", head="ridge", seed=0
            )
            for i in range(3)
        ]
        low, high = Choice(arms, labels).judged_honestly(seed).ci95
        covered += low <= 0.5 <= high
    assert covered >= fewest
