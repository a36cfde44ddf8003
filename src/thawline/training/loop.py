"""Train one stage: from where the net stands to the best that this stage finds.

Order of samples, views, dropout, mixing and learning rate of a step depend on (plan, stage, step) alone. A stage that
was killed and resumed therefore passes through the same bits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from thawline.backbones.watch import FreezeWatch
from thawline.engines.arithmetic import repeatable
from thawline.errors import DivergedError
from thawline.randomness import derived_seed, generator
from thawline.training.checkpoint import Tensors, having_prefix, prefixed, read_checkpoint, write_checkpoint
from thawline.training.contrastive import order_of, pairs_backward, solve_head
from thawline.training.fused.steps import FastSteps
from thawline.training.interrupts import HeldInterrupts
from thawline.training.judging import LEAST_TO_GO_BACK, Judgement, clearly_better, judge
from thawline.training.losses import loss_of
from thawline.training.mixing import Mixed, check_mixing, mix
from thawline.training.net import HEAD, Above, swapped
from thawline.training.optimiser import build_optimiser, load_state_tensors, set_rate, state_tensors
from thawline.training.predicting import arithmetic_of, features_of, predict
from thawline.training.ragged import cut_to_longest, in_order, parts_of
from thawline.training.schedule import evaluation_steps, rate
from thawline.training.stage import Activations, StageResult, StageSpec, TrainingSetup
from thawline.training_records import Evaluated, Point

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray


CHECKPOINT_S = 20.0
"""A checkpoint is written at every evaluation, and when the last checkpoint is older than this."""


@dataclass(slots=True, eq=False)
class _Standing:
    """What changes from step to step, beside weights and optimiser."""

    step: int = 0
    loss_sum: float = 0.0
    loss_n: int = 0
    history: list[Point] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0


class _Clock:
    """Tells the share of a stage's time that is spent; always 0 without a limit."""

    def __init__(self, ends_at: float | None) -> None:
        self._began, self._ends_at = time.monotonic(), ends_at

    def spent(self) -> float:
        if self._ends_at is None:
            return 0.0
        return min((time.monotonic() - self._began) / max(self._ends_at - self._began, 1e-3), 1.0)

    def is_over(self) -> bool:
        return self.spent() >= 1


class StageTrainer:
    """Trains one stage: set up, make steps, judge, keep the best."""

    def __init__(
        self, spec: StageSpec, above: Above, inputs: Activations, setup: TrainingSetup, checkpoint: Path
    ) -> None:
        """Set up a stage, and resume it if its checkpoint exists.

        Args:
            spec: The samples to train on and for how long.
            above: What learns, as the stage before left it. Also when resuming: the receipt is over the whole stage.
            inputs: Gives what crosses the thaw line.
            setup: What all stages share.
            checkpoint: File to keep the state in; the checkpoint of another stage is ignored.
        """
        self.spec, self.above, self.inputs, self.setup = spec, above, inputs, setup
        settings = setup.settings
        check_mixing(above, settings)
        self._by_pairs = settings.objective == "contrastive"
        self._order = order_of(spec, setup)
        self._stop = self._order.n_steps
        self._evaluations = evaluation_steps(self._order.n_steps, settings.evaluations)
        solved = [name for name in above.learning if self._by_pairs and name.startswith(f"{HEAD}.")]
        learning = [name for name in above.learning if name not in solved]
        self._watch = FreezeWatch(spec.name, above.net, thawed=learning, buffers=above.moving, solved=solved)
        self._start = above.snapshot() if settings.l2_sp else {}
        self._optimiser = build_optimiser(above.learning, above.distance, settings, setup.backbone_share)
        averages = settings.ema_decay or settings.average_power
        self._average = {name: p.detach().clone() for name, p in above.learning.items()} if averages else None
        self._weights = _class_weights(setup, spec.rows)
        # before the checkpoint is loaded: a stage that is resumed must decide as it did with its first weights
        self._fast = FastSteps(above, torch.device(setup.device), setup.precision)
        self._best: Tensors = {}
        self._clock = _Clock(spec.ends_at)
        self._now = _Standing()
        self._path = checkpoint
        self._load()

    def run(self) -> StageResult:
        """Train to the end of the stage.

        Raises:
            ReceiptError: Something frozen moved, or something thawed did not learn.
            DivergedError: The loss is no longer a number.
            KeyboardInterrupt: The user asked to stop; a checkpoint is written first.
        """
        saved = time.monotonic()
        began = saved - self._now.seconds
        with (
            HeldInterrupts() as held,
            repeatable(torch.device(self.setup.device)),
            _seeded(),
            self._fast,
            closing(self._stream()) as stream,
        ):
            for crossing in stream:  # what crosses the thaw line, each (B, ...)
                labels = self._labels(self._now.step)  # (B,), or (B, C)
                self._step(crossing, labels)
                self._now.step += 1
                if self._clock.is_over():
                    self._stop = self._now.step
                    self._evaluations |= {self._stop}
                self.setup.listener.progress(self.spec.name, self._now.step, self._stop)
                due = self._now.step in self._evaluations
                self._now.seconds = time.monotonic() - began
                if due:
                    self._evaluate(self._now.seconds)
                if due or held.requested or time.monotonic() - saved > CHECKPOINT_S:
                    self._save()
                    saved = time.monotonic()
                held.act()
                if self._now.step == self._stop:
                    break
            return self._finish()

    def _stream(self) -> Generator[tuple[torch.Tensor, ...]]:
        return self.inputs.stream(self._order.batches(self._now.step, self._stop))

    def _labels(self, step: int) -> torch.Tensor:
        labels = torch.from_numpy(self.setup.labels[self._order.batch(step)[0]])
        return (labels.float() if labels.is_floating_point() else labels).to(self.setup.device)

    def _step(self, crossing: tuple[torch.Tensor, ...], labels: torch.Tensor) -> None:
        """Make one step of the optimiser: gradients of the loss of a batch, receipt, clipping, update.

        Args:
            crossing: What crosses the thaw line, each (B, ...).
            labels: (B,), or (B, C)
        """
        settings, step = self.setup.settings, self._now.step
        torch.manual_seed(derived_seed(self.setup.seed, "step", self.spec.name, step))  # dropout, stochastic depth
        # If time runs out before the steps do, the rate follows the clock, and falls to 0 all the same.
        at = max(step, round(self._clock.spent() * (self._stop - 1)))
        if self.spec.ends_at is not None:
            # This step may be the only one: its rate must be neither that of a warm-up's first step nor 0.
            warm = round(settings.warmup_frac * self._order.n_steps)
            at = warm if step == 0 and at else max(at, self._order.n_steps // 100)
        set_rate(self._optimiser, rate(at, self._order.n_steps, settings))
        self._optimiser.zero_grad(set_to_none=True)
        crossing, order = in_order(crossing, self.setup.pad)
        labels = labels[order]
        learning = list(self.above.learning.values())
        if self._by_pairs:
            total = pairs_backward(self.above, crossing, labels, self.setup)
        else:
            total = self._backward(crossing, labels, learning)
        if not np.isfinite(total):
            raise self._diverged(f"the loss became {total}", step + 1)
        self._watch.saw_gradients()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
        self._optimiser.step()
        self._pull_back()
        self._add_to_average()
        self._now.loss_sum += total * len(labels)
        self._now.loss_n += len(labels)

    def _backward(
        self, crossing: tuple[torch.Tensor, ...], labels: torch.Tensor, learning: list[torch.nn.Parameter]
    ) -> float:
        """Add the gradients of the cross-entropy of a batch, piece by piece; return the loss."""
        settings, total = self.setup.settings, 0.0
        rng = generator(self.setup.seed, "mix", self.spec.name, self._now.step)
        for piece in np.array_split(np.arange(len(labels)), min(settings.accumulate, len(labels))):
            here = slice(piece[0], piece[-1] + 1)
            mixed = mix(tuple(tensor[here] for tensor in crossing), settings, rng)
            for part in parts_of(mixed.crossing, self.setup.pad):
                loss_of = partial(self._loss, mixed, labels[here], len(labels), part.start)
                total += self._fast.backward(loss_of, learning, part.stop - part.start)
        return total

    def _loss(self, mixed: Mixed, labels: torch.Tensor, n: int, start: int, part: slice) -> torch.Tensor:
        """Return the share of a part of the samples, counted from ``start``, in the mean loss over all ``n`` of a step.

        The sum is divided by the number of samples, not by the sum of their class weights: a part that holds one class
        only would lose the weight of that class.
        """
        part = slice(start + part.start, start + part.stop)
        crossing = cut_to_longest(tuple(tensor[part] for tensor in mixed.crossing), self.setup.pad)
        with arithmetic_of(self.setup):
            logits = self.above.logits(crossing)  # (B, ...) -> (B, C)

        def entropy(wanted: torch.Tensor) -> torch.Tensor:
            smoothing = self.setup.settings.label_smoothing
            return loss_of(logits, wanted[part], weight=self._weights, smoothing=smoothing, reduction="sum")

        loss = entropy(labels)
        if mixed.partner is not None:
            loss = mixed.share * loss + (1 - mixed.share) * entropy(labels[mixed.partner])
        return loss / n

    @torch.no_grad()
    def _pull_back(self) -> None:
        """Pull weights towards where they started (L2-SP), apart from the gradient, as AdamW decays weights.

        Source:
            Li et al. 2018, arXiv:1802.01483.
        """
        if not self._start:
            return
        names = {id(parameter): name for name, parameter in self.above.learning.items()}
        for group in self._optimiser.param_groups:
            for parameter in group["params"]:
                if not (name := names[id(parameter)]).startswith("head."):  # a head has no pre-trained start
                    parameter.lerp_(self._start[name], min(group["lr"] * self.setup.settings.l2_sp, 1.0))

    def _add_to_average(self) -> None:
        """Take the weights of this step into the average: exponential, or polynomial-decay.

        Source:
            Shamir & Zhang 2013, ICML (polynomial-decay averaging).
        """
        if self._average is None:
            return
        settings, step = self.setup.settings, self._now.step
        if power := settings.average_power:
            decay = step / (step + power + 1)  # the first step replaces the start
        else:
            decay = min(settings.ema_decay, (1 + step) / (10 + step))  # else the first would count for long
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self._average.values()), [p.detach() for p in self.above.learning.values()], step)

    def _evaluate(self, seconds: float) -> None:
        """Judge what was learned so far, remember the best weights, tell the listener; give up if it is hopeless."""
        now, spec = self._now, self.spec
        judgement = self.judge() if len(spec.judged) else None
        loss = None if judgement is None else judgement.loss
        point = Point(
            step=now.step,
            epoch=now.step / self._order.per_epoch,
            train_loss=now.loss_sum / max(now.loss_n, 1),
            val_loss=loss,
            val_accuracy=None if judgement is None else judgement.accuracy,
        )
        now.history.append(point)
        now.loss_sum, now.loss_n = 0.0, 0
        if loss is not None and loss < now.best_loss:
            now.best_loss, now.best_step = loss, now.step
            self._best = self.above.snapshot() | (self._average or {})
            self._best = {name: tensor.clone() for name, tensor in self._best.items()}
        if judgement is not None and spec.give_up is not None and spec.give_up(judgement.losses):
            self._stop = now.step
        speed = now.step * len(spec.rows) / self._order.per_epoch / max(seconds, 1e-9)
        row = Evaluated(
            stage=spec.name,
            stage_number=spec.number,
            n_stages=spec.of,
            epoch=point.epoch,
            step=now.step,
            n_steps=self._stop,
            train_loss=point.train_loss,
            val_loss=loss,
            val_accuracy=point.val_accuracy,
            samples_per_s=speed,
            seconds_left=(self._stop - now.step) * seconds / now.step,
            lr=max(group["lr"] for group in self._optimiser.param_groups),
        )
        self.setup.listener.evaluated(row)

    def judge(self) -> Judgement:
        """Judge the net as it is now, or its average if one is kept, with a new head if it learns from pairs.

        Raises:
            DivergedError: The last steps left a net that predicts no numbers; no loss was computed with it yet.
        """
        with swapped(self.above, self._average):
            self._solve()
            logits = predict(self.above, self.inputs, self.spec.judged, self.setup, self._fast)
        if not np.isfinite(logits).all():
            raise self._diverged("predictions became infinite or nan", self._now.step)
        return judge(logits, self.setup.labels[self.spec.judged])

    def _solve(self) -> None:
        """Put a head on a net that learns from pairs, solved on the samples that it learns from, as they are."""
        if not self._by_pairs:
            return
        rows = self.spec.rows
        features = features_of(self.above, self.inputs, rows, self.setup, self._fast)
        if not np.isfinite(features).all():
            raise self._diverged("features became infinite or nan", self._now.step)
        solve_head(self.above.net.head, features, rows, self.setup)

    def _diverged(self, what: str, step: int) -> DivergedError:
        """Say that training diverged, and what helps."""
        lr, finer = self.setup.settings.lr, "" if self.setup.precision == "f32" else ", or with --precision f32"
        return DivergedError(
            f"Training diverged: {what} in stage {self.spec.name!r}, step {step}. Start again with a lower learning "
            f"rate (--lr {lr / 10:g} instead of {lr:g}){finer}."
        )

    def _finish(self) -> StageResult:
        """Leave the net with its last weights, or with those of an earlier evaluation that was clearly better."""
        if self._average is not None:
            self.above.restore(self.above.snapshot() | self._average)
            self._average = None
        now, judgement = self._now, None
        if not len(self.spec.judged):
            self._solve()
        else:
            judgement = self.judge()
            averaged = bool(self.setup.settings.average_power)  # the end is as good as any step before
            if now.best_step not in (0, now.step) and (averaged or len(judgement.losses) < LEAST_TO_GO_BACK):
                now.best_step = now.step
            elif now.best_step not in (0, now.step):
                last = self.above.snapshot()
                self.above.restore(self._best)
                best = self.judge()
                if clearly_better(judgement.losses, best.losses):
                    judgement = best
                else:
                    self.above.restore(last)
                    now.best_step = now.step
        return StageResult(
            judgement=judgement,
            n_trainable=sum(parameter.numel() for parameter in self.above.learning.values()),
            receipt=self._watch.issue(),  # over the weights that ship
            history=tuple(now.history),
            best_step=now.best_step or now.step,
            n_steps=self._order.n_steps,
            seconds=now.seconds,
        )

    def _save(self) -> None:
        tensors = prefixed("weights", self.above.snapshot()) | prefixed("optimiser", state_tensors(self._optimiser))
        tensors |= prefixed("average", self._average or {}) | prefixed("best", self._best)
        tensors |= prefixed("watch", self._watch.state())
        write_checkpoint(self._path, tensors, {"stage": self.spec.name, "now": asdict(self._now)})

    def _load(self) -> None:
        found = read_checkpoint(self._path)
        if found is None or found[1]["stage"] != self.spec.name:
            return
        tensors, now = found[0], found[1]["now"]
        self.above.restore(having_prefix("weights", tensors))
        load_state_tensors(self._optimiser, having_prefix("optimiser", tensors))
        for name, value in having_prefix("average", tensors).items():
            if self._average is not None:
                self._average[name].copy_(value)
        self._best = having_prefix("best", tensors)
        self._watch.load_state(having_prefix("watch", tensors))
        self._now = _Standing(**now | {"history": [Point(**point) for point in now["history"]]})


def _class_weights(setup: TrainingSetup, rows: NDArray[np.int64]) -> torch.Tensor | None:
    """Return the inverse frequencies (C,) of the classes in ``rows``, mean 1 over these samples; None if off."""
    if setup.settings.class_weights == "none":
        return None
    counts = np.bincount(setup.labels[rows], minlength=setup.n_classes)
    weights = len(rows) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=setup.device)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Keep torch's global generator as it is outside the block: steps seed it anew."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        yield
