"""Likeness to the source: each measure against its null, monotone and stable; and what they say together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.providers.timm_import import import_timm
from thawline.data import subset
from thawline.data.digits import open_digits
from thawline.errors import DataError, ModelError, UsageError
from thawline.heads import judge_depths
from thawline.inputs.image.tensors import Normalise
from thawline.planning.depth_profile import DepthProfile, depth_profile
from thawline.planning.distances import Distance, by_chance, halvings
from thawline.planning.norm_shift import NormInputs, NormShift, norm_shift
from thawline.planning.observing import draw_pictures, observe
from thawline.planning.reference_moments import (
    ReferenceMoments,
    frechet,
    measure_moments,
    moments_path,
    read_moments,
    write_moments,
)
from thawline.planning.scenarios import look_up, scenario
from thawline.planning.similarity import REFERENCE_SIMILAR, SHIFT_SIMILAR, measure_similarity, read_similarity
from thawline.planning.size import measure_size
from thawline.planning.source_head import SourceHead, read_source_head, source_confidence
from thawline.records import Dataset

Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tl.open_backbone()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_digits(12)


def source(n: int, channels: int = 12, *, seed: int = 0, shift: float = 0.0, spread: float = 1.0) -> NormInputs:
    """One layer's inputs, of pictures of 5 x 5 positions that differ from each other, and statistics that fit."""
    rng = np.random.default_rng(seed)
    between, within = rng.standard_normal((n, channels, 1)), rng.standard_normal((n, channels, 25))
    values = 3 + shift + spread * (0.6 * between + 0.8 * within)  # variance 0.36 + 0.64 = 1
    means, squares = values.mean(axis=2), np.square(values).mean(axis=2)
    return NormInputs(f"bn{seed}", means, squares, np.full(channels, 3.0), np.ones(channels))


def test_chance_between_halves_foretells_chance_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values, null = [], []
    for seed in range(300):
        sample = rng.standard_normal(11)
        halves = [(sample[a].mean() - sample[b].mean()) ** 2 for a, b in halvings(11, seed)]
        values.append(sample.mean() ** 2)
        null.append(by_chance(halves, 11))
    assert np.mean(null) == pytest.approx(1 / 11, rel=0.1)
    assert np.mean(values) == pytest.approx(np.mean(null), rel=0.2)
    assert Distance(0.1, 0.3).excess == 0


def test_halves_are_two_and_share_nothing() -> None:
    for one, other in halvings(9, 0):
        assert sorted([*one, *other]) == list(range(9))
        assert (len(one), len(other)) == (4, 5)
    with pytest.raises(ValueError, match="at least 2 to be halved; got 1"):
        halvings(1, 0)


def test_norm_shift_is_its_formula() -> None:
    layer = source(30, shift=0.7, spread=1.3)
    mean = layer.means.mean(axis=0)
    deviation = np.sqrt(layer.squares.mean(axis=0) - mean**2)
    shift = norm_shift([layer])
    assert shift.overall.value == pytest.approx(np.mean((mean - 3) ** 2 + (deviation - 1) ** 2))
    assert shift.early == shift.middle == shift.late == shift.overall
    assert shift.layers == ((layer.name, shift.overall),)


def test_norm_shift_of_the_source_is_what_chance_explains() -> None:
    home = [norm_shift([source(24, 200, seed=seed)]).overall for seed in range(5)]
    assert np.mean([shift.value for shift in home]) == pytest.approx(np.mean([shift.null for shift in home]), rel=0.25)
    assert all(shift.excess < 0.01 < shift.value for shift in home)


def test_norm_shift_grows_with_severity_and_hardly_moves_with_the_sample() -> None:
    by_severity = [norm_shift([source(48, 50, shift=s)]).overall.excess for s in (0, 0.25, 0.5, 1)]
    assert by_severity == sorted(by_severity)
    assert by_severity[2:] == pytest.approx([0.25, 1.0], abs=0.03)
    by_size = [norm_shift([source(n, 50, seed=n, shift=0.5)]).overall.excess for n in (16, 64, 256)]
    assert by_size == pytest.approx([0.25] * 3, abs=0.04)


def test_thirds_of_the_depth() -> None:
    shifts = norm_shift([source(40, shift=s) for s in (1, 1, 0.5, 0.5, 0, 0)])
    values = [distance.excess for distance in (shifts.early, shifts.middle, shifts.late)]
    assert values == pytest.approx([1, 0.25, 0], abs=0.15)
    assert shifts.overall.value == pytest.approx(np.mean([shift.value for _, shift in shifts.layers]))
    with pytest.raises(ValueError, match="at least one; got none"):
        norm_shift([])


def told_apart_early(n: int = 120, *, early: float, late: float) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    centres = rng.standard_normal((3, 20))[labels]
    depths = [(rng.standard_normal((n, 20)) + apart * centres).astype(np.float32) for apart in (early, 0.2, late)]
    return depths, labels


@pytest.mark.parametrize(("early", "late", "reading"), [(2.0, 0.3, "different"), (0.3, 2.0, "similar")])
def test_depth_profile(early: float, late: float, reading: str) -> None:
    values, labels = told_apart_early(early=early, late=late)
    fitted = judge_depths(values, labels, 3)
    profile = depth_profile(fitted, labels, ["one", "two", "three"])
    assert profile is not None
    assert profile.names[profile.best] == ("one" if early > late else "three")
    errors = [float(np.mean(p.held_out_logits.argmax(axis=1) != labels)) for p in fitted]
    assert profile.errors == pytest.approx(errors, abs=0.03)  # but for the shares of classes that are put back
    assert profile.saved_ci95[0] <= profile.saved <= profile.saved_ci95[1]
    assert read_similarity(depth_profile=profile).readings == {"depth_profile": reading}
    if early > late:
        assert profile.gap == pytest.approx(1 - errors[0] / errors[2], abs=0.1)


def test_a_depth_that_is_best_by_luck_saves_nothing() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100)
    saved, apparent = [], []
    for _ in range(12):
        values = [rng.standard_normal((100, 8)).astype(np.float32) for _ in range(8)]
        profile = depth_profile(judge_depths(values, labels, 2), labels, [str(i) for i in range(8)])
        assert profile is not None
        saved.append(profile.saved)
        apparent.append(profile.errors[-1] - min(profile.errors))
    assert np.mean(apparent) > 0.05
    assert abs(np.mean(saved)) < 0.03


def test_depth_profile_without_errors_or_without_anything_left_out() -> None:
    values, labels = told_apart_early(early=20, late=20)
    profile = depth_profile(judge_depths(values, labels, 3), labels, ["one", "two", "three"])
    assert profile is not None
    assert (profile.errors[-1], profile.gap, profile.gap_ci95) == (0, 0, (0, 0))
    one_group = np.zeros(120)
    assert depth_profile(judge_depths(values, labels, 3, groups=one_group), labels, "abc", groups=one_group) is None
    with pytest.raises(DataError, match="one for each of 3 depths; got 2"):
        depth_profile(judge_depths(values, labels, 3), labels, ["one", "two"])
    with pytest.raises(DataError, match="lengths differ"):
        depth_profile(judge_depths(values, labels, 3), labels[1:], ["one", "two", "three"])


def test_frechet_is_zero_at_home_and_grows_with_severity() -> None:
    rng = np.random.default_rng(0)
    spread = 1 / np.sqrt(1 + np.arange(100))
    moments = measure_moments({"pooled": rng.standard_normal((5000, 100)) * spread + 2}, "made up").rungs["pooled"]
    assert moments.basis.shape == (64, 100)
    assert moments.basis @ moments.basis.T == pytest.approx(np.eye(64), abs=1e-9)
    home = frechet(rng.standard_normal((64, 100)) * spread + 2, moments)
    assert home.value == pytest.approx(home.null, rel=0.35)
    assert home.excess < 0.1 < home.value
    direction = moments.basis[0] * np.sqrt(moments.variance.sum())
    moved = [
        frechet(rng.standard_normal((400, 100)) * spread + 2 + step * direction, moments).excess
        for step in (0, 0.5, 1, 2)
    ]
    assert moved == pytest.approx([0, 0.25, 1, 4], abs=0.25)
    with pytest.raises(ValueError, match=r"must be \(N, 100\) with N >= 4; got \(3, 100\)"):
        frechet(np.zeros((3, 100)), moments)
    with pytest.raises(ValueError, match="at least 2 pictures; got 1"):
        measure_moments({"pooled": np.zeros((1, 3))}, "made up")


def test_confidence_is_computed_from_logits() -> None:
    logits = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, np.log(3)], [0.0, 0.0]])
    confidence = source_confidence(logits)
    assert confidence.energy == pytest.approx(-(np.log(2) + 1000 + np.log(4) + np.log(2)) / 4)
    assert confidence.max_softmax == pytest.approx((0.5 + 1 + 0.75 + 0.5) / 4)
    assert confidence.energy_between_halves > 100
    same = source_confidence(np.ones((6, 3)))
    assert (same.energy_between_halves, same.max_softmax_between_halves) == (0, 0)


def test_source_head_answers_as_the_whole_model_does(backbone: Backbone, digits: Dataset) -> None:
    pictures = draw_pictures(digits, np.arange(len(digits)), backbone, 8)
    pooled = observe(backbone, pictures).features["pooled"]
    head = read_source_head(backbone)
    assert isinstance(head, SourceHead)
    whole = import_timm().create_model("resnet18", num_classes=200, **backbone.model_args).eval()
    whole.load_state_dict({name: tensor.float() for name, tensor in load_file(backbone.tensors.path).items()})
    with torch.inference_mode():
        expected = whole(Normalise(backbone.preparation, torch.device("cpu"))(torch.from_numpy(pictures)))
    assert head.logits(pooled) == pytest.approx(expected.numpy(), abs=1e-4)


def test_observing_takes_the_moments_that_come_in_and_leaves_nothing_behind(
    backbone: Backbone, digits: Dataset
) -> None:
    pictures = draw_pictures(digits, np.arange(len(digits)), backbone, 20)
    hooks = sum(len(layer._forward_pre_hooks) for layer in backbone.module().modules())
    seen = observe(backbone, pictures, ["layer1.0", "pooled"])
    module = backbone.module()
    assert sum(len(layer._forward_pre_hooks) for layer in module.modules()) == hooks
    assert backbone.receipt("watched").ran
    norms = {name for name, layer in module.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)}
    assert {layer.name for layer in seen.norms} == norms
    assert seen.norms[0].name == "bn1"
    with torch.inference_mode():
        images = Normalise(backbone.preparation, torch.device("cpu"))(torch.from_numpy(pictures))
        into_first = module.get_submodule("conv1")(images)
    assert seen.norms[0].means == pytest.approx(into_first.mean((2, 3)).numpy(), abs=1e-4)
    assert seen.norms[0].squares == pytest.approx(into_first.square().mean((2, 3)).numpy(), rel=1e-4, abs=1e-6)
    stem = module.get_submodule("bn1")
    assert seen.norms[0].source_var == pytest.approx(stem.running_var.numpy() + stem.eps, rel=1e-6)
    assert {rung: values.shape for rung, values in seen.features.items()} == {"layer1.0": (20, 32), "pooled": (20, 256)}


def test_one_picture_of_each_group_is_drawn(backbone: Backbone, digits: Dataset) -> None:
    grouped = tl.open_data(
        np.repeat(np.arange(40, dtype=np.uint8), 64).reshape(40, 8, 8) * 6 + np.eye(8, dtype=np.uint8),
        np.arange(40) % 2,
        groups=np.arange(40) // 4,
    )
    n_groups = len(np.unique(grouped.groups))
    assert len(draw_pictures(grouped, np.arange(40), backbone, 64)) == n_groups
    assert 3 < n_groups <= 10
    assert len(draw_pictures(digits, np.arange(9), backbone, 64)) == 9
    one, other = (draw_pictures(digits, np.arange(100), backbone, 10, seed=seed) for seed in (0, 1))
    assert one.shape == other.shape == (10, *backbone.preparation.input_px, 3)
    assert not np.array_equal(one, other)


def test_digits_are_far_from_photographs(backbone: Backbone, digits: Dataset) -> None:
    report = measure_similarity(backbone, digits)
    assert report.reading == "different"
    assert report.readings == {"norm_shift": "different", "reference": "different"}
    assert report.missing == {"depth_profile": "no probes were fitted on several depths, or nothing could be left out"}
    assert report.norm_shift is not None
    assert report.reference is not None
    assert list(report.reference) == ["act1", "layer1.1", "layer2.1", "layer3.1", "pooled"]
    assert report.source_confidence is not None
    assert report.source_confidence.n_classes == 200
    for words in ("look different", "says little without source pictures", "rules of thumb"):
        assert words in report.words
    again = json.loads(json.dumps(report.to_json()))
    assert again["norm_shift"]["early"]["excess"] == report.norm_shift.early.excess
    few = measure_similarity(backbone, digits, n_pictures=16, seed=1)
    assert few.norm_shift is not None
    assert few.norm_shift.overall.excess == pytest.approx(report.norm_shift.overall.excess, rel=0.15)


def test_too_few_pictures(backbone: Backbone, digits: Dataset) -> None:
    report = measure_similarity(backbone, digits, [0, 1, 2])
    assert (report.reading, report.norm_shift, report.reference) == ("unclear", None, None)
    assert "3 independent pictures are too few; 8 are needed" in report.missing["norm_shift"]
    assert "Nothing could be measured" in report.words
    with pytest.raises(UsageError, match="n_pictures must be at least 8; got 7"):
        measure_similarity(backbone, digits, n_pictures=7)


def test_a_model_without_batch_norm_classifier_or_moments(tmp_path: Path, digits: Dataset) -> None:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    model = import_timm().create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **arguments)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    name = f"timm/vit_tiny_patch16_224@{tmp_path / 'vit.safetensors'}"
    report = measure_similarity(tl.open_backbone(name, model_args=arguments, input_px=32), digits, n_pictures=8)
    assert (report.reading, report.readings, report.norm_shift) == ("unclear", {}, None)
    assert "no batch norm" in report.missing["norm_shift"]
    assert "without the classifier" in report.missing["source_confidence"]
    assert report.missing["reference"] == "no moments of source samples come with these weights"


def test_moments_belong_to_their_weights(backbone: Backbone, tmp_path: Path) -> None:
    shipped = read_moments(backbone)
    assert isinstance(shipped, ReferenceMoments)
    assert (shipped.n, shipped.source) == (6000, "6,000 training pictures of Tiny ImageNet")
    weights = shutil.copy(backbone.tensors.path, tmp_path / "mine.safetensors")
    name = f"timm/resnet18@{weights}"
    assert read_moments(tl.open_backbone(name)) == "no moments of source samples come with these weights"
    shutil.copy(moments_path(backbone.tensors.path), moments_path(Path(weights)))
    assert isinstance(read_moments(tl.open_backbone(name)), ReferenceMoments)
    refused = "mine.moments.safetensors was made with other weights or another preparation"
    assert read_moments(tl.open_backbone(name, input_px=64)) == refused
    changed = load_file(weights) | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.float16)}
    save_file(changed, weights, {"architecture": "resnet18"})
    assert read_moments(tl.open_backbone(name)) == refused
    moments_path(Path(weights)).write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match=r"moments must be as write_moments leaves them.*Delete the file"):
        read_moments(tl.open_backbone(name))


def test_moments_come_back_from_their_file(backbone: Backbone, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 7))
    moments = measure_moments({"late": values, "early": values[:, :3]}, "made up")
    weights = shutil.copy(backbone.tensors.path, tmp_path / "w.safetensors")
    mine = tl.open_backbone(f"timm/resnet18@{weights}")
    write_moments(moments_path(Path(weights)), moments, mine)
    again = read_moments(mine)
    assert isinstance(again, ReferenceMoments)
    assert (list(again.rungs), again.n, again.source) == (["late", "early"], 50, "made up")
    for rung, own in moments.rungs.items():
        assert again.rungs[rung].mean == pytest.approx(own.mean, rel=1e-6)
        assert again.rungs[rung].basis == pytest.approx(own.basis, abs=1e-3)
        assert again.rungs[rung].variance == pytest.approx(own.variance, rel=1e-6)


def shift_of(early: float, late: float) -> NormShift:
    overall = Distance((early + late) / 2, 0.0)
    return NormShift(
        layers=(), early=Distance(early, 0.0), middle=overall, late=Distance(late, 0.0), overall=overall, n=64
    )


def profile_of(saved: float, half: float) -> DepthProfile:
    return DepthProfile(
        names=("early", "late"), errors=(0.3 - saved, 0.3), best=0, saved=saved,
        saved_ci95=(saved - half, saved + half), n=200,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shift", "saved", "distance", "reading"),
    [
        (0.05, None, None, "unclear"),  # none alone decides
        (0.9, None, None, "unclear"),
        (0.05, 0.0, None, "similar"),
        (0.05, None, 0.1, "similar"),
        (0.9, 0.1, None, "different"),
        (0.9, 0.0, None, "unclear"),  # one against one
        (0.9, 0.0, 2.0, "different"),  # two against one
        (0.05, 0.0, 2.0, "similar"),
        (0.2, 0.0, 2.0, "unclear"),
        (0.05, 0.1, 0.7, "unclear"),
    ],
)
def test_two_measures_must_agree(shift: float, saved: float | None, distance: float | None, reading: str) -> None:
    report = read_similarity(
        norm_shift=shift_of(shift, shift),
        depth_profile=None if saved is None else profile_of(saved, 0.015),
        reference=None if distance is None else {"pooled": Distance(distance + 0.1, 0.1)},
    )
    assert report.reading == reading


def test_what_chance_explains_is_not_read() -> None:
    by_luck = Distance(SHIFT_SIMILAR + 0.05, 0.06)
    shift = replace(shift_of(0.0, 0.0), overall=by_luck)
    report = read_similarity(norm_shift=shift, reference={"pooled": Distance(REFERENCE_SIMILAR + 0.2, 0.3)})
    assert report.readings == {"norm_shift": "similar", "reference": "similar"}


def test_a_gap_that_is_not_sure_is_unclear() -> None:
    assert read_similarity(depth_profile=profile_of(0.1, 0.2)).readings["depth_profile"] == "unclear"


@pytest.mark.parametrize(("early", "late", "early_only"), [(0.9, 0.1, True), (0.9, 0.5, False), (0.05, 0.0, False)])
def test_where_the_shift_is(early: float, late: float, early_only: bool) -> None:
    assert read_similarity(norm_shift=shift_of(early, late)).shifts_early is early_only


def test_the_map_of_the_guides() -> None:
    assert look_up("small", "similar").first_arm == "last-layer linear"
    assert look_up("small", "different").then == ("freeze first part",)
    assert look_up("small", "different", shifts_early=True).then == ("freeze first part", "thaw first block")
    assert look_up("large", "similar").first_arm == "thaw all"
    assert look_up("large", "different").then == ("from scratch",)
    unclear = look_up("small", "unclear")
    assert (unclear.name, unclear.first_arm) == ("small, unclear", "last-layer linear")
    assert set(unclear.then) == {"all-depth linear", "thaw last block", "freeze first part"}
    nothing_known = look_up("between", "unclear", shifts_early=True)
    assert nothing_known.name == "unclear, unclear"
    assert {nothing_known.first_arm, *nothing_known.then} == {
        "last-layer linear", "all-depth linear", "thaw last block", "freeze first part", "thaw first block",
        "thaw last half", "thaw all", "from scratch",
    }  # fmt: skip
    assert "Measuring may overrule them" in nothing_known.words


def test_scenario_of_two_reports() -> None:
    values = np.random.default_rng(0).standard_normal((40, 5))
    size = measure_size(values, np.arange(40) % 2, 2)
    assert scenario(size).name == "small, unclear"
    report = read_similarity(norm_shift=shift_of(0.9, 0.1), reference={"pooled": Distance(2.0, 0.1)})
    found = scenario(size, report)
    assert (found.name, found.then) == ("small, different", ("freeze first part", "thaw first block"))
    assert json.loads(json.dumps(found.to_json()))["first_arm"] == "all-depth linear"


def corrupted(pictures: Pictures, noise: float, *, inverted: bool = False) -> Pictures:
    values = (255.0 - pictures) if inverted else pictures.astype(float)
    values = values + np.random.default_rng(0).normal(0, noise, pictures.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def test_source_pictures_are_similar_and_severity_is_monotone(real_data: Path, backbone: Backbone) -> None:
    data = tl.open_data(real_data / "tiny_imagenet" / "test.parquet")
    report = measure_similarity(backbone, subset(data, np.arange(0, len(data), 50)))
    assert report.readings == {"norm_shift": "similar", "reference": "similar"}
    moments = read_moments(backbone)
    assert isinstance(moments, ReferenceMoments)
    pictures = draw_pictures(data, np.arange(len(data)), backbone, 48)
    shifts, distances = [], []
    for noise in (0, 15, 30, 60):
        seen = observe(backbone, corrupted(pictures, noise), list(moments.rungs))
        shifts.append(norm_shift(seen.norms).overall.excess)
        distances.append(np.mean([frechet(seen.features[rung], m).excess for rung, m in moments.rungs.items()]))
    assert shifts == sorted(shifts)
    assert distances == sorted(distances)
    assert shifts[0] < 0.02
    assert distances[0] < 0.1
    inverted = observe(backbone, corrupted(pictures, 0, inverted=True), list(moments.rungs))
    assert norm_shift(inverted.norms).overall.excess > 5 * shifts[0]
