"""Find the depth of the backbone that tells most about the data, and its gain over the last depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.heads.ridge import RidgePath
from thawline.planning.distances import halvings
from thawline.planning.held_out import mean_interval, with_all_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthProfile:
    """Errors of a closed-form probe at each depth, on rows left out."""

    names: tuple[str, ...]
    """From input to output."""
    errors: tuple[float, ...]
    best: int
    """Depth with the fewest errors, the later among equals."""
    saved: float
    """Error of the last depth less that of the best, which is chosen on other rows than those that judge it: below 0 if
    the choice is luck."""
    saved_ci95: tuple[float, float]
    """Paired: both depths are asked the same rows."""
    n: int

    @property
    def gap(self) -> float:
        """Share of the last depth's errors that the best depth saves; 0 if the last depth makes none."""
        return self.saved / self.errors[-1] if self.errors[-1] else 0.0

    @property
    def gap_ci95(self) -> tuple[float, float]:
        """``saved_ci95`` as a share of the last depth's errors, taken as known."""
        low, high = self.saved_ci95
        return (low / self.errors[-1], high / self.errors[-1]) if self.errors[-1] else (0.0, 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"gap": self.gap, "gap_ci95": self.gap_ci95}


def depth_profile(
    paths: Sequence[RidgePath],
    labels: ArrayLike,
    names: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> DepthProfile | None:
    """Compare the best depth with the last: choose the best on one half of the groups, judge it on the other.

    Args:
        paths: Of each depth from input to output; a classifier would see the last.
        labels: (N,) of the rows that the probes were fitted on.
        names: One for each depth.
        groups: (N,) as the probes were fitted with.
        seed: Decides the halves.
    Returns:
        None if all rows are one group, so that nothing could be left out.
    Raises:
        DataError: Names, labels or groups do not fit the probes.
    """
    if len(names) != len(paths):
        raise DataError(f"names must be one for each of {len(paths)} depths; got {len(names)}.")
    classes = np.asarray(labels)
    numbered = np.unique(np.arange(len(classes)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    held_out = [path.held_out_logits for path in paths]
    if any(logits is None for logits in held_out):
        return None
    if any(logits is not None and len(logits) != len(classes) for logits in held_out) or len(numbered) != len(classes):
        raise DataError("labels and groups must be those of the rows that the depths were fitted on; lengths differ.")
    wrong = np.stack([_mistakes(path, classes, numbered) for path in paths])  # (depths, N)
    saved = _saved(wrong, numbered, seed)
    errors = wrong.mean(axis=1)
    return DepthProfile(
        names=tuple(names),
        errors=tuple(errors.tolist()),
        best=_best(errors),
        saved=float(saved.mean()),
        saved_ci95=mean_interval(saved, numbered, -1, 1),
        n=len(classes),
    )


def _mistakes(path: RidgePath, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) 1 for a wrong answer on a row that the probe was not fitted on, else 0."""
    assert path.held_out_logits is not None
    temperature = next(step["temperature"] for step in path.steps if step["lambda"] == path.penalty)
    targets = 2 * np.eye(path.held_out_logits.shape[1])[labels] - 1
    decisions = with_all_shares(path.held_out_logits * temperature, targets, groups)
    return np.asarray(decisions.argmax(axis=1) != labels, dtype=np.float64)


def _saved(wrong: NDArray[np.float64], groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return (N,) mistakes of the last depth less those of the other half's best depth, mean over several halvings."""
    saved = np.zeros(wrong.shape[1])
    deals = halvings(int(groups.max()) + 1, seed)
    for halves in deals:
        for half in halves:
            judged = np.isin(groups, half)
            best = _best(wrong[:, ~judged].mean(axis=1))
            saved[judged] += wrong[-1, judged] - wrong[best, judged]
    return saved / len(deals)


def _best(errors: NDArray[np.float64]) -> int:
    return len(errors) - 1 - int(np.argmin(errors[::-1]))
