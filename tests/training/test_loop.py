"""A stage: bit for bit a loop written by hand, and itself wherever it was stopped; and what it refuses.

That the layers give in a stage what they give one by one is for test_folding.
"""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from tests.training import toy
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones.cut import Cut, cut
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import Thaw
from thawline.errors import DivergedError, ReceiptError
from thawline.heads.modules import new_mlp
from thawline.randomness import derived_seed, generator
from thawline.training import loop
from thawline.training.checkpoint import read_checkpoint
from thawline.training.judging import Judgement, judge
from thawline.training.net import Above, Net
from thawline.training.settings import TrainPlan
from thawline.training.stage import StageResult, StageSpec

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

EPOCHS, VIEWS = 3, 2


def plain_loop(net: Net, settings: TrainPlan, setting: str, name: str) -> list[torch.Tensor]:
    """Train by hand: no Order, no groups, no mixing of ours; returns the gradient norm of each step."""
    thaw, px = toy.thaw(setting, name), toy.SIDE[name]
    halves = cut(net.backbone, thaw.rung, signature=Signature("timm", (3, px, px)))
    with toy.folded(
        Above(net, thaw, Signature("timm", (3, px, px)), moving_statistics=settings.statistics == "moving")
    ):
        return _plain_steps(net, halves, settings, thaw, toy.Crossing(halves, px))


def _plain_steps(
    net: Net, halves: Cut, settings: TrainPlan, thaw: Thaw, crossing_of: toy.Crossing
) -> list[torch.Tensor]:
    forward = net.backbone if thaw.rung == "input" else halves.suffix
    for parameter_name, parameter in net.named_parameters():
        parameter.requires_grad_(parameter_name.removeprefix("backbone.") in (*thaw.thawed, *_head_names(net)))
    net.train()
    for layer_name, layer in net.backbone.named_modules():
        if isinstance(layer, _NormBase):
            layer.train(settings.statistics == "moving" and f"{layer_name}.running_mean" in thaw.buffers)
    learning = {n: p for n, p in net.named_parameters() if p.requires_grad}
    away = dict(zip((f"backbone.{n}" for n in thaw.thawed), thaw.distance, strict=True))
    rates = {n: settings.lr * settings.lr_decay ** away.get(n, 0) for n in learning}
    groups = [
        {"params": [p], "lr": rates[n], "weight_decay": settings.weight_decay if p.ndim > 1 else 0.0}
        for n, p in learning.items()
    ]
    if settings.optimiser == "sgd":
        optimiser: Any = torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
    else:
        optimiser = torch.optim.AdamW(groups, fused=True)
    start = {n: p.detach().clone() for n, p in learning.items()}
    average = {n: p.detach().clone() for n, p in learning.items()}
    per_epoch = round(len(toy.TRAIN) / settings.batch_size)
    n_steps, step, norms = EPOCHS * per_epoch, 0, []
    warm = round(settings.warmup_frac * n_steps)
    for epoch in range(EPOCHS):
        order = generator(toy.SEED, "order", "spec", epoch).permutation(toy.TRAIN)
        for rows in np.array_split(order, per_epoch):
            crossing, labels = crossing_of.of(rows, epoch % VIEWS), torch.from_numpy(toy.LABELS[rows])
            torch.manual_seed(derived_seed(toy.SEED, "step", "spec", step))
            done = (step - warm) / (n_steps - warm)
            falling = 1.0 if settings.schedule == "constant" else (1 + math.cos(math.pi * done)) / 2
            share = (step + 1) / (warm + 1) if step < warm else falling
            for group, rate in zip(optimiser.param_groups, rates.values(), strict=True):
                group["lr"] = rate * share
            optimiser.zero_grad()
            _loss(net, forward, crossing, labels, settings, step).backward()  # type: ignore[no-untyped-call]
            norms.append(nn.utils.clip_grad_norm_(learning.values(), settings.clip_norm or math.inf))
            optimiser.step()
            with torch.no_grad():
                for n, p in learning.items():
                    if settings.l2_sp and n in away:
                        p.lerp_(start[n], rates[n] * share * settings.l2_sp)
                    kept = min(settings.ema_decay, (1 + step) / (10 + step))
                    if settings.average_power:
                        kept = step / (step + 1 + settings.average_power)
                    average[n].lerp_(p, 1 - kept)
            step += 1
    if settings.ema_decay or settings.average_power:
        with torch.no_grad():
            for n, p in learning.items():
                p.copy_(average[n])
    return norms


def _head_names(net: Net) -> list[str]:
    return [f"head.{name}" for name, _ in net.head.named_parameters()]


def _loss(
    net: Net, forward: Callable[..., Any], crossing: Any, labels: torch.Tensor, settings: TrainPlan, step: int
) -> torch.Tensor:
    rng, n, size = generator(toy.SEED, "mix", "spec", step), len(labels), settings.accumulate
    total = torch.zeros(())
    for part in np.array_split(np.arange(n), size):
        x, y, other, share = tuple(t[part] for t in crossing), labels[part], labels[part], 1.0
        if settings.mixup:
            share, partner = float(rng.beta(settings.mixup, settings.mixup)), rng.permutation(len(part))
            x, other = tuple(torch.lerp(t[partner], t, share) for t in x), y[partner]
        logits = net.head(forward(*x))
        asked = [
            functional.cross_entropy(logits, wanted, label_smoothing=settings.label_smoothing, reduction="sum")
            for wanted in (y, other)
        ]
        total = total + (share * asked[0] + (1 - share) * asked[1] if settings.mixup else asked[0]) / n
    return total


CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "adamw": ({}, "all", {}),
    "a line in the middle": ({}, "last:3", {}),
    "head alone": ({}, "none", {}),
    "a hole": ({}, r"regex:stem|blocks\.1|top", {}),
    "sgd": ({"optimiser": "sgd", "lr": 0.05}, "all", {}),
    "sgd without momentum": ({"optimiser": "sgd", "lr": 0.05, "momentum": 0, "nesterov": False}, "last:3", {}),
    "mixup": ({"mixup": 0.4}, "last:3", {}),
    "moving statistics": ({"statistics": "moving"}, "last:3", {}),
    "average": ({"ema_decay": 0.9}, "last:3", {}),
    "polynomial average": ({"average_power": 3, "schedule": "constant", "warmup_frac": 0.4}, "last:3", {}),
    "pull to the start": ({"l2_sp": 2.0}, "all", {}),
    "constant rates, no clipping": ({"clip_norm": 0, "warmup_frac": 0, "lr_decay": 1, "label_smoothing": 0}, "all", {}),
    "dropout in the head": ({}, "last:3", {"head": "mlp"}),
    "stochastic depth": ({}, "all", {"name": "test_resnet", "drop_path_rate": 0.2}),
    "in parts": ({"accumulate": 2, "mixup": 0.4}, "last:3", {}),
    "bf16": ({}, "last:3", {"precision": "bf16"}),
    "all at once": (
        {
            "statistics": "moving",
            "mixup": 0.4,
            "ema_decay": 0.9,
            "l2_sp": 0.1,
            "accumulate": 3,
            "class_weights": "balanced",
        },
        "stage:layer4",
        {"name": "test_resnet", "drop_path_rate": 0.2, "head": "mlp"},
    ),
}


def stage_of(case: str, checkpoint: Path, watcher: toy.Watcher | None = None, **spec: Any) -> toy.Toy:
    changes, setting, made_of = CASES[case]
    net = pristine(case)
    name = made_of.get("name", "toy")
    usual = {"epochs": EPOCHS, "views": VIEWS} | spec
    return toy.make_stage(
        toy.quick(**changes),
        checkpoint,
        setting=setting,
        name=name,
        net=net,
        spec=toy.make_spec(**usual),
        watcher=watcher,
        precision=made_of.get("precision", "f32"),
    )


def pristine(case: str) -> Net:
    made_of = {key: value for key, value in CASES[case][2].items() if key != "precision"}
    if made_of.get("head") == "mlp":
        width = 96 if made_of.get("name") == "test_resnet" else 8
        made_of["head"] = new_mlp(width, (10,), toy.CLASSES, 0.3, seed=0)
    return toy.make_net(made_of.pop("name", "toy"), **made_of)


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("bf16", "all at once")])
def test_a_stage_is_the_plain_loop_bit_for_bit(tmp_path: Path, case: str) -> None:
    changes, setting, made_of = CASES[case]
    settings = toy.quick(**changes)
    trained = stage_of(case, tmp_path / "step", judged=toy.VAL[:0])
    trained.run()
    expected = pristine(case)
    before = toy.state(expected)
    norms = plain_loop(expected, settings, setting, made_of.get("name", "toy"))
    assert toy.differing(toy.state(trained.net), toy.state(expected)) == []
    assert toy.differing(toy.state(trained.net), before)
    assert any(norm > settings.clip_norm for norm in norms)  # clipping was put to the test


def finished(case: str, checkpoint: Path, **changes: Any) -> tuple[Any, ...]:
    """Everything that a stage leaves behind, to be compared with another one's."""
    toyed = stage_of(case, checkpoint, **changes)
    result = toyed.run()
    return left_behind(toyed, result, checkpoint)


def left_behind(toyed: toy.Toy, result: StageResult, checkpoint: Path) -> tuple[Any, ...]:
    kept = read_checkpoint(checkpoint)
    assert kept is not None
    assert result.judgement is not None
    return (
        toy.state(toyed.net),
        kept[0],
        toy.timeless(kept[1]),
        result.history,
        result.best_step,
        result.receipt,
        result.judgement.logits.tolist(),
        result.judgement.temperature,
    )


def assert_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert toy.differing(one[0], other[0]) == []
    assert toy.differing(one[1], other[1]) == []
    assert one[2:] == other[2:]


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case == "stochastic depth" else ()) for case in CASES]
)  # "all at once" has stochastic depth, too
def test_a_stopped_stage_goes_on_to_the_same_bits(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = finished(case, tmp_path / "whole")
    calls = EPOCHS * 4 + 3  # steps and evaluations
    stops = range(1, calls + 1, 2) if case == "adamw" else (2, 7, calls)
    for stop in stops:
        # with a checkpoint after each step, after none but those with an evaluation, or where Ctrl-C was pressed
        every, how = (-1.0, None) if stop % 3 == 0 else (1e9, None) if stop % 3 == 1 else (1e9, interrupt)
        monkeypatch.setattr(loop, "CHECKPOINT_S", every)
        checkpoint = tmp_path / f"step-{stop}"
        stopped = stage_of(case, checkpoint, toy.Watcher(stop, how))
        with pytest.raises((toy.Stopped, KeyboardInterrupt)):
            stopped.run()
        assert_same(finished(case, checkpoint), expected)


@pytest.mark.parametrize("case", ["average", "polynomial average"])
def test_stopping_again_and_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    expected = finished(case, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)
    for _ in range(EPOCHS * 4):
        with pytest.raises(KeyboardInterrupt):
            stage_of(case, tmp_path / "step", toy.Watcher(1, interrupt)).run()
    assert_same(finished(case, tmp_path / "step"), expected)


def test_ctrl_c_stops_after_the_step_in_which_it_came(tmp_path: Path) -> None:
    watcher = toy.Watcher(2, interrupt)
    stopped = stage_of("adamw", tmp_path / "step", watcher)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert signal.getsignal(signal.SIGINT) is handler
    assert [done for _, done, _ in watcher.progressed] == [1, 2]
    kept = read_checkpoint(tmp_path / "step")
    assert kept is not None
    assert kept[1]["now"]["step"] == 2


def test_a_checkpoint_of_another_stage_is_ignored(tmp_path: Path) -> None:
    stage_of("adamw", tmp_path / "step").run()
    other = stage_of("adamw", tmp_path / "step", name="another")
    assert other.stage._now.step == 0
    assert toy.differing(toy.state(other.net), toy.state(pristine("adamw"))) == []


def test_a_stage_that_began_with_other_weights_cannot_go_on(tmp_path: Path) -> None:
    stage_of("adamw", tmp_path / "step").run()
    net = pristine("adamw")
    with torch.no_grad():
        net.head.get_parameter("bias").add_(1)
    with pytest.raises(ReceiptError, match="must be resumed from the weights that it began with"):
        toy.make_stage(toy.quick(), tmp_path / "step", net=net)


@pytest.mark.parametrize("changes", [{}, {"class_weights": "balanced"}], ids=["plain", "class weights"])
def test_accumulating_gives_the_gradient_of_one_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    labels = np.where(toy.LABELS == 2, 1, toy.LABELS)
    labels[::9] = 2
    gradients = []
    for parts in (1, 3, 8):
        settings = toy.quick(accumulate=parts, optimiser="sgd", momentum=0, clip_norm=0, **changes)
        toyed = toy.make_stage(settings, tmp_path / "step", labels=labels)
        rows = toyed.stage._order.batch(0)[0]
        toyed.above.train()
        toyed.stage._step(toyed.stage.inputs.of(rows, 0), torch.from_numpy(labels[rows]))  # type: ignore[attr-defined]
        gradients.append(torch.cat([p.grad.flatten() for p in toyed.above.learning.values() if p.grad is not None]))
    assert gradients[0].norm() > 0.01
    for other in gradients[1:]:
        assert torch.allclose(other, gradients[0], atol=1e-5, rtol=1e-4)


def test_class_weights_are_those_of_scikit_learn(tmp_path: Path) -> None:
    labels = np.where(np.arange(toy.N) % 7 == 0, 2, np.arange(toy.N) % 2)
    toyed = toy.make_stage(toy.quick(class_weights="balanced"), tmp_path / "step", labels=labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[toy.TRAIN])
    assert toyed.stage._weights is not None
    assert toyed.stage._weights.numpy() == pytest.approx(expected)
    assert toy.make_stage(toy.quick(), tmp_path / "step").stage._weights is None


def test_a_class_without_a_training_sample_has_a_weight_all_the_same(tmp_path: Path) -> None:
    labels = np.where(np.arange(toy.N) < 40, np.arange(toy.N) % 2, 2)
    toyed = toy.make_stage(toy.quick(class_weights="balanced"), tmp_path / "step", labels=labels)
    assert toyed.stage._weights is not None
    assert torch.isfinite(toyed.stage._weights).all()
    seen = compute_class_weight("balanced", classes=np.arange(2), y=labels[toy.TRAIN])
    assert toyed.stage._weights[:2].numpy() == pytest.approx(seen)


@pytest.mark.parametrize("moving", [True, False])
def test_statistics_move_where_they_may_and_nowhere_else(tmp_path: Path, moving: bool) -> None:
    toyed = toy.make_stage(
        toy.quick(statistics="moving" if moving else "frozen"), tmp_path / "step", setting=r"regex:blocks\.0|top.*"
    )
    buffers = {name: tensor.clone() for name, tensor in toyed.net.named_buffers()}
    receipt = toyed.run().receipt
    moved = {name for name, tensor in toyed.net.named_buffers() if not torch.equal(tensor, buffers[name])}
    layers = ("backbone.blocks.0.norm", "backbone.top_norm") if moving else ()
    assert moved == {
        f"{layer}.{kind}" for layer in layers for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert set(receipt.moved_buffers) == moved


def test_a_hole_above_the_line_stays_as_it_is(tmp_path: Path) -> None:
    toyed = toy.make_stage(toy.quick(weight_decay=0.1), tmp_path / "step", setting=r"regex:stem|top")
    before = toy.state(toyed.net)
    receipt = toyed.run().receipt
    changed = set(toy.differing(before, toy.state(toyed.net)))
    names = {"stem.weight", "top.weight", "top.bias"}
    assert changed == {f"backbone.{name}" for name in names} | {"head.weight", "head.bias"}
    assert set(receipt.thawed) == changed
    assert all(not p.requires_grad for n, p in toyed.net.named_parameters() if n not in changed)


def scripted(losses: list[float], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Let judgements in turn be of these losses; returns the weights that each one saw."""
    seen: list[dict[str, torch.Tensor]] = []
    noise = generator(0, "noise").normal(size=len(toy.VAL)) * 0.01

    def judged(stage: loop.StageTrainer) -> Judgement:
        with loop.swapped(stage.above, stage._average):
            seen.append(stage.above.snapshot())
        loss = losses[len(seen) - 1]
        return Judgement(np.zeros((len(toy.VAL), toy.CLASSES)), loss + noise, 1.0, 0.5)

    monkeypatch.setattr(loop.StageTrainer, "judge", judged)
    return seen


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([1.0, 0.5, 0.9, 0.9, 0.5], 1),  # the second of three, clearly better than the end
        ([0.2, 0.5, 0.9, 0.9, 0.2], 0),
        ([1.0, 0.8, 0.6, 0.6], 2),  # the end was best: nothing else is looked at
        ([1.0, 0.5, 0.501, 0.501, 0.501], 2),  # not worth going back for: the same within the noise
    ],
)
@pytest.mark.parametrize("changes", [{"statistics": "moving"}, {"ema_decay": 0.9}], ids=["statistics", "average"])
def test_the_best_evaluation_is_kept_where_it_was_clearly_better(
    tmp_path: Path, losses: list[float], chosen: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thawline.training.loop.LEAST_TO_GO_BACK", 1)
    seen = scripted(losses, monkeypatch)
    toyed = toy.make_stage(toy.quick(**changes), tmp_path / "step")
    result = toyed.run()
    assert len(seen) == len(losses)
    assert result.best_step == [6, 11, 16][chosen]
    kept = {name: tensor for name, tensor in toy.state(toyed.net).items() if name in seen[chosen]}
    assert toy.differing(kept, seen[chosen]) == []
    others = [i for i in range(3) if i != chosen]
    assert all(toy.differing(kept, seen[i]) for i in others)
    assert result.judgement is not None
    assert result.judgement.loss == pytest.approx(losses[-1], abs=0.01)


def test_few_samples_do_not_make_it_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.2, 0.5, 0.9, 0.9], monkeypatch)
    toyed = toy.make_stage(toy.quick(statistics="moving"), tmp_path / "step")
    assert len(toy.VAL) < 50
    assert toyed.run().best_step == 16


def test_weights_averaged_to_the_end_do_not_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawline.training.loop.LEAST_TO_GO_BACK", 1)
    seen = scripted([0.2, 0.5, 0.9, 0.9], monkeypatch)
    toyed = toy.make_stage(toy.quick(average_power=3), tmp_path / "step")
    assert toyed.run().best_step == 16
    kept = {name: tensor for name, tensor in toy.state(toyed.net).items() if name in seen[-1]}
    assert toy.differing(kept, seen[-1]) == []
    assert toy.differing(kept, seen[0])


@pytest.mark.parametrize("power", [1, 3])
def test_later_steps_count_more_in_the_average_as_a_power_of_their_number(tmp_path: Path, power: int) -> None:
    """Step t has the weight t (t + 1) ... (t + power - 1), as in Shamir & Zhang 2013."""
    steps: list[dict[str, torch.Tensor]] = []

    class Recorder(toy.Watcher):
        def progress(self, phase: str, done: int, total: int) -> None:
            steps.append({n: p.detach().double().clone() for n, p in toyed.above.learning.items()})

    toyed = toy.make_stage(toy.quick(average_power=power), tmp_path / "step", watcher=Recorder())
    toyed.run()
    counts = [math.comb(t + power - 1, power) for t in range(1, len(steps) + 1)]
    assert len(steps) == 16
    for name, shipped in toyed.above.learning.items():
        expected = sum(count * step[name] for count, step in zip(counts, steps, strict=True)) / sum(counts)
        assert torch.allclose(shipped.detach().double(), expected, rtol=1e-5, atol=1e-6), name
        assert not torch.allclose(shipped.detach().double(), steps[-1][name], rtol=1e-5, atol=1e-6), name


def test_what_is_judged_is_what_ships(tmp_path: Path) -> None:
    averages = ({"ema_decay": 0.95}, {"average_power": 3}, {"statistics": "moving", "ema_decay": 0.9})
    for number, changes in enumerate(({}, *averages)):
        watcher = toy.Watcher()
        toyed = toy.make_stage(toy.quick(**changes), tmp_path / f"step{number}", watcher=watcher)
        result = toyed.run()
        toyed.net.eval()
        with torch.no_grad():
            logits = toyed.net.head(toyed.net.backbone(toy.pictures(None, 16)[toy.VAL])).double().numpy()
        assert result.judgement is not None
        assert result.judgement.logits == pytest.approx(logits, abs=1e-4)
        expected = judge(result.judgement.logits, toy.LABELS[toy.VAL])
        assert result.judgement.loss == expected.loss
        if result.best_step == result.n_steps:
            assert watcher.reports[-1].val_loss == result.judgement.loss


def test_the_average_ships_and_the_present_weights_go_on(tmp_path: Path) -> None:
    plain = toy.make_stage(toy.quick(), tmp_path / "plain", spec=toy.make_spec(judged=toy.VAL[:0]))
    plain.run()
    averaged = toy.make_stage(toy.quick(ema_decay=0.9), tmp_path / "averaged")
    averaged.run()
    kept = read_checkpoint(tmp_path / "averaged")
    assert kept is not None
    present = {name.removeprefix("weights."): t for name, t in kept[0].items() if name.startswith("weights.")}
    expected = {name: tensor for name, tensor in toy.state(plain.net).items() if name in present}
    assert toy.differing(present, expected) == []  # judging by the average has not touched them
    assert toy.differing(toy.state(averaged.net), toy.state(plain.net))


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    toyed = toy.make_stage(toy.quick(), tmp_path / "step")
    with torch.no_grad():
        toyed.net.head.get_parameter("weight")[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"the loss became nan in stage 'spec', step 1\. Start again .*--lr 0\.0"):
        toyed.run()
    assert not (tmp_path / "step").exists()


def test_the_pull_keeps_the_backbone_near_its_start_and_leaves_the_head(tmp_path: Path) -> None:
    def distances(l2_sp: float) -> dict[str, float]:
        toyed = toy.make_stage(toy.quick(l2_sp=l2_sp), tmp_path / f"step{l2_sp}")
        before = toy.state(toyed.net)
        toyed.run()
        after = toy.state(toyed.net)
        return {name: float((after[name] - before[name]).norm()) for name, _ in toyed.net.named_parameters()}

    free, pulled = distances(0.0), distances(50.0)
    for name, moved in pulled.items():
        assert moved > 0.3 * free[name] if name.startswith("head") else moved < 0.3 * free[name], name


def test_a_stage_that_is_given_up_ends_at_that_evaluation(tmp_path: Path) -> None:
    watcher, heard = toy.Watcher(), []

    def give_up(losses: NDArray[np.float64]) -> bool:
        heard.append(losses.copy())
        return len(heard) == 2

    spec = toy.make_spec(give_up=give_up)
    short = toy.make_stage(toy.quick(evaluations=4), tmp_path / "short", spec=spec, watcher=watcher)
    result = short.run()
    assert ([point.step for point in result.history], result.n_steps) == ([4, 8], 16)
    assert result.judgement is not None
    assert heard[1] == pytest.approx(result.judgement.losses)
    assert heard[0] != pytest.approx(heard[1])
    assert (watcher.reports[-1].step, watcher.reports[-1].seconds_left) == (8, 0)
    # the steps until there are those of the whole stage
    stopped = toy.make_stage(
        toy.quick(evaluations=1), tmp_path / "whole", spec=toy.make_spec(), watcher=toy.Watcher(8, interrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert toy.differing(toy.state(short.net), toy.state(stopped.net)) == []


def test_what_is_reported(tmp_path: Path) -> None:
    watcher = toy.Watcher()
    result = toy.make_stage(toy.quick(), tmp_path / "step", watcher=watcher).run()
    assert [report.step for report in watcher.reports] == [6, 11, 16]
    last = watcher.reports[-1]
    assert (last.stage, last.stage_number, last.n_stages, last.epoch, last.n_steps) == (
        "spec",
        1,
        1,
        4.0,
        16,
    )
    assert last.seconds_left == 0
    assert last.samples_per_s > 0
    assert 0 < last.lr < 0.02
    assert [point.val_loss for point in result.history] == [report.val_loss for report in watcher.reports]
    assert result.history[-1].train_loss < result.history[0].train_loss


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    stage_of("dropout in the head", tmp_path / "step").run()
    assert torch.equal(torch.get_rng_state(), expected)


def test_judging_does_not_change_what_follows(tmp_path: Path) -> None:
    often = toy.make_stage(toy.quick(evaluations=16, ema_decay=0.9), tmp_path / "often", spec=toy.make_spec())
    never = toy.make_stage(
        toy.quick(evaluations=1, ema_decay=0.9), tmp_path / "never", spec=toy.make_spec(judged=toy.VAL[:0])
    )
    often.run()
    never.run()
    one, other = read_checkpoint(tmp_path / "often"), read_checkpoint(tmp_path / "never")
    assert one is not None
    assert other is not None
    shared = {name: tensor for name, tensor in one[0].items() if not name.startswith("best.")}
    assert toy.differing(shared, other[0]) == []


def test_a_stage_of_one_sample(tmp_path: Path) -> None:
    spec: StageSpec = toy.make_spec(rows=toy.TRAIN[:1], judged=toy.VAL[:1], epochs=2)
    result = toy.make_stage(toy.quick(), tmp_path / "step", spec=spec).run()
    assert result.judgement is not None
    assert math.isfinite(result.judgement.loss)


def test_a_deep_copy_of_the_start_is_not_what_was_trained(tmp_path: Path) -> None:
    net = toy.make_net()
    before = copy.deepcopy(net)
    toy.make_stage(toy.quick(), tmp_path / "step", net=net).run()
    assert toy.differing(toy.state(before), toy.state(net))
