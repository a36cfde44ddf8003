"""Features of which each row has few, such as the terms of a text, and linear classifiers on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

from thawline.heads.losses import Floats, Loss
from thawline.heads.problems import Problems

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array


def is_sparse(values: object) -> TypeGuard[csr_array[Any]]:
    """Whether features are kept as a sparse matrix; those that are not need no scipy to tell."""
    return hasattr(values, "indptr")


@dataclass(frozen=True, slots=True, eq=False)
class ColumnSpace:
    """Sparse features as they come, in the order of how much their columns hold.

    They are neither centred, which would fill them, nor turned: each column's own curvature preconditions the solver,
    and the columns that hold most are preconditioned together.
    """

    ordered: csr_array[Any]
    """(N, D)"""
    energy: NDArray[np.float64]
    """(D,) sum of squares of each column, ascending."""
    order: NDArray[np.intp]
    """(D,) which column of the features stands where."""

    def problems(self, labels: NDArray[Any], n: int, loss: Loss, counted: NDArray[np.bool_]) -> SparseProblems:
        """Return one problem of ``n`` outputs for each row of ``counted`` (F, N); labels as in ``Problems``."""
        return SparseProblems(cast(Any, self.ordered), None, self.energy, labels, counted, n, loss)

    def of(self, rows: NDArray[np.bool_]) -> ColumnSpace:
        """Return some of the rows, (N,); their columns keep their order."""
        return ColumnSpace(self.ordered[rows], self.energy, self.order)


def column_space(values: csr_array[Any]) -> ColumnSpace:
    """Order the columns of sparse features."""
    squares = np.square(values.data, dtype=np.float64)
    energy = np.asarray(np.bincount(values.indices, squares, minlength=values.shape[1]), np.float64)
    order = np.argsort(energy, kind="stable")
    ordered = values[:, order].tocsr()
    ordered.sort_indices()
    return ColumnSpace(ordered, energy[order], order)


class SparseProblems(Problems):
    """Problems whose features are sparse: products take as long as there are numbers in them."""

    def decisions(self, weight: Floats, bias: Floats, which: NDArray[np.intp]) -> Floats:
        """See ``Problems.decisions``."""
        n_problems, n_classes, width = weight.shape
        by_column = np.ascontiguousarray(weight.reshape(-1, width).T)
        product: Floats = self.scores @ by_column
        product += bias.reshape(-1)
        return product.reshape(-1, n_problems, n_classes).transpose(1, 2, 0)  # (N, A x K) -> (A, K, N)

    def back(self, slopes: Floats, which: NDArray[np.intp]) -> Floats:
        """See ``Problems.back``."""
        n_problems, n_classes, n = slopes.shape
        by_row = np.ascontiguousarray(slopes.transpose(2, 0, 1)).reshape(n, -1)
        return np.ascontiguousarray((self.scores.T @ by_row).T).reshape(n_problems, n_classes, -1)

    def top(self, n_columns: int) -> Floats:
        """See ``Problems.top``: the columns that hold most."""
        scores: Any = self.scores
        columns: Floats = scores[:, scores.shape[1] - n_columns :].toarray()
        return columns
