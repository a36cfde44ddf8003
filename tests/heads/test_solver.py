from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thawline.heads.losses import LogLoss, SquaredHinge
from thawline.heads.path import extrapolate
from thawline.heads.problems import Problems, Weights
from thawline.heads.solver import Objective, solve


@pytest.mark.parametrize("top", [0, 2, 24])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("loss", [LogLoss(), SquaredHinge()])
@pytest.mark.parametrize("classes", [2, 4])
def test_gradient_is_that_of_the_value_even_where_a_fold_lacks_a_class(classes, loss, turned, top, monkeypatch):
    monkeypatch.setattr("thawline.heads.preconditioner.TOP", top)
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((13, 4))
    turn = np.linalg.qr(rng.standard_normal((4, 3)))[0] if turned else None
    labels = np.append(np.arange(12) % (classes - 1), classes - 1)  # one row of the last class
    counted = np.arange(13) % 3 != np.arange(3)[:, None]
    problems = Problems(scores, turn, np.arange(1.0, 4.0 if turned else 5.0), labels, counted, classes, loss)
    objective, state = Objective.prepare(problems, 0.3, problems.start())
    folds = np.array([2, 0])  # not all, and in another order
    state = state.of(folds)

    def moved(theta):
        weight, bias = objective.scale.moved(folds, theta.reshape(2, -1))
        return objective.value_and_gradient(folds, state.weight + weight, state.bias + bias)

    theta = 0.03 * rng.standard_normal(state.gradient.size)  # the bias of a class without rows moves far
    value, gradient = moved(theta)
    assert np.isfinite(value).all()
    shifts = 1e-6 * np.eye(theta.size)
    numeric = [(moved(theta + shift)[0].sum() - moved(theta - shift)[0].sum()) / 2e-6 for shift in shifts]
    assert gradient.ravel() == pytest.approx(numeric, abs=1e-4)


def problems(counted, precision=np.float64):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    scores = rng.standard_normal((60, 5)) + rng.standard_normal((3, 5))[labels]
    scores -= scores.mean(axis=0)
    eigenvalues, turn = np.linalg.eigh(scores.T @ scores)
    return Problems((scores @ turn).astype(precision), None, eigenvalues, labels, counted, 3, LogLoss())


def hessian(asked, monkeypatch, top):
    """Second derivatives in the solver's coordinates where it starts, by differences of the gradient."""
    monkeypatch.setattr("thawline.heads.preconditioner.TOP", top)
    start = asked.start()
    start.weight[:] = 0.3 * np.random.default_rng(1).standard_normal(start.weight.shape)
    objective, state = Objective.prepare(asked, 0.3, start)

    def gradient(theta):
        weight, bias = objective.scale.moved(state.which, theta[None])
        return objective.value_and_gradient(state.which, state.weight + weight, state.bias + bias)[1][0]

    shifts = 1e-5 * np.eye(state.gradient.size)
    return np.array([(gradient(shift) - gradient(-shift)) / 2e-5 for shift in shifts])


@pytest.mark.parametrize("loss", [LogLoss(), SquaredHinge()])
def test_the_hessian_is_the_identity_where_all_directions_are_top(loss, monkeypatch):
    asked = replace(problems(np.ones((1, 60), dtype=np.bool_)), loss=loss)
    eigenvalues = np.linalg.eigvalsh(hessian(asked, monkeypatch, 24))
    null = 1 if loss.coupled else 0  # the same added to every bias changes no softmax
    assert eigenvalues[null:] == pytest.approx(1, abs=1e-3)
    plain = np.linalg.eigvalsh(hessian(asked, monkeypatch, 0))
    assert plain.min() < 0.95


def test_problems_solved_together_are_those_solved_alone():
    counted = np.stack([np.arange(60) % 2 == 0, np.arange(60) >= 0, np.arange(60) < 20])
    together = problems(counted)
    solution = solve(together, 1.0, together.start(), tolerance=1e-9, max_iterations=500)
    iterations = []
    for f in range(3):
        alone = problems(counted[f : f + 1])
        own = solve(alone, 1.0, alone.start(), tolerance=1e-9, max_iterations=500)
        assert solution.weight[f] == pytest.approx(own.weight[0], abs=1e-7)
        assert solution.bias[f] == pytest.approx(own.bias[0], abs=1e-7)
        iterations.append(own.iterations)
    assert solution.iterations < 1.5 * max(iterations)
    assert min(iterations) < max(iterations), "one leaves before the others"


def test_a_solve_ends_where_the_precision_is_used_up():
    rough = problems(np.ones((1, 60), dtype=np.bool_), np.float32)
    solution = solve(rough, 1.0, rough.start(), tolerance=0.0, max_iterations=2000)
    assert solution.iterations < 500
    exact = problems(np.ones((1, 60), dtype=np.bool_))
    best = solve(exact, 1.0, exact.start(), tolerance=1e-10, max_iterations=500)
    assert solution.weight == pytest.approx(best.weight, abs=1e-3)


def test_a_start_is_guessed_by_the_parabola_through_three_solutions():
    def solution(c):
        t = np.log(c)
        return Weights(np.full((1, 2, 3), 2 + t - 0.5 * t**2), np.array([[t**2, -np.inf]]))

    known = {c: solution(c) for c in (1e-6, 0.01, 0.1, 1.0)}
    guess, expected = extrapolate(known, 7.0), solution(7.0)
    assert guess.weight == pytest.approx(expected.weight)
    assert guess.bias == pytest.approx(expected.bias)
    assert extrapolate({0.1: solution(0.1)}, 7.0).weight == pytest.approx(solution(0.1).weight)
