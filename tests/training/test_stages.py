"""A sequence of stages: what is kept, what is rolled back, what goes on, and that no kill changes any bit of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.training import toy
from torch import nn

from thawline.backbones.cut import Cut
from thawline.backbones.signature import Signature
from thawline.randomness import generator
from thawline.records import StageReport
from thawline.training import loop, stages
from thawline.training.judging import Judgement, judge
from thawline.training.net import Net
from thawline.training.stages import Stage, StageSequence, TrainingResult, train
from thawline.training_records import InputsReport, TrainingReport

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

TRAIN, VAL, BOTH = toy.TRAIN, toy.VAL, np.arange(toy.N)
NAMES = ("last:1", "last:3", "all")
EPOCHS, JOINT_EPOCHS = 2, 2


def start() -> Net:
    """The toy with a head solved on the training set."""
    net = toy.make_net()
    solved = _solved(tuple(TRAIN))
    with torch.no_grad():
        net.head.get_parameter("weight").copy_(solved[:-1].T)
        net.head.get_parameter("bias").copy_(solved[-1])
    return net


@cache
def _solved(rows: tuple[int, ...]) -> torch.Tensor:
    """(D + 1, C)"""
    with torch.no_grad():
        features = toy.make_net().backbone(toy.pictures(None, 16)[list(rows)]).double()
    wanted = 4 * nn.functional.one_hot(torch.from_numpy(toy.LABELS[list(rows)]), toy.CLASSES).double()
    one = torch.cat([features, torch.ones(len(rows), 1)], 1)
    return torch.linalg.solve(one.T @ one, one.T @ wanted)


def start_logits() -> NDArray[np.float64]:
    net = start()
    with torch.no_grad():
        logits: NDArray[np.float64] = net.head(net.backbone(toy.pictures(None, 16)[VAL])).double().numpy()
    return logits


def make_sequence(state: Path, **changes: Any) -> StageSequence:
    names = changes.pop("names", NAMES)
    state.mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "stages": [Stage(name, toy.thaw(name), EPOCHS, JOINT_EPOCHS, 2) for name in names],
        "progressive": True,
        "train": TRAIN,
        "val": VAL,
        "start": start,
        "start_logits": start_logits(),
        "signature": Signature("timm", (3, 16, 16)),
        "moving_statistics": False,
        "inputs": toy.ToyInputs(),
        "state": state,
    }
    return StageSequence(**usual | changes)


quick = partial(toy.quick, evaluations=2, stages_from="incumbent")


def script(monkeypatch: pytest.MonkeyPatch, offsets: dict[str, float]) -> None:
    """Judge every stage by its name: this much worse than the net that the sequence started from."""
    base = judge(start_logits(), toy.LABELS[VAL])
    noise = generator(0, "noise").normal(size=len(VAL)) * 0.001
    stage_of: dict[bytes, str] = {}

    def judged(stage: loop.StageTrainer) -> Judgement:
        with loop.swapped(stage.above, stage._average):
            logits = loop.predict(stage.above, stage.inputs, stage.spec.judged, stage.setup, stage._fast)
        stage_of[logits.tobytes()] = stage.spec.name
        return judged_again(logits, toy.LABELS[VAL])

    def judged_again(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Judgement:
        """As the sequence does with the logits that it kept."""
        if logits.tobytes() not in stage_of:
            return judge(logits, labels)
        return Judgement(logits, base.losses + offsets[stage_of[logits.tobytes()]] + noise, 1.0, 0.5)

    monkeypatch.setattr(loop.StageTrainer, "judge", judged)
    monkeypatch.setattr(stages, "judge", judged_again)


def training_of(report: StageReport) -> TrainingReport:
    assert report.training is not None
    return report.training


def left_behind(trained: TrainingResult) -> dict[str, Any]:
    return {
        "net": toy.digest(trained.net),
        "temperature": trained.temperature,
        "val_logits": None if trained.val_logits is None else trained.val_logits.tolist(),
        "stages": [toy.timeless(record.to_json()) for record in trained.stages],
        "receipts": list(trained.receipts),
        "kept": trained.kept,
        "kept_any": trained.kept_any,
    }


def test_a_fixed_sequence_keeps_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": 1.0, "all": 2.0})
    sequence = make_sequence(tmp_path / "a", progressive=False, names=("last:1", "all"))
    trained = train(sequence, toy.make_setup(quick(refit=False)))
    assert [record.kept for record in trained.stages] == [True, True]
    assert (trained.kept, trained.kept_any) == ("all", True)
    # the same by hand: one stage, then the other
    net = start()
    for number, name in enumerate(("last:1", "all")):
        spec = toy.make_spec(name=name, number=number + 1, of=2, epochs=2)
        toy.make_stage(quick(), tmp_path / f"step{number}", setting=name, net=net, spec=spec).run()
    assert toy.digest(trained.net) == toy.digest(net)


def test_a_stage_that_helps_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": -0.1, "last:3": -0.2, "all": -0.3})
    trained = train(make_sequence(tmp_path / "a"), toy.make_setup(quick(refit=False)))
    assert [record.kept for record in trained.stages] == [True, True, True]
    assert trained.kept == "all"
    assert [record.score for record in trained.stages] == sorted((r.score for r in trained.stages), reverse=True)  # type: ignore[type-var]


def test_a_stage_that_does_not_help_is_rolled_back_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, {"last:1": -0.2, "last:3": -0.1, "all": 0.5})
    settings = quick(refit=False, statistics="moving")
    first = make_sequence(tmp_path / "first", names=NAMES[:1], moving_statistics=True)
    expected = train(first, toy.make_setup(settings))
    trained = train(make_sequence(tmp_path / "all", moving_statistics=True), toy.make_setup(settings))
    assert [record.kept for record in trained.stages] == [True, False, False]
    assert toy.digest(trained.net) == toy.digest(expected.net)
    assert trained.kept == "last:1"
    assert trained.val_logits is not None
    assert expected.val_logits is not None
    assert np.array_equal(trained.val_logits, expected.val_logits)


def test_where_nothing_helps_the_start_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, dict.fromkeys(NAMES, 0.3))
    for refit in (False, True):
        trained = train(make_sequence(tmp_path / str(refit)), toy.make_setup(quick(refit=refit)))
        assert toy.digest(trained.net) == toy.digest(start())
        assert (trained.kept, trained.kept_any) == ("none", False)
        assert len(trained.stages) == 2  # as many as patience allows
        assert trained.val_logits is not None
        assert np.array_equal(trained.val_logits, start_logits())
        assert trained.temperature == judge(start_logits(), toy.LABELS[VAL]).temperature


@pytest.mark.parametrize(
    ("offsets", "n_run"),
    [
        ({"last:1": 0.3, "last:2": 0.3, "last:3": -9, "all": -9}, 2),
        ({"last:1": 0.3, "last:2": -0.3, "last:3": 0.3, "all": 0.3}, 4),  # a gain between: patience begins anew
        ({"last:1": -0.0011, "last:2": -0.0022, "last:3": -9, "all": -9}, 2),  # gains that are not worth it
    ],
)
def test_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offsets: dict[str, float], n_run: int) -> None:
    script(monkeypatch, offsets)
    trained = train(make_sequence(tmp_path / "a", names=tuple(offsets)), toy.make_setup(quick(refit=False)))
    assert [record.name for record in trained.stages] == list(offsets)[:n_run]


def test_what_was_kept_goes_on_with_all_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": -0.1, "last:3": 0.4, "all": -0.3})
    inputs, settings = toy.ToyInputs(), quick(average_power=2)
    trained = train(make_sequence(tmp_path / "a", inputs=inputs), toy.make_setup(settings))
    assert [record.name for record in trained.stages] == [*NAMES, "all, all samples"]
    assert [asked[2:] for asked in inputs.asked] == [(32, 16)] * 3 + [(48, 0)]
    net = start()
    for name in ("last:1", "all"):
        spec = toy.make_spec(name=name, epochs=EPOCHS)
        toy.make_stage(settings, tmp_path / "step", setting=name, net=net, spec=spec).run()
    spec = toy.make_spec(name="all, all samples", epochs=JOINT_EPOCHS, rows=BOTH, judged=VAL[:0])
    clip_norm = stages.JOINT_CLIP * settings.clip_norm
    settings = settings.changed(warmup_frac=stages.JOINT_WARMUP, clip_norm=clip_norm)
    toy.make_stage(settings, tmp_path / "step", setting="all", net=net, spec=spec).run()
    assert toy.digest(trained.net) == toy.digest(net)
    assert (trained.stages[-1].score, trained.stages[-1].training.kept) == (None, True)  # type: ignore[union-attr]
    assert trained.kept == "all"


def test_it_is_the_best_stage_that_goes_on_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": -0.1, "last:3": 0.4, "all": 0.3})
    trained = train(make_sequence(tmp_path / "a"), toy.make_setup(quick()))
    expected = train(make_sequence(tmp_path / "b", names=("last:1",)), toy.make_setup(quick()))
    assert [record.name for record in trained.stages] == [*NAMES, "last:1, all samples"]
    assert toy.digest(trained.net) == toy.digest(expected.net)
    assert toy.digest(trained.net) != toy.digest(start())
    # the validation set was judged before anything learned from it
    assert trained.val_logits is not None
    assert expected.val_logits is not None
    assert np.array_equal(trained.val_logits, expected.val_logits)
    before = train(make_sequence(tmp_path / "b", names=("last:1",), choose_only=True), toy.make_setup(quick()))
    assert before.val_logits is not None
    assert np.array_equal(before.val_logits, expected.val_logits)


def test_all_samples_may_teach_more_of_the_backbone(tmp_path: Path) -> None:
    inputs = toy.ToyInputs()
    stage = Stage("last:1", toy.thaw("last:1"), EPOCHS, JOINT_EPOCHS, 2, joint_thaw=toy.thaw("all"))
    trained = train(
        make_sequence(tmp_path / "a", progressive=False, stages=[stage], inputs=inputs), toy.make_setup(quick())
    )
    first, joint = trained.stages
    assert (first.name, joint.name) == ("last:1", "all, all samples")
    assert (training_of(first).thaw, training_of(joint).thaw, trained.kept) == ("last:1", "all", "all")
    assert first.trainable < joint.trainable
    assert joint.frozen == 0
    assert [receipt["status"] for receipt in trained.receipts] == ["clean", "clean"]
    # everything learns from fresh views of all samples
    assert inputs.asked == [(toy.thaw("last:1").rung, 2, len(TRAIN), len(VAL)), ("input", 0, len(BOTH), 0)]
    # what was chosen is judged as that of its own line is
    alone = train(make_sequence(tmp_path / "b", progressive=False, names=("last:1",)), toy.make_setup(quick()))
    assert trained.val_logits is not None and alone.val_logits is not None
    assert np.array_equal(trained.val_logits, alone.val_logits)
    assert toy.digest(trained.net) != toy.digest(alone.net)


@pytest.mark.parametrize(("joint_epochs", "refit"), [(0, True), (3, False)])
def test_nothing_goes_on_unless_that_was_asked_for(tmp_path: Path, joint_epochs: int, refit: bool) -> None:
    sequence = make_sequence(
        tmp_path / "a", progressive=False, stages=[Stage("last:1", toy.thaw("last:1"), 2, joint_epochs, 2)]
    )
    trained = train(sequence, toy.make_setup(quick(refit=refit)))
    assert [record.name for record in trained.stages] == ["last:1"]


def test_a_budget_that_is_used_up_leaves_no_time_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1e6, 10.0))  # each look at the clock is 10 s after the last
    monkeypatch.setattr(stages.time, "monotonic", lambda: float(next(clock)))
    usual: dict[str, Any] = {"progressive": False, "names": ("last:1",), "start_logits": None}
    short = train(make_sequence(tmp_path / "a", ends_at=200.0, **usual), toy.make_setup(quick()))
    assert "last:1, all samples" not in [record.name for record in short.stages]
    enough = train(make_sequence(tmp_path / "b", ends_at=1e6, **usual), toy.make_setup(quick()))
    assert [record.name for record in enough.stages] == ["last:1", "last:1, all samples"]


def test_a_stage_is_given_up_by_its_losses_and_those_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, {"last:1": 0.1, "last:3": 0.2})
    base, heard = judge(start_logits(), toy.LABELS[VAL]).losses, []

    def give_up(before: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
        assert np.array_equal(before, base)
        heard.append(round(float((now - before).mean()), 2))
        return heard[-1] == 0.2

    usual: dict[str, Any] = {"progressive": False, "give_up": give_up}
    for name, evaluated in (("last:1", [4, 8]), ("last:3", [4])):
        heard.clear()
        trained = train(make_sequence(tmp_path / name, names=(name,), **usual), toy.make_setup(quick()))
        record = training_of(trained.stages[0])
        assert [point.step for point in record.history] == evaluated
        assert heard == [0.1 if name == "last:1" else 0.2] * len(evaluated)
        # what was given up is not rolled back: whoever asked must see what it lost
        assert trained.kept_any and record.kept
        assert trained.val_logits is not None
        assert not np.array_equal(trained.val_logits, start_logits())


def test_a_head_that_knows_nothing_gives_nothing_to_give_up_by(tmp_path: Path) -> None:
    def give_up(before: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
        raise AssertionError("nobody knows the losses of the start")

    sequence = make_sequence(tmp_path / "a", progressive=False, names=("all",), start_logits=None, give_up=give_up)
    assert train(sequence, toy.make_setup(quick())).kept == "all"


def test_each_stage_may_start_where_training_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": -0.1, "last:3": 0.4, "all": -0.3})
    settings = quick(stages_from="probe", statistics="moving")
    sequence = make_sequence(tmp_path / "a", moving_statistics=True)
    trained = train(sequence, toy.make_setup(settings))
    assert [record.name for record in trained.stages] == [*NAMES, "all, all samples"]
    assert [record.kept for record in trained.stages] == [True, False, True, True]
    # the last stage alone, and its refit, as if the others had never been
    alone = make_sequence(tmp_path / "b", names=("all",), moving_statistics=True)
    expected = train(alone, toy.make_setup(settings))
    assert toy.digest(trained.net) == toy.digest(expected.net)
    assert trained.val_logits is not None
    assert expected.val_logits is not None
    assert np.array_equal(trained.val_logits, expected.val_logits)


def test_a_rolled_back_stage_leaves_the_best_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, {"last:1": -0.1, "last:3": 0.4, "all": 0.3})
    settings = quick(stages_from="probe", refit=False)
    trained = train(make_sequence(tmp_path / "a"), toy.make_setup(settings))
    expected = train(make_sequence(tmp_path / "b", names=("last:1",)), toy.make_setup(settings))
    assert trained.kept == "last:1"
    assert toy.digest(trained.net) == toy.digest(expected.net)


def test_without_a_validation_part_a_fixed_sequence_is_walked_once(tmp_path: Path) -> None:
    planned = [Stage(name, toy.thaw(name), EPOCHS, 0, 2) for name in ("last:1", "all")]
    sequence = make_sequence(tmp_path / "a", progressive=False, stages=planned, val=VAL[:0], start_logits=None)
    trained = train(sequence, toy.make_setup(quick()))
    assert [record.name for record in trained.stages] == ["last:1", "all"]
    assert [record.score for record in trained.stages] == [None, None]
    assert (trained.temperature, trained.val_logits, trained.kept) == (1.0, None, "all")
    again = train(sequence, toy.make_setup(quick()))
    assert left_behind(again) == left_behind(trained)


def test_a_head_that_knows_nothing_is_kept_and_then_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, {"none": 0.9, "last:1": 0.95})
    sequence = make_sequence(tmp_path / "a", names=("none", "last:1"), start_logits=None)
    trained = train(sequence, toy.make_setup(quick(refit=False)))
    assert [record.kept for record in trained.stages] == [True, False]
    assert (trained.kept, trained.kept_any) == ("none", True)


def test_records_say_what_a_stage_cost_and_reached(tmp_path: Path) -> None:
    trained = train(make_sequence(tmp_path / "a", names=("last:2",), progressive=False), toy.make_setup(quick()))
    record, on = trained.stages
    assert (record.trainable, record.frozen) == (72 + 27, 918 - 72)
    training = training_of(record)
    assert (training.thaw, training.rung, training.views) == ("last:2", "blocks.1", 2)
    assert training.cache == InputsReport(kind="memory", seconds=0.1)
    assert [point.step for point in training.history] == [4, 8]
    assert training.validation is not None
    low, high = training.validation.loss_ci95
    assert record.score is not None
    assert low < record.score < high
    assert training.validation.n == 16
    assert training_of(on).validation is None
    assert (training_of(on).epochs, training_of(on).steps) == (JOINT_EPOCHS, 12)  # 48 samples, 8 in a batch
    assert [receipt["status"] for receipt in trained.receipts] == ["clean", "clean"]
    assert trained.receipts[0]["stage"] == "last:2"
    json.dumps([one.to_json() for one in trained.stages] + list(trained.receipts))


def test_it_learns(tmp_path: Path) -> None:
    sequence = make_sequence(
        tmp_path / "a",
        stages=[Stage(name, toy.thaw(name), 6, 2, 2) for name in NAMES],
        inputs=toy.ToyInputs(signal=0.5),
    )
    trained = train(sequence, toy.make_setup(quick()))
    before = judge(start_logits(), toy.LABELS[VAL])
    assert trained.kept_any
    assert trained.val_logits is not None
    assert judge(trained.val_logits, toy.LABELS[VAL]).loss < before.loss - 0.05


SCENARIOS: dict[str, dict[str, Any]] = {
    "kept, rolled back, kept": {"offsets": {"last:1": -0.1, "last:3": 0.4, "all": -0.3}},
    "nothing kept": {"offsets": dict.fromkeys(NAMES, 0.3)},
    "each from the probe": {
        "offsets": {"last:1": -0.1, "last:3": 0.4, "all": -0.3},
        "settings": {"stages_from": "probe", "statistics": "moving"},
    },
    "all at once": {
        "offsets": {"last:1": 0.2, "last:3": -0.3, "all": -0.4},
        "settings": {"ema_decay": 0.9, "statistics": "moving", "mixup": 0.3, "optimiser": "sgd"},
    },
    "averaged to the end": {
        "offsets": {"last:1": 0.2, "last:3": -0.3, "all": -0.4},
        "settings": {"average_power": 3, "schedule": "constant", "warmup_frac": 0.4},
    },
}


def walk(scenario: str, state: Path, watcher: toy.Watcher, inputs: Any = None, **changes: Any) -> TrainingResult:
    settings = quick(batch_size=16, **SCENARIOS[scenario].get("settings", {}))
    moving = settings.statistics == "moving"
    sequence = make_sequence(state, inputs=inputs or toy.ToyInputs(), moving_statistics=moving, **changes)
    return train(sequence, toy.make_setup(settings, watcher))


@pytest.mark.parametrize(
    ("scenario", "every"),
    [
        ("kept, rolled back, kept", 11),
        ("nothing kept", 13),
        ("each from the probe", 13),
        ("all at once", 17),
        ("averaged to the end", 13),
        *(pytest.param(scenario, 1, marks=pytest.mark.slow) for scenario in SCENARIOS),
    ],
)
def test_a_kill_at_any_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, every: int
) -> None:
    script(monkeypatch, SCENARIOS[scenario]["offsets"])
    watcher = toy.Watcher()
    expected = left_behind(walk(scenario, tmp_path / "whole", watcher))
    for stop in range(1, watcher.calls + 1, every):
        monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0 if stop % 2 else 1e9)
        state = tmp_path / str(stop)
        with pytest.raises(toy.Stopped):
            walk(scenario, state, toy.Watcher(stop))
        assert left_behind(walk(scenario, state, toy.Watcher())) == expected, stop


class KilledAt:
    """Calls through, but ends the process at one call: before it or right after it."""

    def __init__(self, through: Callable[..., Any], number: int, *, after: bool) -> None:
        self.through, self.number, self.after, self.calls = through, number, after, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == self.number and not self.after:
            raise toy.Stopped
        given = self.through(*args)
        if self.calls == self.number:
            raise toy.Stopped
        return given


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_around_any_checkpoint_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, every: int
) -> None:
    scenario, write = "kept, rolled back, kept", stages.write_checkpoint
    script(monkeypatch, SCENARIOS[scenario]["offsets"])
    counted = KilledAt(write, -1, after=after)
    monkeypatch.setattr(loop, "write_checkpoint", counted)
    monkeypatch.setattr(stages, "write_checkpoint", counted)
    expected = left_behind(walk(scenario, tmp_path / "whole", toy.Watcher()))
    for number in range(1, counted.calls + 1, every):
        killed = KilledAt(write, number, after=after)
        monkeypatch.setattr(loop, "write_checkpoint", killed)
        monkeypatch.setattr(stages, "write_checkpoint", killed)
        with pytest.raises(toy.Stopped):
            walk(scenario, tmp_path / str(number), toy.Watcher())
        assert left_behind(walk(scenario, tmp_path / str(number), toy.Watcher())) == expected, number


@pytest.mark.parametrize("numbers", [(1, 3, 4), pytest.param((2,), marks=pytest.mark.slow)])
def test_a_kill_while_inputs_are_made_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    scenario = "kept, rolled back, kept"
    script(monkeypatch, SCENARIOS[scenario]["offsets"])
    expected = left_behind(walk(scenario, tmp_path / "whole", toy.Watcher()))
    for number in numbers:
        state = tmp_path / str(number)
        with pytest.raises(toy.Stopped):
            walk(scenario, state, toy.Watcher(), KilledAt(toy.ToyInputs(), number, after=False))
        assert left_behind(walk(scenario, state, toy.Watcher())) == expected


def test_being_killed_again_and_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)
    script(monkeypatch, SCENARIOS["all at once"]["offsets"])
    expected = left_behind(walk("all at once", tmp_path / "whole", toy.Watcher()))
    for _ in range(100):
        try:
            trained = walk("all at once", tmp_path / "killed", toy.Watcher(3))
        except toy.Stopped:
            continue
        break
    assert left_behind(trained) == expected


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_only_chosen_goes_on_elsewhere_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    script(monkeypatch, SCENARIOS[scenario]["offsets"])
    expected = left_behind(walk(scenario, tmp_path / "whole", toy.Watcher()))
    chosen = left_behind(walk(scenario, tmp_path / "chosen", toy.Watcher(), choose_only=True))
    n_joint = sum(name.endswith("all samples") for name in (stage["name"] for stage in expected["stages"]))
    assert chosen["stages"] == expected["stages"][: len(expected["stages"]) - n_joint]
    assert n_joint == (scenario != "nothing kept")
    watcher = toy.Watcher()
    again = walk(scenario, tmp_path / "chosen", watcher, choose_only=True)
    assert (left_behind(again), watcher.calls) == (chosen, 0)
    shutil.copytree(tmp_path / "chosen", tmp_path / "run")
    inputs = toy.ToyInputs()
    assert left_behind(walk(scenario, tmp_path / "run", watcher, inputs)) == expected
    assert [asked[2:] for asked in inputs.asked] == [(48, 0)] * n_joint  # nothing was chosen anew
    for stop in range(1, watcher.calls + 1, 3):  # killed on the way from there
        shutil.copytree(tmp_path / "chosen", tmp_path / str(stop))
        with pytest.raises(toy.Stopped):
            walk(scenario, tmp_path / str(stop), toy.Watcher(stop))
        assert left_behind(walk(scenario, tmp_path / str(stop), toy.Watcher())) == expected, stop


@pytest.mark.parametrize("stop", [3, None], ids=["in a stage", "at the end"])
@pytest.mark.parametrize(
    "changes",
    [
        {"train": TRAIN[:24]},
        {"val": VAL[:8], "start_logits": None},
        {"progressive": False},
        {"stages": [Stage("last:1", toy.thaw("last:1"), 3, JOINT_EPOCHS, 2)]},
        {"stages": [Stage("last:1", toy.thaw("last:1"), EPOCHS, JOINT_EPOCHS, 1)]},
        {"stages": [Stage("last:1", toy.thaw("last:3"), EPOCHS, JOINT_EPOCHS, 2)]},
    ],
    ids=["other samples", "others held out", "progressive", "epochs", "views", "line"],
)
def test_checkpoints_of_another_training_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stop: int | None
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)
    usual: dict[str, Any] = {"names": ("last:1",)}
    expected = left_behind(train(make_sequence(tmp_path / "fresh", **usual), toy.make_setup(quick())))
    watcher = toy.Watcher(stop)
    with contextlib.suppress(toy.Stopped):
        train(make_sequence(tmp_path / "a", **usual | changes), toy.make_setup(quick(), watcher))
    assert watcher.calls >= 3
    trained = train(make_sequence(tmp_path / "a", **usual), toy.make_setup(quick()))
    assert left_behind(trained) == expected


def test_a_walk_that_is_over_is_not_walked_again(tmp_path: Path) -> None:
    settings = quick(evaluations=1)
    trained = train(make_sequence(tmp_path / "a"), toy.make_setup(settings))
    watcher, inputs = toy.Watcher(), toy.ToyInputs()
    again = train(make_sequence(tmp_path / "a", inputs=inputs), toy.make_setup(settings, watcher))
    assert (watcher.calls, inputs.asked) == (0, [])
    assert left_behind(again) == left_behind(trained)


def test_what_crosses_the_line_is_made_by_the_net_as_it_is(tmp_path: Path) -> None:
    """The inputs of a stage come from the weights that the stage before left, not from those of the start."""
    seen: list[str] = []

    def inputs(model: nn.Module, cut: Cut, *rest: Any) -> Any:
        seen.append(toy.digest(model))
        return toy.ToyInputs()(model, cut, *rest)

    sequence = make_sequence(tmp_path / "a", progressive=False, names=("last:3", "last:1"), inputs=inputs)
    trained = train(sequence, toy.make_setup(quick(refit=False)))
    assert seen[0] == toy.digest(start().backbone)
    assert len({*seen, toy.digest(trained.net.backbone)}) == 3
