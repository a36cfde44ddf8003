"""Learning from pairs: which samples meet, the loss by hand, a head that is solved, and the same bits after a stop."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training import toy
from tests.training.test_stages import left_behind, make_sequence

from thawline.errors import DataError
from thawline.heads import fit_head
from thawline.training import loop
from thawline.training.contrastive import LEAST_OF_CLASS, PairOrder, pair_loss
from thawline.training.schedule import epochs_within, n_pairs
from thawline.training.settings import TrainPlan
from thawline.training.stages import train


def pairs_setting(**changes: Any) -> TrainPlan:
    usual: dict[str, Any] = {"objective": "contrastive", "batch_size": 12, "evaluations": 2}
    return toy.quick(**usual | changes)


def order_of(labels: list[int], **changes: Any) -> PairOrder:
    usual: dict[str, Any] = {"batch_size": 16, "epochs": 3, "seed": 1, "stage": "a", "views": 0, "most_pairs": 10**9}
    return PairOrder(np.arange(len(labels)), np.array(labels), **usual | changes)


def test_all_classes_are_seen_equally_often() -> None:
    labels = [0] * 100 + [1] * 20 + [2] * 20 + [3] * 4
    order = order_of(labels, epochs=2)
    seen = Counter(labels[row] for step in range(order.n_steps) for row in order.batch(step)[0])
    assert set(seen) == {0, 1, 2, 3}
    assert max(seen.values()) == min(seen.values()) == order.n_steps * 4


@pytest.mark.parametrize("n_classes", [2, 6, 77])
def test_no_two_samples_meet_twice_before_a_class_was_shown_whole(n_classes: int) -> None:
    labels = list(np.repeat(np.arange(n_classes), 24))
    order = order_of(labels, batch_size=32, epochs=1)
    met: Counter[tuple[int, int]] = Counter()
    for rows, _ in order.batches(0, order.n_steps):
        met.update(combinations(rows.tolist(), 2))
    of_one_class = [pair for pair in met if labels[pair[0]] == labels[pair[1]]]
    shown = Counter(int(row) for rows, _ in order.batches(0, order.n_steps) for row in rows)
    assert max(shown.values()) == 1, "classes of one size are shown once in an epoch"
    assert max(met.values()) == 1
    assert of_one_class


def test_many_classes_leave_pairs_of_one_class_in_each_batch() -> None:
    labels = np.repeat(np.arange(77), 8)
    order = order_of(list(labels), batch_size=32)
    for rows, _ in order.batches(0, 5):
        classes, counts = np.unique(labels[rows], return_counts=True)
        assert (len(classes), set(counts)) == (32 // LEAST_OF_CLASS, {LEAST_OF_CLASS})


def test_the_budget_of_pairs_ends_a_stage() -> None:
    labels = [0, 1] * 64
    free = order_of(labels, epochs=50)
    assert free.n_steps == 50 * 8
    capped = order_of(labels, epochs=50, most_pairs=1_250)
    assert (free.pairs, capped.n_steps) == (n_pairs(16), 10)
    met = sum(n_pairs(len(capped.batch(step)[0])) for step in range(capped.n_steps))
    assert 1_000 < met <= 1_250
    assert order_of(labels, most_pairs=1).n_steps == 1


def test_batches_depend_on_seed_stage_and_epoch_alone() -> None:
    labels = [0, 1, 2] * 20
    one, other = order_of(labels), order_of(labels)
    np.testing.assert_array_equal(other.batch(7)[0], one.batch(7)[0])
    first = [one.batch(step)[0].tolist() for step in range(one.n_steps)]
    assert first != [order_of(labels, seed=2).batch(step)[0].tolist() for step in range(one.n_steps)]
    assert first != [order_of(labels, stage="b").batch(step)[0].tolist() for step in range(one.n_steps)]
    assert first[: one.per_epoch] != first[one.per_epoch : 2 * one.per_epoch]


def test_a_class_of_one_sample_takes_its_turn_and_no_two_of_one_class_are_refused() -> None:
    rows, _ = order_of([0, 0, 0, 0, 1]).batch(0)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="a class with two samples to learn from; each class has one"):
        order_of([0, 1, 2])


def test_epochs_follow_from_the_budget_of_pairs() -> None:
    assert epochs_within(10 * n_pairs(32), 320, 32) == 1
    assert epochs_within(100 * n_pairs(32), 320, 32) == 10
    assert epochs_within(1, 10_000, 32) == 1


def by_hand(features: torch.Tensor, labels: list[int]) -> float:
    """The loss, one pair at a time."""
    unit = features.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    of: dict[bool, list[float]] = {True: [], False: []}
    for i, j in combinations(range(len(unit)), 2):
        same = labels[i] == labels[j]
        of[same].append((float(unit[i] @ unit[j]) - same) ** 2)
    return float(np.mean(of[True] or [0]) + np.mean(of[False] or [0])) / 2


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0, 3], [0, 1, 2, 3, 4, 5, 6], [0] * 7])
def test_the_loss_is_that_of_a_plain_loop(labels: list[int]) -> None:
    torch.manual_seed(3)
    features = torch.randn(7, 5, requires_grad=True)
    loss = pair_loss(features, torch.tensor(labels))
    assert float(loss.detach()) == pytest.approx(by_hand(features.detach(), labels), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None and bool(features.grad.isfinite().all())


@pytest.mark.parametrize("setting", ["last:3", "all"])
def test_a_stage_learns_features_and_solves_their_head(tmp_path: Path, setting: str) -> None:
    made = toy.make_stage(pairs_setting(), tmp_path / "step", setting=setting)
    before = toy.state(made.net)
    rows, labels = toy.TRAIN, torch.from_numpy(toy.LABELS[toy.TRAIN])

    def features() -> torch.Tensor:
        made.above.eval()
        with torch.no_grad():
            return made.above.features(toy.Crossing(made.above.cut, 16).of(rows, None))

    was = float(pair_loss(features(), labels))
    result = made.run()
    now = features()
    assert float(pair_loss(now, labels)) < was
    moved = toy.differing(before, toy.state(made.net))
    assert set(moved) == set(made.above.learning), "all that was thawed, the head among it, and nothing else"
    solved = fit_head("logistic", now.numpy(), toy.LABELS[rows], toy.CLASSES, seed=toy.SEED).head
    with torch.no_grad():
        logits = made.net.head(now).double().numpy()
    np.testing.assert_allclose(logits, solved.logits(now.numpy()), atol=1e-3)
    assert result.receipt.thawed == (*(n for n in before if n in moved),)
    assert not any(one.name.startswith("head.") for one in result.receipt.moved), "a solved head gets no gradient"


def test_what_was_frozen_stays(tmp_path: Path) -> None:
    made = toy.make_stage(pairs_setting(), tmp_path / "step", setting="last:3")
    before = toy.state(made.net)
    made.run()
    after = toy.state(made.net)
    for name in before:
        if name not in made.above.learning:
            assert torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("settings", [{}, {"average_power": 3, "schedule": "constant", "warmup_frac": 0.4}])
def test_a_kill_at_any_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", -1.0)

    def walk(state: Path, watcher: toy.Watcher) -> dict[str, Any]:
        sequence = make_sequence(state, names=("last:3",), progressive=False)
        return left_behind(train(sequence, toy.make_setup(pairs_setting(**settings), watcher)))

    watcher = toy.Watcher()
    expected = walk(tmp_path / "whole", watcher)
    assert watcher.calls >= 12
    for stop in range(1, watcher.calls + 1, 5):
        with pytest.raises(toy.Stopped):
            walk(tmp_path / str(stop), toy.Watcher(stop))
        assert walk(tmp_path / str(stop), toy.Watcher()) == expected, stop


def test_pairs_are_divided_between_choosing_and_going_on(tmp_path: Path) -> None:
    most = 8 * n_pairs(12)
    sequence = make_sequence(tmp_path, names=("last:3",), progressive=False)
    watcher = toy.Watcher()
    trained = train(sequence, toy.make_setup(pairs_setting(pairs=most), watcher))
    steps = [stage.training.steps for stage in trained.stages if stage.training]
    assert steps == [4, 4]
    assert trained.val_logits is not None and trained.kept == "last:3"
