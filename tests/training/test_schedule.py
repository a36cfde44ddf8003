"""Order and rate: every sample once an epoch, whatever step is asked for first; and the curves by plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawline.training.schedule import Order, evaluation_steps, rate, steps_per_epoch
from thawline.training.settings import TrainPlan


def order(rows: int = 50, batch_size: int = 8, epochs: int = 3, views: int = 2, **changes: object) -> Order:
    named = {"seed": 0, "stage": "a"} | changes
    return Order(np.arange(100, 100 + rows), batch_size=batch_size, epochs=epochs, views=views, **named)  # type: ignore[arg-type]


@given(n=st.integers(1, 200), batch_size=st.integers(1, 64), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_epoch_passes_over_all_samples_once(n: int, batch_size: int, epochs: int, seed: int) -> None:
    made = order(n, batch_size, epochs, seed=seed)
    assert made.n_steps == epochs * made.per_epoch
    seen = [rows for rows, _ in made.batches(0, made.n_steps)]
    for epoch in range(epochs):
        parts = seen[epoch * made.per_epoch : (epoch + 1) * made.per_epoch]
        assert sorted(np.concatenate(parts)) == list(range(100, 100 + n))
        sizes = {len(part) for part in parts}
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
        if n >= batch_size:
            assert 2 / 3 * batch_size - 1 <= min(sizes) <= max(sizes) <= 1.5 * batch_size


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    made = order()
    forward = made.batches(0, made.n_steps)
    for step in (made.n_steps - 1, 3, 0, 7, 7):
        rows, view = order().batch(step)
        assert np.array_equal(rows, forward[step][0])
        assert np.array_equal(made.batch(step)[0], rows)
        assert view == forward[step][1]
    assert [rows.tolist() for rows, _ in made.batches(4, 9)] == [rows.tolist() for rows, _ in forward[4:9]]


def test_epochs_stages_and_seeds_have_orders_of_their_own() -> None:
    first, again = order().batch(0)[0], order().batch(order().per_epoch)[0]
    for other in (again, order(stage="b").batch(0)[0], order(seed=1).batch(0)[0], np.arange(100, 100 + len(first))):
        assert not np.array_equal(first, other)


@pytest.mark.parametrize(("views", "expected"), [(0, [0, 1, 2, 3, 4]), (1, [0] * 5), (3, [0, 1, 2, 0, 1])])
def test_views_come_in_turn(views: int, expected: list[int]) -> None:
    made = order(epochs=5, views=views)
    assert [made.batch(epoch * made.per_epoch)[1] for epoch in range(5)] == expected
    assert {view for _, view in made.batches(made.per_epoch, 2 * made.per_epoch)} == {expected[1]}


def test_a_long_order_is_made_in_a_moment() -> None:
    made = order(100_000, batch_size=10, epochs=2)  # 10 ms for each step would be minutes
    assert len(made.batches(0, made.n_steps)) == 20_000


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(1, 32, 1), (47, 32, 1), (49, 32, 2), (64, 32, 2), (5, 1, 5)])
def test_steps_per_epoch(n: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(n, batch_size) == steps


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("n_steps", [1, 7, 100])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_is_the_plain_formula(warmup: float, n_steps: int, schedule: str) -> None:
    settings = TrainPlan(warmup_frac=warmup, schedule=schedule)  # type: ignore[arg-type]
    warm = round(warmup * n_steps)
    found = [rate(step, n_steps, settings) for step in range(n_steps)]
    rising = np.linspace(0, 1, warm + 2)[1:-1]
    falling = (1 + np.cos(np.pi * np.arange(n_steps - warm) / (n_steps - warm))) / 2
    expected = [*rising, *(falling if schedule == "cosine" else np.ones(n_steps - warm))]
    assert found == pytest.approx(expected)
    assert all(0 < share <= 1 for share in found)  # no step is lost
    if n_steps == 100 and schedule == "cosine":
        assert found[-1] < 0.001
        assert max(found) == found[warm] == 1


@given(n_steps=st.integers(1, 1000), n=st.integers(1, 50))
def test_the_last_evaluation_is_at_the_end(n_steps: int, n: int) -> None:
    steps = sorted(evaluation_steps(n_steps, n))
    assert steps[-1] == n_steps
    assert steps[0] >= 1
    assert len(steps) == min(n, n_steps)
    gaps = np.diff([0, *steps])
    assert gaps.max() - gaps.min() <= 1
    assert gaps.max() == math.ceil(n_steps / len(steps))
