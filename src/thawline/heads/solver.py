"""Several multinomial logistic regressions on the same features, solved as one problem.

The folds of a cross-validation differ only in which rows count. Solved together, they share each pass over the
features: one product with F x K columns costs little more than one with K.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What F problems have learned so far."""

    weight: NDArray[np.float64]
    """(D, F, K)"""
    bias: NDArray[np.float64]
    """(F, K); -inf for a class that has no counted row."""
    iterations: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """F problems on the same rows; row i counts in problem f where ``counted[i, f]``."""

    scores: NDArray[np.floating]
    """(N, D), centred; its precision, float32 or float64, is that of the work."""
    gram: NDArray[np.float64]
    """(D, D) scores' scores, from which the preconditioner is made; need not be exact."""
    labels: NDArray[np.int64]
    """(N,) in 0..K-1."""
    counted: NDArray[np.bool_]
    """(N, F)"""
    n_classes: int

    def start(self) -> Weights:
        """Return the exact solutions at infinite regularisation: log class frequencies and no weights."""
        one_hot = np.eye(self.n_classes)[self.labels]
        frequency = self.counted.T.astype(np.float64) @ one_hot / self.counted.sum(axis=0)[:, None]
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant: the class stays out of the softmax
            bias = np.log(frequency)
        return Weights(np.zeros((self.scores.shape[1], len(bias), self.n_classes)), bias)

    def logits(self, at: Weights) -> NDArray[np.floating]:
        """Return (N, F, K), new."""
        width, *rest = at.weight.shape
        flat = at.weight.reshape(width, -1).astype(self.scores.dtype)
        product: NDArray[np.floating] = (self.scores @ flat).reshape(-1, *rest)
        product += at.bias.astype(self.scores.dtype)
        return product

    def losses(self, at: Weights) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return probabilities (N, F, K) and the log loss (N, F) of each row; inf where a problem lacks its class."""
        logits = self.logits(at)
        logits -= logits.max(axis=2, keepdims=True)
        own = logits[np.arange(len(logits)), :, self.labels]  # (N, F)
        np.exp(logits, out=logits)
        total = logits.sum(axis=2)
        logits /= total[:, :, None]
        return logits, np.log(total) - own


def solve(problems: Problems, strength: float, start: Weights, *, tolerance: float, max_iterations: int) -> Weights:
    """Minimise, for each problem, mean log loss + ||W||^2 / (2 C n) over W and an unpenalised bias.

    That is scikit-learn's ``C * sum + ||W||^2 / 2`` divided by C n; with two classes its penalty is on the difference
    of the two weight vectors, which doubles the one here. L-BFGS runs in coordinates in which the Hessian at the start
    is close to the identity: W = start + L^-T theta, where L L' = h gram / N + I / (C n) and h is the mean curvature
    of the softmax.

    Args:
        tolerance: Largest entry of the gradient in those coordinates; 1e-3 finds the mean log loss to about 1e-4.
    """
    with _scipy_on_one_thread():
        descent = Descent.prepare(problems, strength, start)
        result = minimize(
            descent.value_and_gradient,
            np.zeros(start.weight.size + start.bias.size),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": 0.0, "maxiter": max_iterations, "maxfun": 2 * max_iterations},
        )
    return descent.weights(result.x, int(result.nit))


def _scipy_on_one_thread() -> AbstractContextManager[object]:
    """Keep scipy's own BLAS to one thread, and leave numpy's alone.

    The two wheels carry one pool of threads each. They take turns here many times a second on small arrays, and while
    one works the threads of the other spin: on two busy cores that cost six times the time.
    """
    controller = ThreadpoolController()
    paths = [library.filepath for library in controller.lib_controllers]
    own = [path for path in paths if any(part.startswith("scipy") for part in Path(path).parts[:-1])]
    limited: AbstractContextManager[object] = controller.select(filepath=own).limit(limits=1)
    return limited


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """The sum of all problems' objectives as a function of theta, 0 at the start."""

    problems: Problems
    start: Weights
    row_weight: NDArray[np.floating]
    """(N, F) 1 / n where the row counts, else 0."""
    penalty: NDArray[np.float64]
    """(F, 1)"""
    factor: NDArray[np.floating]
    """(D, D) lower triangle L."""
    curvature: float

    @classmethod
    def prepare(cls, problems: Problems, strength: float, start: Weights) -> Descent:
        dtype, k = problems.scores.dtype, problems.n_classes
        n_counted = problems.counted.sum(axis=0)
        row_weight = (problems.counted / n_counted).astype(dtype)
        penalty = (2.0 if k == 2 else 1.0) / (strength * n_counted[:, None])
        p, _ = problems.losses(start)
        spread = np.einsum("nfk,nf->", p * (1 - p), row_weight) / len(n_counted)
        curvature = max(float(spread) / (k - 1), 1e-4)
        hessian = problems.gram * (curvature / len(problems.labels))
        hessian[np.diag_indices_from(hessian)] += penalty.mean()
        factor = cholesky(hessian, lower=True, overwrite_a=True, check_finite=False).astype(dtype)
        return cls(problems, start, row_weight, penalty, factor, curvature)

    def weights(self, theta: NDArray[np.float64], iterations: int = 0) -> Weights:
        shape = self.start.weight.shape
        moved, bias = np.split(theta, [self.start.weight.size])
        flat = moved.reshape(shape[0], -1).astype(self.factor.dtype)
        step = solve_triangular(self.factor, flat, lower=True, trans="T", check_finite=False).reshape(shape)
        moved_bias = bias.reshape(self.start.bias.shape) / np.sqrt(self.curvature)
        return Weights(self.start.weight + step, self.start.bias + moved_bias, iterations)

    def value_and_gradient(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return both at ``theta`` (D x F x K + F x K,)."""
        at = self.weights(theta)
        residual, losses = self.problems.losses(at)
        losses[~self.problems.counted] = 0  # inf there must not meet a weight of 0
        penalised = self.penalty * at.weight
        value = np.einsum("nf,nf->", losses, self.row_weight, dtype=np.float64) + 0.5 * np.vdot(penalised, at.weight)
        residual[np.arange(len(residual)), :, self.problems.labels] -= 1
        residual *= self.row_weight[:, :, None]
        slope = self.problems.scores.T @ residual.reshape(len(residual), -1)
        slope = slope + penalised.reshape(slope.shape).astype(slope.dtype)
        weight_gradient = solve_triangular(self.factor, slope, lower=True, check_finite=False)
        bias_gradient = residual.sum(axis=0, dtype=np.float64) / np.sqrt(self.curvature)
        return float(value), np.concatenate([weight_gradient.ravel(), bias_gradient.ravel()]).astype(np.float64)
