"""The learning curve of a cheap head: what it can tell apart, what it must not claim, and what it is computed from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from thawline.errors import DataError
from thawline.evaluation import paired_difference
from thawline.heads.training_rows import check_rows
from thawline.planning import size
from thawline.planning.held_out import mean_interval, with_all_shares
from thawline.planning.size import measure_size, prior_z

Made = tuple[NDArray[np.float32], NDArray[np.int64]]


def clouds(n: int, d: int, classes: int, *, apart: float, seed: int = 0) -> Made:
    """Round clouds: the more columns, the more rows it takes to find where their centres are."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    values = rng.standard_normal((n, d)) + apart * rng.standard_normal((classes, d))[labels]
    return values.astype(np.float32), labels


def mislabelled(n: int, share: float, *, seed: int = 0) -> Made:
    """Two clouds that a line tells apart, and labels that are wrong at random: no data can mend that."""
    rng = np.random.default_rng(seed)
    values, labels = clouds(n, 3, 2, apart=6.0, seed=seed)
    return values, np.where(rng.random(n) < share, 1 - labels, labels)


def noise(n: int, classes: int, *, seed: int = 0, d: int = 40) -> Made:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32), rng.integers(0, classes, n)


def test_prior_by_number() -> None:
    assert [prior_z(n) for n in (1, 1_000, 10_000, 10**6, 10**9)] == pytest.approx([0, 0, 1 / 3, 1, 1])
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        prior_z(0)


def test_data_that_are_too_few_are_told_from_a_head_that_is_too_plain() -> None:
    few = measure_size(*clouds(480, 300, 4, apart=0.2), 4)
    assert (few.verdict, few.sure, few.reading) == ("variance-limited", True, "small")
    assert "more data would help" in few.words
    plain = measure_size(*mislabelled(400, 0.25), 2)
    assert (plain.verdict, plain.sure) == ("bias-limited", True)
    assert plain.reading == "between"  # the prior alone says small
    assert plain.train_error == pytest.approx(0.25, abs=0.05)
    assert "it limits more than the data do" in plain.words


def test_a_curve_that_has_come_to_its_end_levels_off() -> None:
    done = measure_size(*clouds(400, 10, 2, apart=6.0), 2)
    assert (done.verdict, done.curve[-1].error) == ("levelling off", 0)
    assert done.curve[-1].ci95[1] > 0  # no mistake in 400 is not certainty
    assert done.next_doubling_at_most == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 3])
def test_random_labels_are_at_chance_at_every_size(seed: int, classes: int) -> None:
    report = measure_size(*noise(240, classes, seed=seed), classes, seed=seed)
    assert report.verdict == "nothing learned"
    assert "not clearly better than always naming the commonest class" in report.words
    for point in report.curve:  # leave-one-out would be far below it, were class shares not put back
        assert point.error == pytest.approx(1 - 1 / classes, abs=0.1)


def test_all_sizes_are_asked_the_same_rows_and_the_curve_falls() -> None:
    report = measure_size(*clouds(320, 60, 4, apart=0.35), 4)
    assert [point.n for point in report.curve] == [40, 80, 160, 320]
    errors = [point.error for point in report.curve]
    assert errors == sorted(errors, reverse=True)
    assert all(point.ci95[0] <= point.error <= point.ci95[1] for point in report.curve)
    assert report.last_doubling is not None
    saved, low, high = report.last_doubling
    assert saved == pytest.approx(errors[2] - errors[3])
    assert low < saved < high
    assert report.next_doubling_at_most == pytest.approx(min(high, errors[3]))


def test_copies_are_never_on_both_sides() -> None:
    values, labels = noise(60, 2, seed=3)
    copied, groups = np.repeat(values, 6, axis=0), np.repeat(np.arange(60), 6)
    kept_together = measure_size(copied, np.repeat(labels, 6), 2, groups=groups)
    assert kept_together.verdict == "nothing learned"
    assert kept_together.n_groups == 60
    assert "360 samples (60 independent)" in kept_together.words
    torn_apart = measure_size(copied, np.repeat(labels, 6), 2)
    assert all(point.error > 0.3 for point in kept_together.curve)  # at every size
    assert all(point.error < 0.1 for point in torn_apart.curve[-2:])


def test_what_is_said_of_the_next_doubling() -> None:
    n = 200
    groups, ones = np.arange(n), np.ones(n)
    halfway = np.where(groups < 100, 1.0, 0.0)
    sizes = {4: 50.0, 2: 100.0, 1: 200.0}
    flattening = size._Curve({4: ones, 2: halfway, 1: np.where(groups < 90, 1.0, 0.0)}, sizes, ones > 0)
    bound = size._next_at_most(flattening, groups, (0.05, 0.02, 0.08))
    assert bound == 0.08
    assert size._next_at_most(flattening, groups, (-0.05, -0.08, -0.02)) == 0
    assert size._next_at_most(flattening, groups, (0.3, 0.1, 0.6)) == pytest.approx(0.45)  # there is no more to save
    steepening = size._Curve({4: ones, 2: ones, 1: halfway}, sizes, ones > 0)
    assert size._next_at_most(steepening, groups, (0.5, 0.4, 0.6)) is None


def test_one_row_left_out_equals_a_fit_without_it() -> None:
    values, labels = clouds(40, 6, 3, apart=0.5)
    groups = np.arange(40) // 2
    at_n = size._AtN.of(check_rows(values, labels, 3, groups))
    targets = 2 * np.eye(3)[labels] - 1
    scaled = (values - values.mean(axis=0)) / np.sqrt(np.mean(np.square(values - values.mean(axis=0))))
    for penalty, mistaken in zip(at_n.penalties, at_n.mistaken, strict=True):
        decisions = np.empty_like(targets)
        for group in range(20):
            out = groups == group
            model = Ridge(alpha=penalty, solver="svd").fit(scaled[~out], targets[~out])
            decisions[out] = model.predict(scaled[out]) - targets[~out].mean(axis=0) + targets.mean(axis=0)
        assert np.array_equal(mistaken, decisions.argmax(axis=1) != labels)
        left_out = at_n.basis.left_out(penalty, groups)
        assert with_all_shares(left_out, targets, groups) == pytest.approx(decisions, abs=1e-6)


def test_a_penalty_is_not_chosen_by_the_rows_that_it_is_judged_by() -> None:
    at_n = replace(
        size._AtN.of(check_rows(*clouds(4, 2, 2, apart=1.0), 2)),
        mistaken=np.array([[True, True, False, False], [False, False, True, True]]),
        losses=np.array([[9.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 9.0]]),
    )
    assert at_n.wrong(np.array([True, True, False, False])).tolist() == [True, True]
    assert at_n.wrong(np.array([False, False, True, True])).tolist() == [True, True]


def test_intervals_are_those_of_known_methods_and_know_the_groups() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    a, b = (np.eye(2)[rng.integers(0, 2, 150)] for _ in range(2))
    right_a, right_b = (p.argmax(axis=1) == labels for p in (a, b))
    known = paired_difference(labels, a, b).ci95
    alone = np.arange(150)
    assert mean_interval(right_a.astype(float) - right_b, alone, -1, 1) == pytest.approx(known)
    low, high = mean_interval(right_a.astype(float), alone, 0, 1)
    share = (right_a.sum() + 2) / 154
    assert (low, high) == pytest.approx((share - 1.96 * np.sqrt(share * (1 - share) / 154),
                                         share + 1.96 * np.sqrt(share * (1 - share) / 154)), abs=1e-4)  # fmt: skip
    tiled = mean_interval(np.repeat(right_a, 9).astype(float), np.repeat(alone, 9), 0, 1)
    assert tiled[1] - tiled[0] == pytest.approx(high - low, rel=0.02)
    assert mean_interval(np.zeros(50), np.arange(50), 0, 1)[1] > 0.02


def test_the_same_seed_gives_the_same_report() -> None:
    made = clouds(200, 20, 3, apart=0.4)
    one, other, third = (replace(measure_size(*made, 3, seed=seed), seconds=0) for seed in (1, 1, 2))
    assert one == other
    assert one.curve != third.curve


def test_many_rows_and_columns_are_reduced_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "MOST_ROWS", 200)
    monkeypatch.setattr(size, "MOST_COLUMNS", 16)
    values, labels = clouds(1200, 48, 3, apart=1.0)
    report = measure_size(values, labels, 3, groups=np.arange(1200) // 3)
    assert 150 <= report.measured_rows <= 250
    assert (report.n, report.measured_columns) == (1200, 16)
    assert f"measured on {report.measured_rows} of the samples" in report.words
    sampled = size._sampled(check_rows(values, labels, 3, np.arange(1200) // 3), 0)
    assert set(np.bincount(sampled.groups)) == {3}
    assert np.ptp(np.bincount(sampled.labels)) <= 3


def test_leading_components_keep_what_there_is_to_learn() -> None:
    values, labels = clouds(500, 8, 4, apart=1.0)
    wide = np.concatenate([values * 10, np.random.default_rng(1).standard_normal((500, 500))], axis=1)
    reduced = size._reduced(check_rows(wide, labels, 4), 0)
    assert reduced.values.shape == (500, size.MOST_COLUMNS)
    kept = np.square(reduced.values - reduced.values.mean(axis=0)).sum()
    assert kept > 0.95 * np.square(wide - wide.mean(axis=0)).sum()


def test_too_few_to_measure() -> None:
    values, labels = clouds(6, 4, 2, apart=1.0)
    for report in (measure_size(values[:2], labels[:2], 2), measure_size(values, labels, 2, groups=[0] * 6)):
        assert (report.verdict, report.curve, report.next_doubling_at_most) == ("unknown", (), None)
        assert "too few to measure" in report.words


def test_report_is_plain_json() -> None:
    report = measure_size(*clouds(100, 5, 2, apart=1.0), 2)
    again = json.loads(json.dumps(report.to_json()))
    assert again["verdict"] == report.verdict
    assert again["curve"][-1] == {"n": 100, "error": report.curve[-1].error, "ci95": list(report.curve[-1].ci95)}


@pytest.mark.parametrize(
    ("values", "labels", "groups", "text"),
    [
        (np.full((4, 2), np.nan), [0, 1, 0, 1], None, "eatures must be finite"),
        (np.zeros((4, 2)), [0, 1, 0], None, r"got \(4, 2\) with \(3,\)"),
        (np.zeros((4, 2)), [0, 1, 2, 1], None, r"whole numbers in 0..1"),
        (np.zeros((4, 2)), [1, 1, 1, 1], None, "at least two classes"),
        (np.zeros((4, 2)), [0, 1, 0, 1], [0, 1], r"Groups must be \(4,\)"),
    ],
)
def test_what_is_refused(values: object, labels: object, groups: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        measure_size(values, labels, 2, groups=groups)  # type: ignore[arg-type]
