"""What the three targets mean for a head: its losses, its temperature, what it puts out, and when it is right.

The type of the true values says which target they are: classes (N,) of whole numbers, labels (N, C) bool, or numbers
(N, C) float64. Decisions and logits are (N, C) for each of them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import outputs_of
from thawline.heads.temperature import NET_MOST, fit_net_temperature, fit_temperature, row_log_losses
from thawline.proportions import Z_95, wilson
from thawline.records import Target

Floats = NDArray[np.float64]
LEAST_PROBABILITY = 1e-30
"""Smaller probabilities are raised to it before a logarithm is taken."""
_MOST = 1e3
"""Bound for temperatures of decisions that have no unit, and its inverse the other one."""


class Task(Protocol):
    """What a target means."""

    target: ClassVar[Target]
    heads: ClassVar[tuple[str, ...]]
    """Kinds of head that can be fitted; the first is the usual one."""
    loss_name: ClassVar[str]
    """What ``row_losses`` are, for people."""
    right_name: ClassVar[str]
    """What the mean of ``right`` is, for people."""

    def outputs(self, logits: Floats) -> Floats:
        """Return what is predicted (N, C)."""
        ...

    def logits(self, outputs: Floats) -> Floats:
        """Return logits (N, C) whose outputs these are, but for rounding."""
        ...

    def row_losses(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        """Return (N,) what each row loses."""
        ...

    def temperature(self, decisions: Floats, truth: NDArray[Any]) -> float:
        """Return the divisor that makes logits of decisions, at which their losses are least."""
        ...

    def net_temperature(self, logits: Floats, truth: NDArray[Any]) -> float:
        """Return the same for a net that was trained by this loss, whose unit is nearly right."""
        ...

    def right(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        """Return (N,) how right each row is, at most 1."""
        ...

    def interval(self, right: Floats, n: float, z: float = Z_95) -> tuple[float, float]:
        """Return an interval of the mean of ``right``, which counts for ``n`` independent rows."""
        ...


class ClassTask:
    """One class for each sample: log loss of the softmax, and accuracy."""

    target: ClassVar[Target] = "class"
    heads: ClassVar[tuple[str, ...]] = ("logistic", "ridge", "svm", "knn", "mlp")
    loss_name: ClassVar[str] = "log loss"
    right_name: ClassVar[str] = "accuracy"

    def outputs(self, logits: Floats) -> Floats:
        return outputs_of("class", logits)

    def logits(self, outputs: Floats) -> Floats:
        return np.asarray(np.log(np.maximum(outputs, LEAST_PROBABILITY)))

    def row_losses(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        return row_log_losses(logits, truth)

    def temperature(self, decisions: Floats, truth: NDArray[Any]) -> float:
        return fit_temperature(decisions, truth)[0]

    def net_temperature(self, logits: Floats, truth: NDArray[Any]) -> float:
        return fit_net_temperature(logits, truth)

    def right(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        return np.asarray(logits.argmax(axis=1) == truth, dtype=np.float64)

    def interval(self, right: Floats, n: float, z: float = Z_95) -> tuple[float, float]:
        return wilson(float(right.mean()) * n, n, z=z)


class LabelsTask(ClassTask):
    """Any number of labels for each sample: mean log loss of the sigmoids, and the share of samples wholly right."""

    target: ClassVar[Target] = "labels"
    heads: ClassVar[tuple[str, ...]] = ("logistic", "mlp")
    loss_name: ClassVar[str] = "log loss a label"
    right_name: ClassVar[str] = "subset accuracy"

    def outputs(self, logits: Floats) -> Floats:
        return outputs_of("labels", logits)

    def logits(self, outputs: Floats) -> Floats:
        p = np.clip(outputs, LEAST_PROBABILITY, 1 - np.finfo(np.float64).epsneg)
        return np.asarray(np.log(p) - np.log1p(-p))

    def row_losses(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        signed = np.where(truth, -logits, logits)
        return np.asarray((np.maximum(signed, 0) + np.log1p(np.exp(-np.abs(signed)))).mean(axis=1))

    def temperature(self, decisions: Floats, truth: NDArray[Any]) -> float:
        return self._temperature(decisions, truth, _MOST)

    def net_temperature(self, logits: Floats, truth: NDArray[Any]) -> float:
        return self._temperature(logits, truth, NET_MOST)

    def right(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        return np.asarray(((logits > 0) == truth).all(axis=1), dtype=np.float64)

    def _temperature(self, decisions: Floats, truth: NDArray[Any], most: float) -> float:
        from scipy.optimize import minimize_scalar

        def loss(log_temperature: float) -> float:
            return float(self.row_losses(decisions * math.exp(-log_temperature), truth).mean())

        bound = math.log(most)
        return math.exp(float(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


class NumberTask:
    """One or more numbers for each sample: squared error in units of their variance, and what is left of 1: R2."""

    target: ClassVar[Target] = "number"
    heads: ClassVar[tuple[str, ...]] = ("ridge", "mlp")
    loss_name: ClassVar[str] = "squared error"
    right_name: ClassVar[str] = "R2"

    def outputs(self, logits: Floats) -> Floats:
        return logits

    def logits(self, outputs: Floats) -> Floats:
        return outputs

    def row_losses(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        variance = truth.var(axis=0)
        return np.asarray((np.square(logits - truth) / np.where(variance > 0, variance, 1)).mean(axis=1))

    def temperature(self, decisions: Floats, truth: NDArray[Any]) -> float:
        return 1.0

    def net_temperature(self, logits: Floats, truth: NDArray[Any]) -> float:
        return 1.0

    def right(self, logits: Floats, truth: NDArray[Any]) -> Floats:
        return 1 - self.row_losses(logits, truth)

    def interval(self, right: Floats, n: float, z: float = Z_95) -> tuple[float, float]:
        """Return a normal interval; R2 is at most 1."""
        half = z * float(right.std(ddof=1)) / math.sqrt(n) if len(right) > 1 else math.inf
        mean = float(right.mean())
        return mean - half, min(mean + half, 1.0)


_CLASS, _LABELS, _NUMBER = ClassTask(), LabelsTask(), NumberTask()
_TASKS: dict[Target, Task] = {"class": _CLASS, "labels": _LABELS, "number": _NUMBER}


def task_for(target: Target) -> Task:
    """Return what a target means."""
    return _TASKS[target]


def task_of(truth: NDArray[Any]) -> Task:
    """Return what the target means that these true values are of."""
    if truth.ndim != 2:
        return _CLASS
    return _LABELS if truth.dtype == np.bool_ else _NUMBER
