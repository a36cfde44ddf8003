"""From how many samples a class fine-tuning pays: two learning curves, where they cross, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thawline.evaluation.intervals import percentile_interval
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

Answer = Literal["from", "everywhere", "nowhere", "at first only"]
WORTH = 0.01
"""Share of the log loss that fine-tuning must save to pay, as in the choice of a plan."""
_BOOTSTRAPS = 1000
_FURTHER = 8
"""A crossing further beyond the data than so many times their size is not worth naming."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A frozen head and a fine-tuning that learned from the same samples, judged on the same others."""

    frozen: NDArray[np.float64]
    """(m,) log losses of the head on the frozen model."""
    tuned: NDArray[np.float64]
    """(m,) those of the fine-tuned model."""
    frozen_right: NDArray[np.bool_]
    """(m,)"""
    tuned_right: NDArray[np.bool_]
    """(m,)"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Size:
    """All that was trained on so many samples."""

    n: int
    of_class: float
    """Samples of a class, in the mean."""
    way: str
    """How the backbone was fine-tuned."""
    draws: Sequence[Trained]
    """One for each draw of the samples to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What frozen head and fine-tuning reach with so many samples, in the mean of the draws."""

    n: int
    of_class: float
    way: str
    draws: int
    frozen_accuracy: float
    tuned_accuracy: float
    frozen_log_loss: float
    tuned_log_loss: float
    saved: tuple[float, float, float]
    """Share of the log loss that fine-tuning saves: value and 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaysFrom:
    """From how many samples a class fine-tuning pays on these data."""

    reached: tuple[Reached, ...]
    """From few samples to all."""
    judged: int
    """Samples that all were judged on."""
    answer: Answer
    of_class: float | None
    """Samples a class from which fine-tuning pays; None if it does not within the data."""
    ci95: tuple[float | None, float | None]
    """95 % interval of that number; None stands for fewer than were measured, or for more. Both are None, too, if
    fine-tuning surely does not pay within the data."""
    beyond: float | None
    """Where the curves would cross beyond the data: a guess."""
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return a plain object, fit for JSON."""
        return asdict(self)


def pays_from(sizes: Sequence[Size], groups: NDArray[np.int64], seed: int) -> PaysFrom:
    """Fit both curves, find where fine-tuning begins to save log loss, and resample what it was judged on.

    Each curve is a power law of the samples a class, a straight line in logarithms. The bootstrap draws groups of
    judged samples and, at each size, the trainings.

    Args:
        sizes: From few to many; two at least.
        groups: (m,) of the judged samples; rows with equal numbers are drawn together.
    Source:
        Power laws of learning curves: Hestness et al. 2017, arXiv:1712.00409.
    """
    rng = generator(seed, "pays from")
    numbered = np.unique(groups, return_inverse=True)[1]
    n_groups = int(numbered.max()) + 1
    x = np.log2([size.of_class for size in sizes])
    saved, found = [], []
    for _ in range(_BOOTSTRAPS):
        weight = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)[numbered]
        drawn = [rng.integers(0, len(size.draws), len(size.draws)) for size in sizes]
        logs = _log_losses(sizes, weight, drawn)
        saved.append(1 - np.exp(logs[1] - logs[0]))
        found.append(_begins(x, *logs)[0])
    everything = np.ones(len(groups))
    logs = _log_losses(sizes, everything, [np.arange(len(size.draws)) for size in sizes])
    shares = 1 - np.exp(logs[1] - logs[0])
    intervals = [percentile_interval(column, share) for column, share in zip(np.array(saved).T, shares, strict=True)]
    reached = tuple(
        _reached(size, float(share), interval) for size, share, interval in zip(sizes, shares, intervals, strict=True)
    )
    begins, beyond = _begins(x, *logs)
    low, high = np.quantile(found, (0.025, 0.975), method="nearest")  # between infinities lies nothing
    low, high = min(low, begins), max(high, begins)
    first, last = float(x[0]), float(x[-1])
    answer: Answer = "from"
    if begins == math.inf:
        answer = "at first only" if shares[0] > WORTH and intervals[0][0] > 0 else "nowhere"
    elif begins <= first:
        answer = "everywhere"
    surely_not = low == math.inf
    ends = (None if low <= first or surely_not else float(2**low), None if high > last else float(2**high))
    at = None if begins == math.inf else float(2**begins)
    further = None if beyond is None else float(2**beyond)
    words = _in_words(answer, at, None if surely_not else ends, further, reached, len(groups))
    return PaysFrom(
        reached=reached, judged=len(groups), answer=answer, of_class=at, ci95=ends, beyond=further, words=words
    )


def _log_losses(
    sizes: Sequence[Size], weight: NDArray[Any], draws: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the logarithms (S,) of the mean losses of frozen heads and of fine-tunings."""
    whole = weight.sum()

    def of(side: str) -> NDArray[np.float64]:
        means = [
            np.mean([getattr(size.draws[j], side) @ weight / whole for j in chosen])
            for size, chosen in zip(sizes, draws, strict=True)
        ]
        return np.log(np.maximum(means, 1e-12))

    return of("frozen"), of("tuned")


def _begins(
    x: NDArray[np.float64], frozen: NDArray[np.float64], tuned: NDArray[np.float64]
) -> tuple[float, float | None]:
    """Return the log2 of samples a class from which the fitted curves say that fine-tuning pays up to the last size.

    Returns:
        The first size where it pays from the beginning, infinity where it does not at the end; and where the curves
        would cross beyond the data, if not too far.
    """
    (slope_f, level_f), (slope_t, level_t) = np.polyfit(x, frozen, 1), np.polyfit(x, tuned, 1)
    slope, level = slope_f - slope_t, level_f - level_t + math.log(1 - WORTH)  # of log(frozen / tuned), above WORTH
    ends = slope * x[[0, -1]] + level
    if ends[1] <= 0:
        beyond = -level / slope if slope > 0 else math.inf
        return math.inf, float(beyond) if beyond <= x[-1] + math.log2(_FURTHER) else None
    return (float(x[0]) if ends[0] > 0 else float(-level / slope)), None


def _reached(size: Size, share: float, interval: tuple[float, float]) -> Reached:
    def mean(side: str) -> float:
        return float(np.mean([getattr(draw, side).mean() for draw in size.draws]))

    return Reached(
        n=size.n,
        of_class=round(size.of_class, 2),
        way=size.way,
        draws=len(size.draws),
        frozen_accuracy=mean("frozen_right"),
        tuned_accuracy=mean("tuned_right"),
        frozen_log_loss=mean("frozen"),
        tuned_log_loss=mean("tuned"),
        saved=(share, *interval),
    )


def _in_words(
    answer: Answer,
    at: float | None,
    ends: tuple[float | None, float | None] | None,
    beyond: float | None,
    reached: Sequence[Reached],
    judged: int,
) -> str:
    low, high = _rounded(reached[0].of_class), _rounded(reached[-1].of_class)
    between = f"{low} to {high} samples a class, judged on {judged:,} others"
    doubt = ""
    if ends is not None:
        lower = f"{low} or fewer" if ends[0] is None else _rounded(ends[0])
        upper = f"more than the {high} that were measured" if ends[1] is None else _rounded(ends[1])
        doubt = f"95 %: {lower} to {upper}"
    if answer == "from":
        assert at is not None
        return f"Fine-tuning starts to pay at about {_rounded(at)} samples a class ({doubt}; measured with {between})."
    if answer == "everywhere":
        return f"Fine-tuning pays at every size that was measured ({doubt}; {between})."
    if answer == "at first only":
        return (
            f"Fine-tuning pays with {low} samples a class, and no more with {high}: a head on the frozen model catches "
            f"up ({between})."
        )
    further = "" if beyond is None else f" By the trend, it would at about {_rounded(beyond)}: a guess beyond the data."
    unsure = f" ({doubt})" if doubt else ""
    return f"Fine-tuning does not pay within the data{unsure}: {between}.{further}"


def _rounded(of_class: float) -> str:
    return f"{of_class:.1f}".removesuffix(".0") if of_class < 10 else f"{of_class:,.0f}"
