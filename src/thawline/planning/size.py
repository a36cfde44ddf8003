"""Measure how much data there is and whether more would help: a prior by number, corrected by a learning curve."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.heads.folds import stratified_group_folds
from thawline.heads.ridge import PENALTIES, Spectrum, solve_ridge, spectrum
from thawline.heads.row_space import scale_features
from thawline.heads.temperature import fit_temperature, row_log_losses
from thawline.heads.training_rows import TrainingRows, check_rows
from thawline.planning.held_out import mean_interval, with_all_shares
from thawline.randomness import derived_seed, generator

Verdict = Literal["variance-limited", "bias-limited", "levelling off", "nothing learned", "unknown"]
SizeReading = Literal["small", "between", "large"]

SMALL_N, LARGE_Z = 1_000, 1 / 3
"""Up to 1,000 samples are few. From 10,000 on they are many: a third of the way to a million, in powers of ten. All
thresholds here are rules of thumb; the curve may overrule these two."""
STILL_FALLS = 0.10
"""If the last doubling saved more than this share of the errors, data are what is missing."""
MEMORISED = 0.5
"""If errors on the training rows reach this share of those on rows left out, the head itself is what limits."""
N_PARTITIONS = 3
"""Partitions of the rows into eight pieces. Each serves twice, its halves exchanged: every row is asked three times at
every size."""
MOST_ROWS, MOST_COLUMNS = 4_000, 384
"""More rows are sampled, more columns reduced to that many principal components: a curve must cost seconds."""
_PIECES = 8
_FIT_PIECES = {8: 1, 4: 2, 2: 4}
"""Divisor of N -> pieces that are fitted on; the other half of the pieces is always asked."""
_PENALTIES = PENALTIES[::2]
"""One a decade: the curve compares sizes and needs no finer steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Error of the ridge head with that many rows."""

    n: int
    """Rows it was fitted on, on average."""
    error: float
    """Share of wrong answers on rows it was not fitted on."""
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """How much data there is, as a prior by number and as the learning curve of a ridge head on frozen features."""

    n: int
    n_groups: int
    """Rows of one group (copies, one patient) count once."""
    n_classes: int
    z: float
    """Prior: 0 up to 1,000 samples, 1 from a million on, by powers of ten."""
    reading: SizeReading
    """Prior and curve together."""
    verdict: Verdict
    sure: bool
    """Whether the interval of the last doubling's saving lies wholly on one side of 10 % of the errors."""
    curve: tuple[CurvePoint, ...]
    """From N/8 to N; sizes too small for two classes are left out."""
    train_error: float | None
    """On the rows that the head was fitted on, all N."""
    last_doubling: tuple[float, float, float] | None
    """Error saved from N/2 to N (same rows asked): value and 95 % interval; below 0 if more data did harm."""
    next_doubling_at_most: float | None
    """Largest error that N to 2N may save if the curve keeps flattening; None if nothing bounds it."""
    measured_rows: int
    measured_columns: int
    seconds: float
    words: str
    """What this means, in a few short sentences."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for ``--json``."""
        return asdict(self)


def prior_z(n: int) -> float:
    """Return clip((log10 n - 3) / 3, 0, 1): 0 up to 1,000 samples, 1 from a million on.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    return min(max((math.log10(n) - 3) / 3, 0.0), 1.0)


def measure_size(
    values: ArrayLike, labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None, seed: int = 0
) -> SizeReport:
    """Measure the learning curve of a ridge head, and say whether the data or the head is what limits.

    At N/8, N/4 and N/2, nested, a head is fitted and asked about the half of the rows that it did not see. At N, each
    row is asked of a fit on all others (leave-one-out in closed form, with its group). All sizes are asked the same
    rows, and the penalty for a row at N was chosen on rows of the other half, so only the number of rows differs. The
    intervals cover which rows were asked, not which were drawn to fit on.

    Args:
        values: (N, D) features of the training rows.
        labels: (N,) in 0..n_classes-1.
        groups: (N,) rows with equal numbers (copies, one patient) are always on one side.
        seed: Decides the pieces, and the rows and columns kept of too many.
    Raises:
        DataError: What ``fit_head`` refuses.
    """
    started = time.perf_counter()
    rows = check_rows(values, labels, n_classes, groups)
    measured = _reduced(_sampled(rows, seed), seed)
    curve = _measure(measured, seed)
    return _report(rows, measured, curve, started)


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    wrong: dict[int, NDArray[np.float64]]
    """Divisor of N -> (N,) share of the times that each row was asked in which the answer was wrong."""
    fitted: dict[int, float]
    """Divisor of N -> rows fitted on."""
    misfit: NDArray[np.bool_]
    """(N,) whether a row is answered wrongly by the head that was fitted on it."""


def _sampled(rows: TrainingRows, seed: int) -> TrainingRows:
    """Keep at most about ``MOST_ROWS`` rows: whole groups, classes in their shares."""
    if len(rows) <= MOST_ROWS:
        return rows
    groups, first = np.unique(rows.groups, return_index=True)
    drawn = generator(seed, "size", "rows").permutation(len(groups))
    by_class = drawn[np.argsort(rows.labels[first[drawn]], kind="stable")]
    step = len(rows) / MOST_ROWS
    kept = np.isin(rows.groups, groups[by_class[np.arange(0, len(groups), step).astype(np.int64)]])
    if len(np.unique(rows.labels[kept])) < 2:
        return rows
    return check_rows(rows.values[kept], rows.labels[kept], rows.n_classes, rows.groups[kept])


def _reduced(rows: TrainingRows, seed: int) -> TrainingRows:
    """Keep the leading principal components, found without labels by a randomised range finder.

    Source:
        Halko, Martinsson and Tropp 2011, SIAM Review 53:217, with one power iteration.
    """
    if min(rows.values.shape) <= MOST_COLUMNS:
        return rows
    centred = rows.values - rows.values.mean(axis=0)
    probe = generator(seed, "size", "columns").standard_normal((centred.shape[1], MOST_COLUMNS), dtype=np.float32)
    basis = np.linalg.qr(centred.T @ np.linalg.qr(centred @ probe)[0])[0]  # (D, K)
    return TrainingRows(centred @ basis, rows.labels, rows.groups, rows.n_classes)


def _measure(rows: TrainingRows, seed: int) -> _Curve | None:
    """Return the curve, or None if not even half of the rows can be fitted on."""
    if rows.groups.max() == 0:
        return None
    at_n = _AtN.of(rows)
    wrong = {divisor: np.zeros(len(rows)) for divisor in (*_FIT_PIECES, 1)}
    fitted: dict[int, list[int]] = {divisor: [] for divisor in _FIT_PIECES}
    for partition in range(N_PARTITIONS):
        pieces = stratified_group_folds(rows.labels, rows.groups, _PIECES, derived_seed(seed, "size", partition))
        for order in (pieces, _PIECES - 1 - pieces):
            outside = order >= _PIECES // 2
            wrong[1][outside] += at_n.wrong(outside)
            for divisor in list(fitted):
                inside = order < _FIT_PIECES[divisor]
                if len(np.unique(rows.labels[inside])) < 2 or not outside.any():
                    del fitted[divisor]  # too few to be a point of the curve
                    continue
                part = check_rows(rows.values[inside], rows.labels[inside], rows.n_classes, rows.groups[inside])
                head, _ = solve_ridge(spectrum(scale_features(part.values), part), part, _PENALTIES)
                wrong[divisor][outside] += head.decision(rows.values[outside]).argmax(axis=1) != rows.labels[outside]
                fitted[divisor].append(len(part))
    if 2 not in fitted:
        return None
    sizes = {divisor: float(np.mean(counts)) for divisor, counts in fitted.items()} | {1: float(len(rows))}
    return _Curve({divisor: wrong[divisor] / N_PARTITIONS for divisor in sizes}, sizes, at_n.misfit())


@dataclass(frozen=True, slots=True, eq=False)
class _AtN:
    """Fits on all rows with every penalty, and the answers of each on the rows that it left out."""

    basis: Spectrum
    labels: NDArray[np.int64]
    penalties: tuple[float, ...]
    mistaken: NDArray[np.bool_]
    """(P, N)"""
    losses: NDArray[np.float64]
    """(P, N) log loss at the temperature of the penalty."""

    @classmethod
    def of(cls, rows: TrainingRows) -> _AtN:
        basis = spectrum(scale_features(rows.values), rows)
        penalties = tuple(penalty * rows.values.shape[1] for penalty in _PENALTIES)
        mistaken, losses = [], []
        for penalty in penalties:
            decisions = with_all_shares(basis.left_out(penalty, rows.groups), basis.targets, rows.groups)
            temperature, _ = fit_temperature(decisions, rows.labels)
            mistaken.append(decisions.argmax(axis=1) != rows.labels)
            losses.append(row_log_losses(decisions / temperature, rows.labels))
        return cls(basis, rows.labels, penalties, np.stack(mistaken), np.stack(losses))

    def wrong(self, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return mistakes on the rows asked (M,), at the penalty that is best for all the others.

        A penalty chosen on the rows that judge it would make N look better than N/2, which has no such choice.
        """
        best = int(self.losses[:, ~asked].sum(axis=1).argmin())
        return np.asarray(self.mistaken[best, asked])

    def misfit(self) -> NDArray[np.bool_]:
        """Return mistakes (N,) on the rows that were fitted on."""
        penalty = self.penalties[int(self.losses.sum(axis=1).argmin())]
        eigenvalues = self.basis.space.eigenvalues
        shrunk = self.basis.left * (eigenvalues / (eigenvalues + penalty))
        decisions = self.basis.targets.mean(axis=0) + shrunk @ self.basis.explained
        return np.asarray(decisions.argmax(axis=1) != self.labels)


def _report(rows: TrainingRows, measured: TrainingRows, curve: _Curve | None, started: float) -> SizeReport:
    n, n_groups = len(rows), int(rows.groups.max()) + 1
    z = prior_z(n)
    reading: SizeReading = "small" if n <= SMALL_N else "large" if z >= LARGE_Z else "between"
    if curve is None:
        verdict: Verdict = "unknown"
        points: tuple[CurvePoint, ...] = ()
        saved, at_most, sure = None, None, False
    else:
        groups, errors = measured.groups, curve.wrong
        points = tuple(
            CurvePoint(
                n=round(curve.fitted[d]), error=float(errors[d].mean()), ci95=mean_interval(errors[d], groups, 0, 1)
            )
            for d in sorted(curve.fitted, reverse=True)
        )
        saved = (float((errors[2] - errors[1]).mean()), *mean_interval(errors[2] - errors[1], groups, -1, 1))
        at_most = _next_at_most(curve, groups, saved)
        verdict, sure = _judge(points, curve, saved, measured)
        reading = _corrected(reading, verdict, sure)
    report = SizeReport(
        n=n,
        n_groups=n_groups,
        n_classes=rows.n_classes,
        z=z,
        reading=reading,
        verdict=verdict,
        sure=sure,
        curve=points,
        train_error=None if curve is None else float(curve.misfit.mean()),
        last_doubling=saved,
        next_doubling_at_most=at_most,
        measured_rows=len(measured),
        measured_columns=measured.values.shape[1],
        seconds=0.0,
        words="",
    )
    return replace(report, words=_words(report), seconds=time.perf_counter() - started)


def _next_at_most(curve: _Curve, groups: NDArray[np.int64], saved: tuple[float, float, float]) -> float | None:
    """Bound what the next doubling saves by what the last one saved: learning curves flatten once they fall.

    No law is fitted, and nothing is said of a second doubling: extrapolated power laws miss by factors.
    """
    if 4 in curve.wrong:
        steepening = (curve.wrong[2] - curve.wrong[1]) - (curve.wrong[4] - curve.wrong[2])
        if mean_interval(steepening, groups, -2, 2)[0] > 0:
            return None
    return max(0.0, min(saved[2], float(curve.wrong[1].mean())))


def _judge(
    points: tuple[CurvePoint, ...], curve: _Curve, saved: tuple[float, float, float], rows: TrainingRows
) -> tuple[Verdict, bool]:
    before, last = points[-2:]
    commonest = float(np.bincount(rows.labels).max()) / len(rows)
    if last.ci95[1] >= 1 - commonest:
        return "nothing learned", True
    if last.error == 0:
        return "levelling off", True
    enough = STILL_FALLS * before.error
    if saved[1] > enough:  # whatever the head cannot learn, more data surely helped
        return "variance-limited", True
    over = curve.misfit - MEMORISED * curve.wrong[1]
    if over.mean() >= 0:
        return "bias-limited", mean_interval(over, rows.groups, -1, 1)[0] > 0
    return ("variance-limited" if saved[0] > enough else "levelling off"), saved[2] < enough


def _corrected(prior: SizeReading, verdict: Verdict, sure: bool) -> SizeReading:
    """Move the prior by at most one step, if the curve is sure and says the opposite."""
    if not sure:
        return prior
    if verdict == "variance-limited":
        return {"large": "between", "between": "small", "small": "small"}[prior]  # type: ignore[return-value]
    if verdict == "bias-limited":
        return {"small": "between", "between": "large", "large": "large"}[prior]  # type: ignore[return-value]
    return prior


def _words(report: SizeReport) -> str:
    samples = f"{report.n:,} samples" + (f" ({report.n_groups:,} independent)" if report.n_groups < report.n else "")
    prior = {"small": "few", "between": "neither few nor many", "large": "many"}[report.reading]
    if report.verdict == "unknown":
        return f"{samples} in {report.n_classes} classes: {prior}; too few to measure whether more would help."
    before, last = report.curve[-2:]
    measured = f" (measured on {report.measured_rows:,} of the samples)" if report.measured_rows < report.n else ""
    curve = (
        f"A linear head on frozen features errs on {_percent(last.error)} of new samples if fitted on {last.n:,}, and "
        f"on {_percent(before.error)} if fitted on {before.n:,}{measured}"
    )
    doubt = "" if report.sure else " (too few mistakes to be sure)"
    meaning = {
        "variance-limited": f"The last doubling saved over a tenth of the errors, so more data would help{doubt}",
        "bias-limited": f"The head errs on {_percent(report.train_error or 0)} even of what it was fitted on, so it "
        f"limits more than the data do{doubt}",
        "levelling off": f"The curve levels off{doubt}",
        "nothing learned": "That is not clearly better than always naming the commonest class",
    }[report.verdict]
    if report.verdict == "nothing learned":
        return f"{samples} in {report.n_classes} classes. {curve}. {meaning}."
    more = (
        "The curve still steepens, so nothing bounds what twice the data would save."
        if report.next_doubling_at_most is None
        else f"Twice the data would save at most about {_points(report.next_doubling_at_most)} of error, by the last "
        "doubling."
    )
    return f"{samples} in {report.n_classes} classes: {prior}. {curve}. {meaning}. {more}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
