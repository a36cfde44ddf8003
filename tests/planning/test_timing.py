"""What a fit will take: paces read off progress, multiplied out, and near to what it takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.embedded import opened

import thawline as tl
from thawline.planning import Ground, timing
from thawline.planning.asking import precision_of
from thawline.planning.timing import (
    CACHING,
    Forecast,
    HeadTimed,
    Paces,
    Stopwatch,
    forecast,
    in_words,
    stage_cost,
    time_head,
)
from thawline.records import Split
from thawline.scale.paths import cache_root


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr("thawline.planning.timing.time.monotonic", lambda: now[0])
    return now


def test_a_pace_leaves_the_warm_up_out(clock: list[float]) -> None:
    watch = Stopwatch(began=clock[0])
    watch.hear("steps", 0)
    for done, seconds in ((1, 5.0), (2, 3.0), (3, 0.5), (4, 0.5), (6, 1.0)):
        clock[0] += seconds
        watch.hear("steps", done)
    assert watch.pace("steps") == pytest.approx(0.5)
    assert watch.units("steps") == 6
    assert watch.around() == pytest.approx(10 - 6 * 0.5)
    assert (watch.pace("other"), watch.units("other")) == (0.0, 0)


def test_a_phase_that_begins_again_goes_on_counting(clock: list[float]) -> None:
    watch = Stopwatch(began=clock[0])
    for done in (0, 8, 16, 24, 0, 8):
        watch.hear(CACHING, done)
        clock[0] += 2.0
    assert watch.units(CACHING) == 32
    assert watch.pace(CACHING) == pytest.approx(2 / 8)


def test_until_it_is_warm_the_first_units_must_do(clock: list[float]) -> None:
    watch = Stopwatch(began=clock[0])
    watch.hear("steps", 0)
    clock[0] += 3.0
    watch.hear("steps", 1)
    assert not watch.is_warm("steps")
    assert watch.pace("steps") == pytest.approx(3.0)


@pytest.fixture(scope="module")
def shapes() -> tl.Dataset:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (160, 24, 24, 3), dtype=np.uint8)
    data = tl.open_data(pictures, np.arange(160) % 2)
    return replace(data, groups=np.arange(160))


@pytest.mark.parametrize(("precision", "bytes_each"), [("bf16", 2), ("f32", 4)])
def test_a_stage_is_multiplied_out(shapes: tl.Dataset, precision: str, bytes_each: int) -> None:
    backbone = opened()
    training = {"epochs": 3, "views": 4, "evaluations": 2}
    plan = tl.plan(shapes, backbone, thaw="last:2", precision=precision, training=training)
    (stage,) = plan.stages
    rung = next(rung for rung in backbone.ladder.rungs if rung.name == stage.rung)
    part = np.arange(64)
    split = Split(part, part[:32] + 64, part[:0], "", part[:0])
    seconds, disk = stage_cost(stage, Paces(0.01, 0.1, 1.0), split, rung, plan)
    # trained on 64 (two batches) and judged three times on 32, then on all 96 (three batches)
    assert (stage.epochs, stage.joint_epochs) == (1, 2)
    steps = 1 * 2 + 2 * 3
    judging = 3 * 32 / 32 / 3
    rows = 96 * 4 + 32
    assert seconds == pytest.approx(2 * 1.0 + 0.1 * (steps + judging) + 0.01 * rows)
    assert disk == rows * math.prod(rung.shape) * bytes_each
    stored, _ = stage_cost(stage, Paces(0.01, 0.1, 1.0), split, rung, plan, n_stored=400)
    assert seconds - stored == pytest.approx(4.0)
    # after its trial, only the training on all samples is left
    left, kept = stage_cost(stage, Paces(0.01, 0.1, 1.0), split, rung, plan, n_stored=rows, chosen=True)
    assert left == pytest.approx(1.0 + 0.1 * 2 * 3)
    assert kept == disk
    once = plan.changed(training=plan.training.changed(refit=False))  # type: ignore[union-attr]
    assert stage_cost(stage, Paces(0.0, 0.1, 1.0), split, rung, once)[0] == pytest.approx(1.0 + 0.1 * (2 + judging))
    assert stage_cost(stage, Paces(0.0, 0.1, 1.0), split, rung, once, chosen=True)[0] == 0


def test_all_samples_teach_everything_at_a_pace_that_follows_from_the_flops(shapes: tl.Dataset) -> None:
    backbone = opened()
    plan = tl.plan(shapes, backbone, thaw="all", training={"epochs": 3, "views": 1})
    (stage,) = plan.stages
    assert (stage.epochs, stage.joint_epochs, stage.joint_thaw) == (1, 2, "all")
    rung = next(rung for rung in backbone.ladder.rungs if rung.name == stage.rung)
    part = np.arange(64)
    split, paces = Split(part, part[:32] + 64, part[:0], "", part[:0]), Paces(0.01, 0.1, 1.0)
    left, disk = stage_cost(stage, paces, split, rung, plan, n_stored=96, chosen=True)
    step_s = 0.1 / (1 - rung.flops_below_frac) + 32 * 0.01
    assert left == pytest.approx(1.0 + step_s * 2 * 3)
    assert disk == (64 + 32) * rung.row_bytes(precision_of(plan))  # views of what the first part learns from only
    timed, _ = stage_cost(stage, paces, split, rung, plan, joint=Paces(0.0, 2.0, 1.0), n_stored=96, chosen=True)
    assert timed == pytest.approx(1.0 + 2.0 * 2 * 3)


@pytest.mark.parametrize(
    "asked",
    [
        {"thaw": "none"},
        {"thaw": "last:2"},
        pytest.param({"from_scratch": True}, marks=pytest.mark.slow),
        {"head": "mlp"},
    ],
)
def test_a_forecast_does_nothing_for_good(shapes: tl.Dataset, asked: dict[str, object], tmp_path: Path) -> None:
    """Every part is there, and the disk that it names is what the fit then keeps, to a fifth."""
    backbone = opened()
    plan = tl.plan(shapes, backbone, training={"epochs": 2} if asked != {"thaw": "none"} else None, **asked)
    before = backbone.weights_sha256
    ahead = forecast(Ground.of(shapes, plan), backbone, plan)
    assert ahead.seconds > timing.EVALUATION_S
    assert ahead.memory_bytes > 50e6
    tl.fit(shapes, plan, backbone=backbone, run=tmp_path / "run")
    assert backbone.weights_sha256 == before
    kept = sum(file.stat().st_size for file in (cache_root() / "features").rglob("*.safetensors"))
    assert ahead.disk_bytes == pytest.approx(kept, rel=0.2)


def test_loading_what_trains_counts_where_something_trains(shapes: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_loading_s", lambda: 1000.0)
    backbone = opened()
    nothing = tl.plan(shapes, backbone, thaw="none")
    head_only = tl.plan(shapes, backbone, thaw="none", head="mlp", training={"epochs": 1})
    assert forecast(Ground.of(shapes, nothing), backbone, nothing).seconds < 1000
    assert forecast(Ground.of(shapes, head_only), backbone, head_only).seconds > 1000


def test_a_head_on_more_samples_takes_more_than_in_proportion() -> None:
    head = HeadTimed(0.2, 600, 1280)
    assert head.of(600) == pytest.approx(0.2)
    assert head.of(1200) == pytest.approx(0.8)  # twice as many, each with twice as many others
    assert head.of(2560) == pytest.approx(2 * head.of(1280))  # no longer: there are as many features
    assert HeadTimed(0.2, 600, 64).of(1200) == pytest.approx(0.4)
    assert head.of(150) == pytest.approx(0.05)  # in proportion: small products cost more for each number


def test_a_head_is_timed_on_no_more_than_asked(shapes: tl.Dataset) -> None:
    plan, split = tl.plan(shapes, opened(), thaw="none"), tl.split_data(shapes)
    assert time_head(split, shapes, plan, 8, most=70).n == 70
    assert time_head(split, shapes, plan, 8).n == len(split.train) + len(split.val)


def test_it_is_said_in_words() -> None:
    assert [in_words(s) for s in (3.21, 42.0, 150.0, 9000.0)] == ["3.2 s", "42 s", "2.5 min", "2.5 h"]
    assert str(Forecast(150, 2_000_000, 10**9)) == "about 2.5 min, 2.0 MB in the cache, 1.0 GB of memory"
