"""Classifiers on features, held as plain arrays that are saved and loaded bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from thawline.errors import DataError
from thawline.heads.columns import is_sparse
from thawline.records import Target

BLOCK_ROWS = 1024
"""Rows of similarities held at a time: 1,024 x 50,000 stored rows are 200 MB."""


_DECISION_ROWS = 256
"""Rows of every product, padded if fewer are left. BLAS rounds a row differently beside fewer others, and a picture
must get the same bits alone as among many."""
_DECISION_NUMBERS = 2**24
"""Most numbers in such a block, 128 MB: features wider than 65,536 have blocks of fewer rows."""


class Head(Protocol):
    """What every head can do."""

    @property
    def kind(self) -> str: ...

    @property
    def classes_n(self) -> int: ...

    @property
    def n_parameters(self) -> int: ...

    @property
    def target(self) -> Target:
        """What it was fitted to predict."""
        ...

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, C) for features (N, D); ``outputs_of`` makes of them what is predicted."""
        ...

    def predict_proba(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, C): probabilities of classes, whose rows sum to 1, or of labels; or the numbers themselves."""
        ...

    def tensors(self) -> dict[str, NDArray[np.generic]]: ...

    def settings(self) -> dict[str, object]: ...


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (N, C) logits into (N, C) probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast(NDArray[np.float64], powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (N, C) logits into the probability of each label (N, C)."""
    small = np.exp(-np.abs(logits))  # never above 1, so that nothing overflows
    return cast(NDArray[np.float64], np.where(logits >= 0, 1, small) / (1 + small))


def outputs_of(target: Target, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn logits (N, C) of a head into what it predicts: probabilities or, of numbers, what they are already."""
    return logits if target == "number" else sigmoid(logits) if target == "labels" else softmax(logits)


def target_setting(target: Target) -> dict[str, object]:
    """Return what the settings of a saved head say of its target; nothing of classes, as earlier releases wrote."""
    return {} if target == "class" else {"target": target}


def unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of (N, D) to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def in_blocks(
    values: NDArray[np.float32],
    width: int,
    n_classes: int,
    decide: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Run (N, D) through ``decide`` a fixed number of rows at a time; the bits of a row do not depend on the others.

    Args:
        width: D, as the head was fitted.
        n_classes: C
        decide: (B, D) -> (B, C), row by row; B depends on D alone.
    Raises:
        DataError: The features have another width.
    """
    _require_width(values, width)
    decision = np.empty((len(values), n_classes))
    n_rows = max(min(_DECISION_ROWS, _DECISION_NUMBERS // width), 1)
    block = np.zeros((n_rows, width))
    for start in range(0, len(values), n_rows):
        rows = values[start : start + n_rows]
        block[: len(rows)] = rows
        decision[start : start + len(rows)] = decide(block)[: len(rows)]
    return decision


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """One weight vector and one bias for each class: the result of logistic regression, ridge, SVM and training."""

    kind: str
    weight: NDArray[np.float64]
    """(C, D), for features as the backbone gives them."""
    bias: NDArray[np.float64]
    """(C,)"""
    temperature: float = 1.0
    """The decision is divided by this before the softmax."""
    target: Target = "class"

    @property
    def classes_n(self) -> int:
        return len(self.bias)

    @property
    def n_parameters(self) -> int:
        return self.weight.size + self.bias.size

    def decision(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, C) before the temperature; the features may be sparse.

        Raises:
            DataError: The features have another width than those the head was fitted on.
        """
        if is_sparse(values):
            _require_width(values, self.weight.shape[1])  # type: ignore[arg-type]
            product: NDArray[np.float64] = values @ self.weight.T + self.bias
            return product
        return in_blocks(values, self.weight.shape[1], self.classes_n, lambda block: block @ self.weight.T + self.bias)

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.decision(values) / self.temperature

    def predict_proba(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return outputs_of(self.target, self.logits(values))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        return {"weight": self.weight, "bias": self.bias}

    def settings(self) -> dict[str, object]:
        return {"temperature": self.temperature, **target_setting(self.target)}


@dataclass(frozen=True, slots=True, eq=False)
class NeighboursHead:
    """The k stored rows nearest by cosine vote; one more vote is shared equally by all classes.

    The shared vote (additive smoothing with 1/C) keeps every probability above 0 and the log loss finite. One vote for
    each class would drown five votes among two hundred classes.
    """

    values: NDArray[np.float32]
    """(M, D) stored rows of length 1."""
    labels: NDArray[np.int64]
    """(M,)"""
    classes_n: int
    k: int = 5

    @property
    def kind(self) -> str:
        return "knn"

    @property
    def target(self) -> Target:
        return "class"

    @property
    def n_parameters(self) -> int:
        return self.values.size

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return cast(NDArray[np.float64], np.log(self.predict_proba(values)))

    def predict_proba(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.vote(values)

    def vote(
        self, values: NDArray[np.float32], groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    ) -> NDArray[np.float64]:
        """Return (N, C) probabilities.

        Args:
            values: (N, D)
            groups: Group of each of the N rows and of each of the M stored rows; a row never asks its own group.
        """
        _require_width(values, self.values.shape[1])
        rows = unit_rows(values)
        votes = np.zeros((len(rows), self.classes_n))
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            similarity = rows[block] @ self.values.T  # (B, M)
            if groups is not None:
                similarity[groups[0][block, None] == groups[1][None, :]] = -np.inf
            votes[block] = self._count(similarity)
        return cast(NDArray[np.float64], (votes + 1 / self.classes_n) / (votes.sum(axis=1, keepdims=True) + 1))

    def _count(self, similarity: NDArray[np.float32]) -> NDArray[np.float64]:
        k = min(self.k, similarity.shape[1])
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]  # (B, k)
        allowed = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
        cells = np.arange(len(similarity))[:, None] * self.classes_n + self.labels[nearest]
        counts = np.bincount(cells[allowed], minlength=len(similarity) * self.classes_n)
        return counts.reshape(-1, self.classes_n).astype(np.float64)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        return {"values": self.values, "labels": self.labels}

    def settings(self) -> dict[str, object]:
        return {"classes_n": self.classes_n, "k": self.k}


def check_temperature(temperature: float) -> float:
    """Return a temperature as it came.

    Raises:
        ValueError: It is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    return temperature


def _require_width(values: NDArray[np.float32], width: int) -> None:
    if values.ndim != 2 or values.shape[1] != width:
        raise DataError(
            f"Features must be (N, {width}), as the head was fitted; got {values.shape}. "
            "Extract them with the same backbone and layer."
        )
