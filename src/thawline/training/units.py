"""The units that numbers are trained in: their training set has mean 0 and variance 1, as a net expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from thawline.heads import Head, LinearHead, MLPHead, task_of


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """How numbers are brought to these units and back; classes and labels have none and stay as they are."""

    mean: NDArray[np.float64] | None
    """(C,)"""
    scale: NDArray[np.float64] | None
    """(C,) above 0."""

    @classmethod
    def of(cls, truth: NDArray[Any]) -> Units:
        """Return the units in which the given true values have mean 0 and variance 1."""
        if task_of(truth).target != "number":
            return cls(None, None)
        scale = truth.std(axis=0)
        return cls(truth.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bring true or predicted values (N, C) to these units."""
        return values if self.mean is None or self.scale is None else (values - self.mean) / self.scale

    def restored(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring predicted values (N, C) back."""
        return values if self.mean is None or self.scale is None else values * self.scale + self.mean

    def scaled_head(self, head: LinearHead) -> LinearHead:
        """Return the head that predicts in these units."""
        if self.mean is None or self.scale is None:
            return head
        return replace(head, weight=head.weight / self.scale[:, None], bias=(head.bias - self.mean) / self.scale)

    def restored_head(self, head: Head) -> Head:
        """Return the head that predicts in the units of the data."""
        if self.mean is None or self.scale is None:
            return head
        if isinstance(head, MLPHead):
            weights = (*head.weights[:-1], head.weights[-1] * self.scale[:, None])
            return replace(head, weights=weights, biases=(*head.biases[:-1], head.biases[-1] * self.scale + self.mean))
        linear = cast(LinearHead, head)
        return replace(linear, weight=linear.weight * self.scale[:, None], bias=linear.bias * self.scale + self.mean)
