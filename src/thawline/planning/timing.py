"""What a fit will take, in seconds, disk and memory: timed on a few batches before it runs, then multiplied out."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thawline.data import split_data, subset
from thawline.listening import ProgressOnly
from thawline.planning.asking import ask_for, precision_of
from thawline.planning.sampling import sampled
from thawline.randomness import generator
from thawline.records import Split
from thawline.training.schedule import steps_per_epoch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Rung
    from thawline.heads import HeadKind
    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset, Features
    from thawline.training.settings import StagePlan, TrainPlan

WARM_UP = 2
"""Steps, or reports of progress, that prepare what all others use: they say nothing about these."""
TIMED_STEPS = 6
"""Steps of training, the first of them to warm up, on as many samples as half of them show."""
TIMED_PICTURES = 256
"""Pictures that the frozen backbone is timed on: several batches are under way at once, and come out together, so that
the pace of a few would be that of the last wave. They are kept, and not run again."""
CACHING = "boundary"
"""The phase of training that makes what crosses the thaw line."""
FORWARD = 1 / 3
"""Share of a step that judging takes, which goes forward only."""
TUNED_S = 2.5
"""To convert a backbone that was just trained, and start its engine."""
EVALUATION_S = 0.3
"""Scoring, simpler methods, and writing the run folder, for few samples; many take more in proportion to the rest."""
HEAD_ROWS, WARM_ROWS = 600, 20
"""Samples that a head is timed on, at most; and those that warm it up."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fit will take."""

    seconds: float
    disk_bytes: int
    """Kept in the cache: features, and activations at the thaw line."""
    memory_bytes: int
    """At the peak, of the process."""

    def __str__(self) -> str:
        from thawline.store.sizes import format_bytes

        return (
            f"about {in_words(self.seconds)}, {format_bytes(self.disk_bytes)} in the cache, "
            f"{format_bytes(self.memory_bytes)} of memory"
        )


def in_words(seconds: float) -> str:
    """``8 s``, ``3.5 min``, ``2.1 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@dataclass(slots=True)
class _Phase:
    done: int
    at: float
    reports: int = 0
    warm: tuple[int, float] = (0, 0.0)
    """Units that warmed up, and the seconds that they took."""
    timed: tuple[int, float] = (0, 0.0)
    """All others."""


@dataclass(slots=True)
class Stopwatch:
    """Reads paces off the progress that training reports."""

    began: float = field(default_factory=time.monotonic)
    _phases: dict[str, _Phase] = field(default_factory=dict)

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that were heard of."""
        return tuple(self._phases)

    def hear(self, phase: str, done: int) -> None:
        """``done`` units of a phase are done by now; fewer than before where it begins again."""
        now = time.monotonic()
        known = self._phases.setdefault(phase, _Phase(done, now))
        if done > known.done:
            known.reports += 1
            units, seconds = known.warm if known.reports <= WARM_UP else known.timed
            more = units + done - known.done, seconds + now - known.at
            if known.reports <= WARM_UP:
                known.warm = more
            else:
                known.timed = more
        known.done, known.at = done, now

    def is_warm(self, phase: str) -> bool:
        """Whether what was heard tells of what is to come."""
        return phase in self._phases and self._phases[phase].timed[0] > 0

    def pace(self, phase: str) -> float:
        """Seconds for one unit; 0 where nothing was heard of."""
        if phase not in self._phases:
            return 0.0
        units, seconds = self._phases[phase].timed if self.is_warm(phase) else self._phases[phase].warm
        return seconds / max(units, 1)

    def units(self, phase: str) -> int:
        """What was done of a phase since it was first heard of."""
        known = self._phases.get(phase)
        return known.warm[0] + known.timed[0] if known else 0

    def around(self) -> float:
        """Seconds since it began that no phase accounts for."""
        return max(time.monotonic() - self.began - sum(self.units(p) * self.pace(p) for p in self._phases), 0.0)


@dataclass(frozen=True, slots=True)
class Paces:
    """Of one stage of training."""

    row_s: float
    """One view of one sample, through the frozen part, to the disk."""
    step_s: float
    """One step above the line, its inputs read."""
    around_s: float
    """Everything before the first step and after the last, made once for each training."""


def forecast(data: Dataset, backbone: Backbone, plan: FitPlan) -> Forecast:
    """Say what ``fit`` will take with a plan, by doing a little of everything that it does.

    Nothing stored for these data is counted on but what is stored of the frozen features; what is computed for timing
    them is kept. The forecast of progressive unfreezing is that of all its stages: it may stop sooner.

    Args:
        plan: Complete, as ``thawline.plan`` gives it.
    Raises:
        ThawlineError: As the fit would.
    """
    data = sampled(data, plan)
    split = split_data(data, fractions=plan.fractions, seed=plan.seed, validating=plan.trains)
    seconds, disk, picture_s = EVALUATION_S, 0, 0.0
    if plan.from_scratch:
        width = backbone.ladder.rungs[-1].shape[0]
    else:
        timed = time_features(data, backbone, plan)
        picture_s, width = timed.picture_s, timed.width
        seconds += timed.left_s + timed.took_s  # what was timed is not done again
        disk += len(data) * width * 4
        if plan.head != "mlp":
            seconds += time_head(split, data, plan, width).of(len(split.train) + len(split.val))
    if plan.stages:
        seconds += _loading_s()
    for stage in plan.stages:
        paces = time_stage(data, backbone, plan, stage, width)
        took, kept = stage_cost(stage, paces, split, rung_of(backbone, stage), plan)
        seconds, disk = seconds + took, disk + kept
    if plan.thaw != "none":
        tuned_width = len(split.test) * width * 4
        seconds, disk = seconds + TUNED_S + len(split.test) * picture_s, disk + tuned_width
    return Forecast(seconds, disk, peak_memory())


def _loading_s() -> float:
    """Seconds to load what trains: a fit in a process of its own has to, whatever this one has loaded by then."""
    started = time.perf_counter()
    import thawline.training.finetune  # noqa: F401

    return time.perf_counter() - started


def stage_cost(
    stage: StagePlan, paces: Paces, split: Split, rung: Rung, plan: FitPlan, *, n_stored: int = 0
) -> tuple[float, int]:
    """Seconds and bytes on disk of a stage and, where the plan trains again on all samples, of that.

    Args:
        rung: Where the line of the stage stands.
        n_stored: Rows of the boundary, one for each view of a sample, that are there already.
    """
    assert plan.training is not None
    n_train, n_val = len(split.train), len(split.val)
    trainings = [(n_train, n_val)]
    if plan.training.refit and n_val:
        trainings.append((n_train + n_val, 0))
    seconds = sum(training_s(stage, paces, n, judged, plan.training) for n, judged in trainings)
    n_rows = 0
    if stage.views and rung.name != "pooled":
        most = max(n for n, _ in trainings)
        n_rows = most * stage.views + n_val
    return seconds + max(n_rows - n_stored, 0) * paces.row_s, n_rows * rung.row_bytes(precision_of(plan))


def training_s(stage: StagePlan, paces: Paces, n: int, judged: int, settings: TrainPlan) -> float:
    """Seconds of training on ``n`` samples what the boundary holds of them, judged by others now and then."""
    steps = stage.epochs * steps_per_epoch(n, settings.batch_size)
    judging = (min(settings.evaluations, steps) + 1) * judged
    return paces.around_s + paces.step_s * (steps + judging * FORWARD / settings.batch_size)


def peak_memory() -> int:
    """Bytes that this process has held at most, until now; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


class FeaturesTimed(NamedTuple):
    """What a few pictures tell of the features of all."""

    left_s: float
    """Seconds that those take which are not stored yet."""
    picture_s: float
    """Seconds of one picture."""
    width: int
    computed: int
    """Pictures that were run, and stored."""
    took_s: float


def time_features(
    data: Dataset, backbone: Backbone, plan: FitPlan, order: NDArray[np.int64] | None = None, n: int = TIMED_PICTURES
) -> FeaturesTimed:
    """Make the engine, and time it on a few pictures, whose features are stored.

    Args:
        order: (N,) row numbers: the first that are not stored are timed; by default any.
        n: So many.
    """
    from thawline.features import extract_features
    from thawline.features.extract import layers_in, missing_samples

    started, watch = time.perf_counter(), Stopwatch()
    missing, engine = missing_samples(
        data, backbone, layers_in(plan.layer), engine=plan.engine, precision=plan.precision, device=plan.device
    )

    def extracted(rows: NDArray[np.int64]) -> Features:
        return extract_features(
            subset(data, rows),
            backbone,
            rung=plan.layer,
            engine=engine,  # that of all of them: for a few, it might not be worth converting the backbone
            precision=plan.precision,
            device=plan.device,
            progress=lambda done, _: watch.hear("pictures", done),
            keep_engine=True,
        )

    if order is None:
        order = generator(plan.seed, "pictures to time").permutation(len(data))
    timed = order[np.isin(order, missing)][:n]
    width = extracted(timed if len(timed) else np.arange(1)).values.shape[1]
    picture_s = watch.pace("pictures")
    left_s = picture_s * (len(missing) - len(timed))
    return FeaturesTimed(left_s, picture_s, width, len(timed), time.perf_counter() - started)


class HeadTimed(NamedTuple):
    """What a head on few samples tells of one on more."""

    seconds: float
    n: int
    """Samples that it was solved on."""
    width: int
    """Features of each."""

    def of(self, n: int) -> float:
        """Seconds of a head on n samples: each of them takes part in products with as many others as there are, or as
        there are features, where these are fewer; with fewer samples, what every product costs however small remains.
        """
        wider = min(n, self.width) / max(min(self.n, self.width), 1)
        return self.seconds * n / max(self.n, 1) * max(wider, 1.0)


def time_head(split: Split, data: Dataset, plan: FitPlan, width: int, most: int = HEAD_ROWS) -> HeadTimed:
    """Solve the head, its strength chosen by cross-validation, on noise, for some of these labels.

    Args:
        most: Samples, where that is less than usual.
    """
    from thawline.heads import fit_head

    learned = np.concatenate([split.train, split.val])
    rng = generator(plan.seed, "head to time")
    rows = rng.permutation(learned)[: min(most, HEAD_ROWS)]
    labels = np.unique(data.labels[rows], return_inverse=True)[1]
    if len(np.unique(labels)) < 2:
        return HeadTimed(0.0, len(rows), width)
    values = rng.standard_normal((len(rows), width)).astype(np.float32)
    kind: HeadKind = "logistic" if plan.head == "mlp" else plan.head
    fit_head(kind, values[:WARM_ROWS, :WARM_ROWS], np.arange(len(rows))[:WARM_ROWS] % 2, 2)  # loads what solves it
    started = time.perf_counter()
    fit_head(kind, values, labels, int(labels.max()) + 1, seed=plan.seed)
    return HeadTimed(time.perf_counter() - started, len(rows), width)


def time_stage(data: Dataset, backbone: Backbone, plan: FitPlan, stage: StagePlan, width: int) -> Paces:
    """Train a stage for a few steps, on a few samples, from a head that knows nothing.

    Args:
        width: Of the features, which an MLP on them is timed with.
    """
    from thawline.training.finetune import fine_tune

    assert plan.training is not None
    settings = plan.training.model_copy(update={"refit": False, "evaluations": 1})
    rng = generator(plan.seed, "stage to time")
    few = subset(data, rng.permutation(len(data))[: settings.batch_size * TIMED_STEPS // 2])
    rows = np.arange(len(few))
    split = Split(rows, rows[:0], rows[:0], "a few samples", rows[:0])
    steps = steps_per_epoch(len(rows), settings.batch_size)
    short = stage.model_copy(update={"epochs": math.ceil(TIMED_STEPS / steps), "views": min(stage.views, 1)})
    ask = ask_for(plan, stages=(short,), settings=settings)
    watch = Stopwatch()
    listener = ProgressOnly(lambda phase, done, _: watch.hear(phase, done))
    # noise: of zeros, nothing could be learned, and the receipt would say so
    features = rng.standard_normal((len(few), width)).astype(np.float32) if stage.rung == "pooled" else None
    with tempfile.TemporaryDirectory(prefix="thawline-forecast-") as state:
        fine_tune(ask, few, split, backbone, features, None, Path(state), listener)
    return paces_of(watch)


def paces_of(watch: Stopwatch) -> Paces:
    """What a training of one stage went at, which is just over."""
    around = watch.around()
    return Paces(watch.pace(CACHING), sum(watch.pace(phase) for phase in watch.phases if phase != CACHING), around)


def rung_of(backbone: Backbone, stage: StagePlan) -> Rung:
    """Where the line of a stage stands."""
    return next(rung for rung in backbone.ladder.rungs if rung.name == stage.rung)
