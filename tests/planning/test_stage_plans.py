"""From a thaw setting to stages: which, how long, with how many views; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contracts.zoo import TINY, create
from tests.toy_text import text_dataset, toy_encoder

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.ladder import Ladder, Rung, build_ladder
from thawline.backbones.lines import thaw_lines
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import resolve_thaw
from thawline.data import split_data
from thawline.errors import UsageError
from thawline.planning import FitPlan, Ground, read_plan, settle, stage_plans, write_plan
from thawline.planning.stage_plans import (
    FEWEST_EPOCHS,
    JOINT,
    MOST_EPOCHS,
    MOST_SEEN,
    MOST_VIEWS,
    SAMPLES_SEEN,
    SMOOTH,
    TEXT_LR,
    USUAL_EPOCHS,
    progressive_rungs,
)
from thawline.records import Dataset


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tl.open_backbone()


@pytest.fixture
def data(tiny_photos: Path) -> Dataset:
    return tl.open_data(tiny_photos)


@pytest.fixture(scope="module")
def ladder(backbone: Backbone) -> Ladder:
    return backbone.ladder


def wide(data: Dataset, times: int) -> Dataset:
    """The same pictures, many times over; only their number matters here."""
    n = len(data) * times
    return replace(
        data,
        files=data.files * times,
        labels=np.tile(data.labels, times),
        digests=tuple(f"{i:064x}" for i in range(n)),
        sketches=np.tile(data.sketches, (times, 1, 1, 1)),
        groups=np.arange(n),
    )


def names_above(backbone: Backbone, ladder: Ladder, setting: str) -> set[str]:
    return set(resolve_thaw(ladder, setting, backbone.blueprint()).thawed)


def test_nothing_is_trained_by_default(data: Dataset, backbone: Backbone) -> None:
    plan = tl.plan(data, backbone)
    assert (plan.thaw, plan.trains, plan.training, plan.stages) == ("none", False, None, ())


@pytest.mark.parametrize("setting", ["last:2", "stage:layer4", "from:layer4.1", "30%", r"regex:layer4\.[01]"])
def test_a_fixed_line_is_one_stage(data: Dataset, backbone: Backbone, ladder: Ladder, setting: str) -> None:
    plan = tl.plan(data, backbone, thaw=f" {setting} ")
    (stage,) = plan.stages
    thaw = resolve_thaw(ladder, setting, backbone.blueprint())
    assert (plan.thaw, stage.thaw, stage.rung, stage.adds) == (setting, setting, thaw.rung, thaw.thawed)
    assert plan.training is not None
    assert f"Thaw {setting}, as asked: 1 stage." in plan.reasons
    assert "LP-FT" in plan.reasons[0]


def test_everything_learns_from_all_samples_after_the_upper_part_was_judged(
    data: Dataset, backbone: Backbone, ladder: Ladder, tmp_path: Path
) -> None:
    plan = tl.plan(data, backbone, thaw="all")
    middle = thaw_lines(ladder)[-2]
    (stage,), (upper,) = plan.stages, tl.plan(data, backbone, thaw=middle).stages
    assert (stage.thaw, stage.rung, stage.epochs, stage.joint_epochs) == (
        middle,
        upper.rung,
        upper.epochs,
        upper.joint_epochs,
    )
    assert (stage.joint_thaw, stage.goal, set(stage.adds)) == ("all", "all", names_above(backbone, ladder, "all"))
    assert 0 < stage.views <= stage.epochs
    assert "Thaw all, as asked: 1 stage." in plan.reasons
    write_plan(plan, tmp_path / "plan.toml")
    assert settle(read_plan(tmp_path / "plan.toml"), Ground.of(data, plan), backbone) == plan
    # where nothing goes on with all samples, everything learns at once
    # or where pictures are cut and pasted, which needs the pictures themselves
    for training in ({"refit": False}, {"epochs": 1}, {"cutmix": 1.0}):
        (once,) = tl.plan(data, backbone, thaw="all", training=training).stages
        assert (once.thaw, once.rung, once.joint_thaw, once.goal) == ("all", "input", "", "all")


def test_an_mlp_head_is_a_stage_of_its_own(data: Dataset, backbone: Backbone, ladder: Ladder) -> None:
    alone = tl.plan(data, backbone, head="mlp", hidden=(16,))
    (stage,) = alone.stages
    assert (stage.thaw, stage.rung, stage.views, stage.adds) == ("none", "pooled", 0, ())
    assert (stage.epochs, stage.joint_epochs) == (200, 200 * JOINT)
    assert alone.training is not None
    assert alone.training.lr == 1e-3
    assert not any("solved" in reason or "Thaw none" in reason for reason in alone.reasons)
    both = tl.plan(data, backbone, head="mlp", thaw="last:2")
    assert [stage.thaw for stage in both.stages] == ["none", "last:2"]
    assert (both.stages[1].epochs, both.stages[1].joint_epochs) == (40, 40 * JOINT)
    assert set(both.stages[1].adds) == names_above(backbone, ladder, "last:2")


def test_progressive_unfreezing_adds_group_by_group(data: Dataset, backbone: Backbone, ladder: Ladder) -> None:
    plan = tl.plan(data, backbone, thaw="progressive")
    assert [stage.thaw for stage in plan.stages] == [f"from:{rung.name}" for rung in progressive_rungs(ladder)]
    added: set[str] = set()
    for stage in plan.stages:
        assert stage.adds
        assert not added & set(stage.adds)
        added |= set(stage.adds)
        assert added == names_above(backbone, ladder, stage.thaw)
    assert added == {name for name, _ in backbone.blueprint().named_parameters()}
    assert [(stage.epochs, stage.joint_epochs) for stage in plan.stages] == [(40, 40 * JOINT)] * 5
    going_on = tl.plan(data, backbone, thaw="progressive", training={"stages_from": "incumbent"})
    assert [stage.epochs for stage in going_on.stages] == [24] * 5  # 60 % of 40
    assert "Thaw progressive, as asked: 5 stages." in plan.reasons
    mlp = tl.plan(data, backbone, thaw="progressive", head="mlp")
    assert mlp.stages[0].thaw == "none"
    assert mlp.stages[1:] == plan.stages


def test_from_scratch_everything_learns(data: Dataset, backbone: Backbone) -> None:
    for head in ("logistic", "mlp"):
        plan = tl.plan(data, backbone, from_scratch=True, head=head)
        (stage,) = plan.stages
        assert (plan.thaw, stage.thaw, stage.rung, stage.views, stage.epochs) == ("all", "all", "input", 0, 120)
        assert stage.joint_epochs == 120 * JOINT
        assert plan.training is not None
        assert (plan.training.statistics, plan.training.lr_decay, plan.weights_sha256) == ("moving", 1.0, "")
        assert "random weights" in plan.reasons[0]
        assert len(plan.reasons) == 1


def test_many_samples_need_fewer_epochs(data: Dataset, backbone: Backbone) -> None:
    epochs = []
    for times in (1, 10, 40, 100, 400):
        many = wide(data, times)
        plan = tl.plan(many, backbone, thaw="last:2")
        (stage,) = plan.stages
        n = sum(len(part) for part in (Ground.of(many, plan).split.train, Ground.of(many, plan).split.val))
        shown = max(SAMPLES_SEEN, min(USUAL_EPOCHS * n, MOST_SEEN))
        epochs.append(stage.epochs + stage.joint_epochs)
        assert epochs[-1] == min(max(round(shown / n), FEWEST_EPOCHS), MOST_EPOCHS)
        assert 1 <= stage.epochs < stage.joint_epochs
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == (MOST_EPOCHS, FEWEST_EPOCHS)
    assert tl.plan(wide(data, 400), backbone, thaw="progressive").stages[0].epochs == FEWEST_EPOCHS


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 40])
@pytest.mark.parametrize(
    "asked", [{"thaw": "last:2"}, {"thaw": "progressive"}, {"head": "mlp"}, {"from_scratch": True}]
)
def test_epochs_that_were_asked_for_are_those_of_both_parts(
    data: Dataset, backbone: Backbone, asked: dict[str, Any], epochs: int
) -> None:
    for stage in tl.plan(data, backbone, training={"epochs": epochs}, **asked).stages:
        assert stage.epochs + stage.joint_epochs == epochs
        assert stage.epochs >= 1 and (stage.joint_epochs >= 1) == (epochs > 1)
    for stage in tl.plan(data, backbone, training={"epochs": epochs, "refit": False}, **asked).stages:
        assert (stage.epochs, stage.joint_epochs) == (epochs, 0)


def test_where_nothing_is_held_out_nothing_goes_on(data: Dataset, backbone: Backbone) -> None:
    given = replace(data, given=np.array(["train"] * (len(data) - 6) + ["test"] * 6))
    held = tl.plan(given, backbone, thaw="last:2").stages[0]
    same = replace(given, groups=np.zeros(len(data), np.int64))  # one group: nothing can be held out
    (stage,) = tl.plan(same, backbone, thaw="last:2").stages
    assert held.joint_epochs > 0
    assert (stage.epochs, stage.joint_epochs) == (held.epochs + held.joint_epochs, 0)


@pytest.mark.parametrize(
    ("asked", "smooth"),
    [
        ({"thaw": "last:2"}, True),
        ({"thaw": "all", "training": {"lr": 0.1, "mixup": 0.2}}, True),
        ({"thaw": "all", "training": {"schedule": "cosine"}}, False),
        ({"thaw": "all", "training": {"ema_decay": 0.9}}, False),
        ({"thaw": "all", "training": {"lora_rank": 4}}, False),
        ({"thaw": "all", "training": {"statistics": "moving"}}, False),
        ({"thaw": "progressive"}, False),
        ({"thaw": "last:2", "head": "mlp"}, False),
        ({"from_scratch": True}, False),
    ],
)
def test_weights_are_averaged_to_the_end_where_a_solved_head_is_fine_tuned_in_one_stage(
    data: Dataset, backbone: Backbone, asked: dict[str, Any], smooth: bool
) -> None:
    training = tl.plan(data, backbone, **asked).training
    assert training is not None
    assert (training.average_power > 0) == smooth
    if smooth:
        assert {name: getattr(training, name) for name in SMOOTH} == SMOOTH
    kept = tl.plan(data, backbone, thaw="last:2", training={"clip_norm": 3.0, "warmup_frac": 0.1}).training
    assert kept is not None and (kept.clip_norm, kept.warmup_frac) == (3.0, 0.1)  # asked for


def test_views_are_kept_where_there_is_something_to_save(data: Dataset, backbone: Backbone, ladder: Ladder) -> None:
    views = {stage.rung: stage.views for stage in tl.plan(data, backbone, thaw="progressive").stages}
    below = {rung.name: rung.flops_below_frac for rung in ladder.rungs}
    assert {rung: 0 if below[rung] < 0.05 else MOST_VIEWS for rung in views} == views
    assert set(views.values()) == {0, MOST_VIEWS}
    few = tl.plan(data, backbone, thaw="last:2", training={"epochs": 2}).stages[0]
    assert (few.epochs + few.joint_epochs, few.views) == (2, 2)  # more would never be seen


def test_views_that_do_not_fit_are_made_afresh(
    data: Dataset, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, ladder: Ladder
) -> None:
    line = resolve_thaw(ladder, "last:3", backbone.blueprint()).rung
    split = split_data(data)
    rung, n = next(rung for rung in ladder.rungs if rung.name == line), len(split.train) + len(split.val)
    for room, views in ((6, 6), (4, 4), (3, 0)):
        monkeypatch.setattr(stage_plans, "CACHE_BYTES", n * rung.row_bytes("f32") * room + 1)
        assert tl.plan(data, backbone, thaw="last:3", precision="f32").stages[0].views == views


def test_epochs_and_views_that_were_asked_for(data: Dataset, backbone: Backbone) -> None:
    plan = tl.plan(data, backbone, thaw="progressive", head="mlp", training={"epochs": 7, "views": 3, "lr": 0.5})
    assert {stage.epochs + stage.joint_epochs for stage in plan.stages} == {7}
    assert [stage.views for stage in plan.stages] == [0, 3, 3, 3, 3, 3]  # features of the head alone have one view
    assert plan.training is not None
    assert plan.training.lr == 0.5
    fresh = tl.plan(data, backbone, thaw="last:2", training={"views": 0})
    assert fresh.stages[0].views == 0


@pytest.mark.parametrize("architecture", TINY)
def test_groups_go_down_to_the_first_layer_in_about_equal_parts(architecture: str) -> None:
    px = TINY[architecture]
    model = create(architecture)
    ladder = build_ladder(model, architecture, Signature("timm", (3, px, px)))
    layers = [rung for rung in ladder.rungs if rung.parameters]
    starts = dict(zip((rung.name for rung in layers), [0.0, *(rung.flops_below_frac for rung in layers)], strict=False))
    chosen = progressive_rungs(ladder)
    places = [layers.index(rung) for rung in chosen]
    assert places == sorted(set(places), reverse=True)
    assert chosen[-1] is layers[0]
    assert 3 <= len(chosen) <= 5
    widest = max(rung.flops_below_frac - starts[rung.name] for rung in layers)  # a layer is never divided
    bounds = [1.0, *(starts[rung.name] for rung in chosen)]
    shares = [above - below for above, below in pairwise(bounds)]
    assert max(shares) <= 0.2 + widest
    sizes = [len(resolve_thaw(ladder, f"from:{rung.name}", model).thawed) for rung in chosen]
    assert sizes == sorted(set(sizes))


def made_up_ladder(flops_below: list[float]) -> Ladder:
    rungs = [Rung("input", "stem", "", (3, 8, 8), 0, 0, 0.0, 2)]
    rungs += [Rung(f"l{i}", "stem", "", (4,), 5, 5 * i + 5, share, 2) for i, share in enumerate(flops_below)]
    return Ladder("made up", len(flops_below), 5 * len(flops_below), tuple(rungs), Signature("timm", (3, 64, 64)))


@pytest.mark.parametrize(
    ("flops_below", "chosen"),
    [
        ([0.0, 0.0, 0.5, 1.0], ["l3", "l2", "l0"]),  # tokens and positions come first, and cost nothing
        ([0.2, 0.4, 0.6, 0.8, 1.0], ["l4", "l3", "l2", "l1", "l0"]),
        ([1.0], ["l0"]),
        ([0.97, 1.0], ["l1", "l0"]),
        ([0.01, 1.0], ["l1", "l0"]),
    ],
)
def test_groups_of_a_ladder(flops_below: list[float], chosen: list[str]) -> None:
    assert [rung.name for rung in progressive_rungs(made_up_ladder(flops_below))] == chosen


@pytest.mark.parametrize("asked", [{"thaw": "progressive", "head": "mlp"}, {"thaw": "all"}, {"from_scratch": True}])
def test_a_complete_plan_survives_its_file_and_settles_to_itself(
    data: Dataset, backbone: Backbone, tmp_path: Path, asked: dict[str, Any]
) -> None:
    plan = tl.plan(data, backbone, training={"mixup": 0.2, "crop_scale": (0.5, 0.9)}, **asked)
    write_plan(plan, tmp_path / "plan.toml")
    read = read_plan(tmp_path / "plan.toml")
    assert read == plan
    assert settle(read, Ground.of(data, read), backbone) == plan


def edited(plan: FitPlan, tmp_path: Path, *edits: tuple[str, str]) -> FitPlan:
    path = tmp_path / "plan.toml"
    write_plan(plan, path)
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return read_plan(path)


@pytest.mark.parametrize(
    "edit",
    [
        ('thaw = "last:2"', 'thaw = "last:3"'),
        ('rung = "layer4.0"', 'rung = "layer3.0"'),
        ('adds = ["', 'adds = ["conv1.weight", "'),
    ],
)
def test_stages_that_are_not_those_of_the_thaw_setting(
    data: Dataset, backbone: Backbone, tmp_path: Path, edit: tuple[str, str]
) -> None:
    made = tl.plan(data, backbone, thaw="last:2")
    edit = (edit[0].replace("layer4.0", made.stages[0].rung), edit[1])
    plan = edited(made, tmp_path, edit)
    with pytest.raises(
        UsageError, match=r"stages of the plan must be those of its thaw setting last:. in .*Delete \[\["
    ):
        settle(plan, Ground.of(data, plan), backbone)


def test_what_may_be_edited(data: Dataset, backbone: Backbone, tmp_path: Path) -> None:
    made = tl.plan(data, backbone, thaw="last:2")
    (stage,) = made.stages
    plan = edited(
        made,
        tmp_path,
        (f"\nepochs = {stage.epochs}", "\nepochs = 3"),
        (f"joint_epochs = {stage.joint_epochs}", "joint_epochs = 0"),
        (f"views = {stage.views}", "views = 0"),
        ("mixup = 0.0", "mixup = 0.3"),
    )
    settled = settle(plan, Ground.of(data, plan), backbone)
    assert settled == plan
    (stage,) = settled.stages
    assert (stage.epochs, stage.joint_epochs, stage.views) == (3, 0, 0)
    assert settled.training is not None
    assert settled.training.mixup == 0.3


def test_deleted_stages_are_made_again_and_the_settings_stay(data: Dataset, backbone: Backbone, tmp_path: Path) -> None:
    made = tl.plan(data, backbone, thaw="last:2", training={"lr": 0.5})
    plan = edited(made, tmp_path, ('thaw = "last:2"', 'thaw = "last:3"')).changed(stages=())
    settled = settle(plan, Ground.of(data, plan), backbone)
    assert settled.training == made.training
    assert [stage.thaw for stage in settled.stages] == ["last:3"]


def test_deleted_settings_are_made_again(data: Dataset, backbone: Backbone) -> None:
    made = tl.plan(data, backbone, thaw="last:2")
    assert settle(made.changed(training=None), Ground.of(data, made), backbone) == made


def test_a_few_settings_are_completed(data: Dataset, backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(f'model = "{backbone.name}"\nthaw = "last:2"\n[training]\nmixup = 0.25\n')
    read = read_plan(tmp_path / "plan.toml")
    settled = settle(read, Ground.of(data, read), backbone)
    assert settled.training == tl.plan(data, backbone, thaw="last:2", training={"mixup": 0.25}).training


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            {"thaw": "none", "training": {"lr": 0.1, "epochs": 3}},
            r"settings of training \(lr, epochs\) must have something to train",
        ),
        ({"thaw": "last:2", "training": {"momentom": 0.5}}, r"momentom: no such setting. Did you mean 'momentum'"),
        ({"thaw": "last:2", "training": {"lr": -1}}, r"training.lr: .*greater than 0, got -1 \(the settings given\)"),
        ({"thaw": "last:2", "training": {"lr": -1, "batch_size": 0}}, r"lr: .*; training.batch_size: "),
        ({"thaw": "last:2", "training": {"mixup": 1, "cutmix": 1}}, r"mixup and cutmix cannot both be on"),
        ({"thaw": "last:2", "training": {"epochs": 0}}, r"epochs: .*greater than or equal to 1, got 0"),
        ({"thaw": "last:2", "training": {"epochs": "many"}}, r"epochs: .*valid integer.*got 'many'"),
        ({"thaw": "last:2", "training": {"views": -1}}, r"views: .*greater than or equal to 0, got -1"),
        ({"head": "mlp", "training": {"views": -1}}, r"views: .*greater than or equal to 0, got -1"),
        (
            {"thaw": "last:2", "layer": "layer3.0,pooled"},
            r"layer must be one layer if something is thawed; got 'layer3",
        ),
        ({"thaw": "last:0"}, "last:0"),
        ({"thaw": "stage:layer5"}, r"layer5.*Did you mean"),
        ({"thaw": "lst:2"}, "thaw"),
        ({"thaw": "progressive", "fractions": (0.8, 0.0, 0.2)}, r"thaw progressive must have a validation set"),
    ],
)
def test_what_is_refused(data: Dataset, backbone: Backbone, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        tl.plan(data, backbone, **asked)
    assert "\n" not in str(caught.value)


def test_a_plan_that_trains_nothing_brings_no_settings(data: Dataset, backbone: Backbone, tmp_path: Path) -> None:
    made = tl.plan(data, backbone, thaw="last:2")
    plan = edited(made, tmp_path, ('thaw = "last:2"', 'thaw = "none"'))
    with pytest.raises(UsageError, match=r"plan must have no \[training\] and no \[\[stages\]\] if nothing is trained"):
        settle(plan, Ground.of(data, plan), backbone)


def test_vectors_of_words_learn_as_fast_as_a_head() -> None:
    data = text_dataset(60)
    words = tl.plan(data, tl.open_backbone("embedded/words"), thaw="all")
    assert words.training is not None and words.training.lr == 1e-3
    encoder = tl.plan(data, toy_encoder(), thaw="all")
    assert encoder.training is not None and encoder.training.lr == TEXT_LR
