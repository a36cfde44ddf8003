"""Several linear classifiers on the same features, solved as one problem.

The folds of a cross-validation differ only in which rows count. Solved together, they share each pass over the
features: one product with F x K columns costs little more than one with K. A fold that has converged leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thawline.heads.losses import Floats
from thawline.heads.preconditioner import Preconditioner, precondition
from thawline.heads.problems import Problems, Weights

N_PAIRS = 10
"""Steps that L-BFGS remembers."""
N_HALVINGS = 20
"""After so many halvings a step is at rounding level: the precision of the features is used up."""
N_IDLE = 10
"""After so many steps in a row that lower neither value (beyond its rounding) nor gradient, it is used up, too."""


def solve(problems: Problems, strength: float, start: Weights, *, tolerance: float, max_iterations: int) -> Weights:
    """Minimise, for each problem, mean loss + f ||W||^2 / (2 C n) over W and an unpenalised bias.

    That is scikit-learn's ``C * sum + f ||W||^2 / 2`` divided by C n. L-BFGS runs in coordinates in which the Hessian
    at the start is close to the identity.

    Args:
        tolerance: Largest entry of a problem's gradient in those coordinates.
        max_iterations: Passes forward and back over the features, but for the few that a line search adds.
    """
    objective, state = Objective.prepare(problems, strength, start)
    solution = Weights(np.empty_like(state.weight), np.empty_like(state.bias))
    memory = _Memory(np.ones((len(state.which), 1), state.bias.dtype))
    iterations = 0
    for iterations in range(max_iterations + 1):
        # A problem leaves when it has converged, or when its floats can tell no better point from its own.
        going = (np.abs(state.gradient).max(axis=1) > tolerance) & (state.idle < N_IDLE)
        if not going.all() or iterations == max_iterations:
            solution.weight[state.which], solution.bias[state.which] = state.weight, state.bias
            if not going.any() or iterations == max_iterations:
                break
            state = state.of(going)
            memory.keep(going)
        state = objective.step(state, memory)
    return Weights(solution.weight, solution.bias, iterations)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where the A problems stand that have not converged."""

    which: NDArray[np.intp]
    """(A,) numbers of the problems."""
    weight: Floats
    bias: Floats
    value: NDArray[np.float64]
    """(A,)"""
    gradient: Floats
    """(A, K x R + K) in preconditioned coordinates."""
    lowest: Floats
    """(A,) of all gradients so far, the largest entry."""
    idle: NDArray[np.int64]
    """(A,) steps since something was gained."""

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> State:
        return State(
            self.which[chosen],
            self.weight[chosen],
            self.bias[chosen],
            self.value[chosen],
            self.gradient[chosen],
            self.lowest[chosen],
            self.idle[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The problems' objectives at one strength."""

    problems: Problems
    row_weight: Floats
    """(F, N) 1 / n where the row counts, else 0."""
    penalty: Floats
    """(F,)"""
    scale: Preconditioner

    @classmethod
    def prepare(cls, problems: Problems, strength: float, start: Weights) -> tuple[Objective, State]:
        """Return the objectives, and where they stand at the start."""
        dtype = problems.scores.dtype
        n_counted = problems.counted.sum(axis=1)
        # scikit-learn minimises C * sum + penalty. Divided by C n, gradients have one size for every fold and every C,
        # so that one tolerance serves all of them.
        row_weight = (problems.counted / n_counted[:, None]).astype(dtype)
        penalty = problems.loss.penalty_factor(problems.n_classes) / (strength * n_counted)
        which = np.arange(len(n_counted))
        weight, bias = start.weight.astype(dtype), start.bias.astype(dtype)
        losses, slopes = problems.loss.losses_and_slopes(problems.decisions(weight, bias, which), problems.labels)
        scale = precondition(problems, slopes, row_weight, penalty)
        objective = cls(problems, row_weight, penalty.astype(dtype), scale)
        value, gradient = objective._collect(which, weight, losses, slopes)
        lowest = np.full(len(bias), np.inf, dtype)
        return objective, State(which, weight, bias, value, gradient, lowest, np.zeros(len(bias), dtype=np.int64))

    def value_and_gradient(
        self, which: NDArray[np.intp], weight: Floats, bias: Floats
    ) -> tuple[NDArray[np.float64], Floats]:
        """Return (A,) and (A, K x R + K), the gradient in preconditioned coordinates."""
        decisions = self.problems.decisions(weight, bias, which)
        losses, slopes = self.problems.loss.losses_and_slopes(decisions, self.problems.labels)
        return self._collect(which, weight, losses, slopes)

    def _collect(
        self, which: NDArray[np.intp], weight: Floats, losses: Floats, slopes: Floats
    ) -> tuple[NDArray[np.float64], Floats]:
        row_weight, penalty = self.row_weight[which], self.penalty[which]
        counted_losses = np.where(row_weight > 0, losses, 0)  # inf there must not meet a weight of 0
        value = np.einsum("an,an->a", counted_losses, row_weight)
        value += 0.5 * penalty * np.einsum("akr,akr->a", weight, weight)
        slopes *= row_weight[:, None]
        by_weight = self.problems.back(slopes, which)
        by_weight += penalty[:, None, None] * weight
        return value.astype(np.float64), self.scale.gradient(which, by_weight, slopes.sum(axis=2))

    def step(self, state: State, memory: _Memory) -> State:
        """Make one L-BFGS step down: nearly always a full one, else a shorter one."""
        direction = memory.direction(state.gradient)
        slope = np.einsum("ap,ap->a", direction, state.gradient).astype(np.float64)
        weight_move, bias_move = self.scale.moved(state.which, direction)
        # In float32 a mean loss near 1 is known to about 1e-6, and the last steps gain less. A rise within the rounding
        # is no rise: without this allowance the search would halve good steps until nothing is left of them.
        noise = 8 * np.finfo(direction.dtype).eps * np.abs(state.value)
        length = np.ones(len(slope))
        for _ in range(N_HALVINGS):
            factor = length.astype(direction.dtype)
            weight = state.weight + factor[:, None, None] * weight_move
            bias = state.bias + factor[:, None] * bias_move
            value, gradient = self.value_and_gradient(state.which, weight, bias)
            rise = value - state.value
            # Sufficient decrease with the usual constant (Nocedal and Wright 2006, section 3.1).
            high = rise > 1e-4 * length * slope + noise
            if not high.any():
                break
            # The lowest point of the parabola through value and slope at 0 and the value here; its curvature is above 0
            # in exact arithmetic, and rounding may make it 0.
            vertex = -slope * length**2 / (2 * np.maximum(rise - slope * length, np.finfo(np.float64).tiny))
            length = np.where(high, np.clip(vertex, 0.1 * length, 0.5 * length), length)
        memory.add(factor[:, None] * direction, gradient - state.gradient)
        steepness = np.abs(gradient).max(axis=1)
        gained = (rise < -noise) | (steepness < state.lowest)
        # Near the end the value stands still for its rounding while the gradient still falls: either is a gain.
        idle = np.where(high, N_IDLE, np.where(gained, 0, state.idle + 1))
        lowest = np.minimum(steepness, state.lowest)
        return State(state.which, weight, bias, value, gradient, lowest, idle)


@dataclass(slots=True, eq=False)
class _Memory:
    """The last steps of all problems and their changes of the gradient: the inverse Hessian as L-BFGS sees it."""

    size: Floats
    """(A, 1) of the inverse Hessian in directions of which nothing is remembered."""
    steps: list[Floats] = field(default_factory=list)
    changes: list[Floats] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)
    """(A,) 1 / (step . change); 0 where a problem's pair says nothing."""

    def direction(self, gradient: Floats) -> Floats:
        # The two loops of Nocedal 1980, Mathematics of Computation 35:773, for all problems at once.
        rest, taken = -gradient, []
        for step, change, weight in zip(self.steps[::-1], self.changes[::-1], self.weights[::-1], strict=True):
            taken.append((weight * np.einsum("ap,ap->a", step, rest))[:, None])
            rest -= taken[-1] * change
        rest *= self.size
        for step, change, weight, share in zip(self.steps, self.changes, self.weights, taken[::-1], strict=True):
            rest += (share - (weight * np.einsum("ap,ap->a", change, rest))[:, None]) * step
        return rest

    def add(self, step: Floats, change: Floats) -> None:
        both, own = np.einsum("ap,ap->a", step, change), np.einsum("ap,ap->a", change, change)
        # The loss is convex, so step . change is above 0 but for rounding. A pair at rounding level would turn the
        # inverse Hessian into noise: its weight is 0, and it stays in the lists, which all problems share.
        useful = both > np.finfo(step.dtype).eps * own
        safe = np.where(useful, both, 1)
        self.steps.append(step)
        self.changes.append(change)
        self.weights.append((useful / safe).astype(step.dtype))
        # Scale of the rest: Nocedal and Wright 2006, equation 7.20.
        self.size[useful, 0] = both[useful] / own[useful]
        for pairs in (self.steps, self.changes, self.weights):
            del pairs[:-N_PAIRS]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        for pairs in (self.steps, self.changes, self.weights):
            pairs[:] = [pair[chosen] for pair in pairs]
        self.size = self.size[chosen]
