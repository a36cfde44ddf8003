"""Forecast what a fit takes in seconds, disk and memory: time a few batches of everything, then multiply."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thawline.data import subset
from thawline.listening import ProgressOnly
from thawline.planning.arms import usual_head
from thawline.planning.asking import ask_for, precision_of
from thawline.planning.kept_rows import ladder_for
from thawline.randomness import generator
from thawline.records import Split
from thawline.training.schedule import n_pairs, steps_per_epoch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Rung
    from thawline.heads import HeadKind
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground
    from thawline.records import Dataset, Features
    from thawline.training.settings import StagePlan, TrainPlan

WARM_UP = 2
"""Steps, or reports of progress, that warm up; their pace says nothing about the others."""
TIMED_STEPS = 6
"""Steps of training, the first ones to warm up, on as many samples as half of the steps show."""
TIMED_PICTURES = 256
"""Samples that the frozen backbone is timed on. Several batches are under way at once and come out together, so fewer
samples would show the pace of the last wave only. Their features are kept."""
CACHING = "boundary"
"""Phase of training that computes the boundary cache."""
FORWARD = 1 / 3
"""Judging takes this share of a training step: it only goes forward."""
TUNED_S = 2.5
"""Seconds to convert a backbone after training and start its engine."""
EVALUATION_S = 0.3
"""Seconds for scores, simpler methods and the run folder, of few samples."""
HEAD_ROWS, WARM_ROWS = 600, 20
"""Most samples that a head is timed on, and samples that warm it up."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fit will take."""

    seconds: float
    disk_bytes: int
    """Kept in the cache: features, and activations at the thaw line."""
    memory_bytes: int
    """Peak of the process."""

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
    """Units that warmed up, and their seconds."""
    timed: tuple[int, float] = (0, 0.0)
    """All other units, and their seconds."""


@dataclass(slots=True)
class Stopwatch:
    """Reads paces off the progress of training."""

    began: float = field(default_factory=time.monotonic)
    _phases: dict[str, _Phase] = field(default_factory=dict)

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases that were heard of."""
        return tuple(self._phases)

    def hear(self, phase: str, done: int) -> None:
        """Note that ``done`` units of a phase are done; fewer than before mean that it began again."""
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
        """Whether the phase has gone on long enough to tell its pace."""
        return phase in self._phases and self._phases[phase].timed[0] > 0

    def pace(self, phase: str) -> float:
        """Return seconds for one unit; 0 for a phase that was not heard of."""
        if phase not in self._phases:
            return 0.0
        units, seconds = self._phases[phase].timed if self.is_warm(phase) else self._phases[phase].warm
        return seconds / max(units, 1)

    def units(self, phase: str) -> int:
        """Return the units of a phase that were done since it was first heard of."""
        known = self._phases.get(phase)
        return known.warm[0] + known.timed[0] if known else 0

    def around(self) -> float:
        """Return the seconds since the start that no phase accounts for."""
        return max(time.monotonic() - self.began - sum(self.units(p) * self.pace(p) for p in self._phases), 0.0)


@dataclass(frozen=True, slots=True)
class Paces:
    """Paces of one stage of training."""

    row_s: float
    """Seconds for one view of one sample through the frozen part to the disk."""
    step_s: float
    """Seconds for one step above the line, reading its inputs included."""
    around_s: float
    """Seconds before the first step and after the last, once for each training."""


def forecast(ground: Ground, backbone: Backbone, plan: FitPlan) -> Forecast:
    """Forecast what ``fit`` takes with a plan, by doing a little of everything that it does.

    The forecast counts on stored features of the frozen model, and on nothing else that is stored for these data.
    Features computed for timing are kept. The forecast of progressive unfreezing covers all stages; it may stop sooner.

    Args:
        ground: What the plan is made for.
        plan: Complete, as ``thawline.plan`` gives it.
    Raises:
        ThawlineError: As the fit would.
    """
    data, split = ground.data, ground.split
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
        took, kept = stage_cost(stage, paces, ground.held_out(plan), rung_of(backbone, stage, data), plan)
        seconds, disk = seconds + took, disk + kept
    if plan.thaw != "none":
        tuned_width = len(split.test) * width * 4
        seconds, disk = seconds + TUNED_S + len(split.test) * picture_s, disk + tuned_width
    return Forecast(seconds, disk, peak_memory())


def _loading_s() -> float:
    """Return the seconds to load what trains, which a fit in a process of its own needs."""
    started = time.perf_counter()
    import thawline.training.finetune  # noqa: F401

    return time.perf_counter() - started


def stage_cost(
    stage: StagePlan,
    paces: Paces,
    split: Split,
    rung: Rung,
    plan: FitPlan,
    *,
    joint: Paces | None = None,
    n_stored: int = 0,
    chosen: bool = False,
) -> tuple[float, int]:
    """Return seconds and bytes on disk of a stage, going on with all samples included if the plan does that.

    Args:
        split: What the stage learns from and is judged by first, as ``Ground.held_out`` gives it.
        rung: Where the line of the stage stands.
        joint: Paces of everything, if that learns from all samples; by default they are derived from ``paces``.
        n_stored: Rows of the boundary cache, one for each view of a sample, that are there already.
        chosen: Its trial is the first part of the stage, and only the second one is left.
    """
    assert plan.training is not None
    n_train, n_val = len(split.train), len(split.val)
    goes_on = plan.training.refit and stage.joint_epochs > 0
    seconds = 0.0 if chosen else training_s(stage.epochs, paces, n_train, n_val, plan.training)
    if goes_on:
        if joint is None:
            joint = _of_everything(paces, rung, plan.training.batch_size) if stage.joint_thaw else paces
        seconds += training_s(stage.joint_epochs, joint, n_train + n_val, 0, plan.training)
    n_rows = 0
    if stage.views and rung.name != "pooled":
        n_rows = (n_train + n_val * (goes_on and not stage.joint_thaw)) * stage.views + n_val
    return seconds + max(n_rows - n_stored, 0) * paces.row_s, n_rows * rung.row_bytes(precision_of(plan))


def _of_everything(paces: Paces, rung: Rung, batch_size: int) -> Paces:
    """Return the paces of training everything, from those of training what lies above a rung.

    A step takes as many times longer as it has FLOPs more, and reads its pictures anew.
    """
    step_s = paces.step_s / (1 - rung.flops_below_frac) + batch_size * paces.row_s
    return Paces(paces.row_s, step_s, paces.around_s)


def training_s(epochs: int, paces: Paces, n: int, judged: int, settings: TrainPlan) -> float:
    """Return the seconds of training on ``n`` cached samples, with ``judged`` others at each evaluation."""
    steps = epochs * steps_per_epoch(n, settings.batch_size)
    if settings.objective == "contrastive":
        steps = min(steps, max(settings.pairs // n_pairs(settings.batch_size), 1))
    judging = (min(settings.evaluations, steps) + 1) * judged
    return paces.around_s + paces.step_s * (steps + judging * FORWARD / settings.batch_size)


def peak_memory() -> int:
    """Return the peak memory of this process so far, in bytes; 0 if the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


class FeaturesTimed(NamedTuple):
    """Pace of the frozen backbone, and seconds for the features of all samples."""

    left_s: float
    """Seconds for the features that are not stored yet."""
    picture_s: float
    """Seconds for one sample."""
    width: int
    computed: int
    """Samples that were run; their features are stored."""
    took_s: float


def time_features(
    data: Dataset, backbone: Backbone, plan: FitPlan, order: NDArray[np.int64] | None = None, n: int = TIMED_PICTURES
) -> FeaturesTimed:
    """Make the engine, and time it on a few samples; their features are stored.

    Args:
        order: (N,) row numbers; the first that are not stored are timed. By default a random order.
        n: Most samples to time.
    """
    from thawline.backbones.names import layers_in
    from thawline.features import extract_features
    from thawline.features.extract import missing_samples

    started, watch = time.perf_counter(), Stopwatch()
    missing, engine = missing_samples(
        data, backbone, layers_in(plan.layer), engine=plan.engine, precision=plan.precision, device=plan.device
    )

    def extracted(rows: NDArray[np.int64]) -> Features:
        return extract_features(
            subset(data, rows),
            backbone,
            rung=plan.layer,
            engine=engine,  # chosen for all samples: for a few, converting the backbone might not pay
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
    """Seconds of a head on few samples, and what they tell of one on more."""

    seconds: float
    n: int
    """Samples that the head was solved on."""
    width: int
    """Features of a sample."""

    def of(self, n: int) -> float:
        """Return the seconds of a head on n samples.

        Each sample takes part in products with all others, or with all features if these are fewer. With fewer samples
        than were timed, the fixed cost of every product remains.
        """
        wider = min(n, self.width) / max(min(self.n, self.width), 1)
        return self.seconds * n / max(self.n, 1) * max(wider, 1.0)


def time_head(split: Split, data: Dataset, plan: FitPlan, width: int, most: int = HEAD_ROWS) -> HeadTimed:
    """Time the head, cross-validation of its strength included, on noise with some of these labels.

    Args:
        most: Most samples, if fewer than usual.
    """
    from thawline.heads import fit_head

    learned = np.concatenate([split.train, split.val])
    rng = generator(plan.seed, "head to time")
    rows = rng.permutation(learned)[: min(most, HEAD_ROWS)]
    labels = data.truth[rows] if data.targets is not None else np.unique(data.labels[rows], return_inverse=True)[1]
    if data.targets is None and len(np.unique(labels)) < 2:
        return HeadTimed(0.0, len(rows), width)
    n_outputs = int(labels.max()) + 1 if data.targets is None else len(data.outputs)
    values = rng.standard_normal((len(rows), width)).astype(np.float32)
    kind: HeadKind = usual_head(data.truth) if plan.head == "mlp" else plan.head
    fit_head(kind, values[:WARM_ROWS, :WARM_ROWS], np.arange(len(rows))[:WARM_ROWS] % 2, 2)  # loads what solves it
    started = time.perf_counter()
    fit_head(kind, values, labels, n_outputs, seed=plan.seed)
    return HeadTimed(time.perf_counter() - started, len(rows), width)


def time_stage(data: Dataset, backbone: Backbone, plan: FitPlan, stage: StagePlan, width: int) -> Paces:
    """Time a stage: train it for a few steps on a few samples, from a head that knows nothing.

    Args:
        width: Of the features, for an MLP on them.
    """
    from thawline.training.finetune import fine_tune

    assert plan.training is not None
    settings = plan.training.changed(refit=False, evaluations=1)
    rng = generator(plan.seed, "stage to time")
    few = subset(data, rng.permutation(len(data))[: settings.batch_size * TIMED_STEPS // 2])
    rows = np.arange(len(few))
    split = Split(rows, rows[:0], rows[:0], "a few samples", rows[:0])
    steps = steps_per_epoch(len(rows), settings.batch_size)
    short = stage.changed(epochs=math.ceil(TIMED_STEPS / steps), views=min(stage.views, 1))
    ask = ask_for(plan, stages=(short,), settings=settings)
    watch = Stopwatch()
    listener = ProgressOnly(lambda phase, done, _: watch.hear(phase, done))
    # noise, because zeros would teach nothing and the receipt would refuse that
    features = rng.standard_normal((len(few), width)).astype(np.float32) if stage.rung == "pooled" else None
    with tempfile.TemporaryDirectory(prefix="thawline-forecast-") as state:
        fine_tune(ask, few, split, backbone, features, None, Path(state), listener)
    return paces_of(watch)


def paces_of(watch: Stopwatch) -> Paces:
    """Return the paces of a stage whose training is just over."""
    around = watch.around()
    return Paces(watch.pace(CACHING), sum(watch.pace(phase) for phase in watch.phases if phase != CACHING), around)


def rung_of(backbone: Backbone, stage: StagePlan, data: Dataset) -> Rung:
    """Return the rung where the line of a stage stands, with the bytes that the samples take there."""
    return next(rung for rung in ladder_for(backbone, data).rungs if rung.name == stage.rung)
