"""What the first batch norm tells of a preparation, alone and with the user's pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.planning.stem_fixtures import BYTES, HALF, SOURCE, convolved, pictures, stem_for

from thawline.planning.source_memory import (
    IMAGENET,
    USUAL,
    ColourMap,
    Normalisation,
    Stem,
    normalisation_of,
    photographs,
    recall,
)
from thawline.planning.stem_check import blue_first, cure, distance, judge, patches_of

GREY = np.full((3, 3), 1 / 3)


@pytest.mark.parametrize("given", [SOURCE, HALF, BYTES, replace(SOURCE, swapped=True)])
def test_the_distance_is_that_of_running_the_layer(given: Normalisation) -> None:
    stem = stem_for(SOURCE, bias=True)
    shown = pictures(24, seed=3)
    mean, variance = convolved(stem, shown, given)
    shift = np.minimum((mean - stem.mean) ** 2 / stem.variance, 9)
    scale = np.minimum((0.5 * np.log(variance / stem.variance)) ** 2, 9)
    found = distance(stem, patches_of(shown, 3, 3), given.colours)
    assert found == pytest.approx(np.mean(shift + scale), rel=0.06, abs=0.01)


@pytest.mark.parametrize("trained", [SOURCE, HALF, BYTES, replace(HALF, swapped=True)])
def test_the_mean_input_of_the_source_is_read_off(trained: Normalisation) -> None:
    seen = pictures(64, seed=9)
    memory = recall(stem_for(trained, bias=True, seen=seen))
    pixel = seen.mean((0, 1, 2)) / 255
    expected = trained.colours.matrix @ pixel + trained.colours.offset
    assert memory is not None
    assert memory.mean == pytest.approx(expected, abs=0.03 / min(trained.std))
    reading = memory.read(trained.colours)
    assert reading.colour == pytest.approx(255 * pixel, abs=6)
    assert reading.contrast == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("trained", USUAL)
def test_the_right_preparation_agrees_and_every_other_is_wrong(trained: Normalisation) -> None:
    stem = stem_for(trained)
    right = judge(stem, trained.colours)
    assert right is not None and right.verdict == "agrees"
    for taken in USUAL:
        if taken != trained:
            finding = judge(stem, taken.colours)
            assert finding is not None and finding.verdict == "wrong", taken
            assert finding.best == trained


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,) * 3, (0.5,) * 3), ((0.75,) * 3, (0.25,) * 3)], ids=["mean 0", "twice"]
)
def test_unusual_preparations_are_wrong_too(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    finding = judge(stem_for(HALF), Normalisation(mean, std).colours)
    assert finding is not None and finding.verdict == "wrong" and finding.best == HALF


def test_colours_that_get_lost_on_the_way_are_missed() -> None:
    given = ColourMap(HALF.colours.matrix @ GREY, HALF.colours.offset)
    assert given.drops_colour and not HALF.colours.drops_colour
    finding = judge(stem_for(HALF), given)
    assert finding is not None and finding.verdict == "wrong" and finding.best == HALF
    one_channel = ColourMap(np.full((1, 3), 1 / 3), np.zeros(1))
    assert one_channel.drops_colour


def test_what_the_model_does_itself_is_undone_by_the_cure() -> None:
    own = ColourMap(np.diag([2.0, 2, 2]), np.full(3, -1.0))  # a layer that takes 0 to 1 to -1 to 1
    stem = replace(stem_for(HALF), own=own)
    finding = judge(stem, own.after(HALF.colours))
    assert finding is not None and finding.best == HALF
    needed = cure(stem, finding)
    assert needed is not None and not needed.swapped
    assert needed.mean == pytest.approx((0, 0, 0), abs=1e-9) and needed.std == pytest.approx((1, 1, 1))
    flips = replace(stem, own=ColourMap(np.eye(3)[::-1].copy(), np.zeros(3)))
    turned = cure(flips, finding)
    assert turned is not None and turned.swapped
    grey = replace(stem, own=ColourMap(GREY, np.zeros(3)))
    assert cure(grey, finding) is None


def test_a_colour_map_is_put_into_the_words_of_the_options() -> None:
    for one in USUAL:
        found = normalisation_of(one.colours)
        assert found is not None and found.swapped == one.swapped
        assert found.mean == pytest.approx(one.mean) and found.std == pytest.approx(one.std)
    assert normalisation_of(ColourMap(GREY, np.zeros(3))) is None
    assert normalisation_of(ColourMap(-np.eye(3), np.zeros(3))) is None


@pytest.mark.parametrize("changed", [
    {"mean": np.zeros(24), "variance": np.ones(24)},
    {"mean": np.random.default_rng(0).normal(0, 5, 24)},
    {"variance": np.zeros(24)},
], ids=["never trained", "not of this layer", "dead"])  # fmt: skip
def test_statistics_that_no_pictures_explain_say_nothing(changed: dict[str, np.ndarray]) -> None:
    assert judge(replace(stem_for(SOURCE), **changed), HALF.colours) is None


def test_filters_that_are_off_do_not_count() -> None:
    stem = stem_for(HALF)
    weight, variance = stem.weight.copy(), stem.variance.copy()
    weight[:10] *= 1e-5
    variance[:10] *= 1e-4  # not what the weights give: a scale that would be far off
    finding = judge(replace(stem, weight=weight, variance=variance), HALF.colours)
    assert finding is not None and finding.verdict == "agrees"


DARK = lambda shown: (0.25 * shown).astype(np.uint8)  # noqa: E731


def test_weights_of_another_source_are_judged_by_pictures_like_it() -> None:
    """As weights trained on scans: photographs explain no preparation, the pictures of the user do."""
    stem = stem_for(SOURCE, seen=DARK(pictures(64, seed=9)))
    patches = patches_of(DARK(pictures(24, seed=3)), 3, 3)
    for taken in (SOURCE, BYTES):
        alone = judge(stem, taken.colours)
        assert alone is not None and alone.verdict == "untold"
    right, wrong = (judge(stem, taken.colours, patches) for taken in (SOURCE, BYTES))
    assert right is not None and right.verdict == "untold"
    assert wrong is not None and wrong.verdict == "wrong" and wrong.best == SOURCE and wrong.reading is None


def test_pictures_like_the_source_speak_for_the_preparation_that_is_given() -> None:
    """As weights trained on pictures taken from the air, which are bluish."""
    bluish = pictures(64, seed=9)[..., ::-1].copy()
    stem = stem_for(SOURCE, seen=bluish)
    alone = judge(stem, SOURCE.colours)
    assert alone is not None and alone.verdict == "wrong" and alone.best == replace(SOURCE, swapped=True)
    with_them = judge(stem, SOURCE.colours, patches_of(pictures(24, seed=3)[..., ::-1].copy(), 3, 3))
    assert with_them is not None and with_them.verdict == "untold"


@pytest.mark.parametrize(
    "changed",
    [
        lambda p: 255 - p,
        lambda p: np.repeat(p.mean(-1, keepdims=True), 3, -1).astype(np.uint8),
        lambda p: np.clip(p + np.random.default_rng(0).normal(0, 40, p.shape), 0, 255).astype(np.uint8),
        DARK,
        lambda p: np.full_like(p, 2),
    ],
    ids=["inverted", "grey", "noisy", "dark", "plain"],
)
def test_pictures_unlike_the_source_change_no_verdict(changed: Callable[[np.ndarray], np.ndarray]) -> None:
    patches = patches_of(changed(pictures(24, seed=3)), 3, 3)
    for trained in (SOURCE, HALF, BYTES):
        for taken in (SOURCE, HALF, BYTES):
            finding = judge(stem_for(trained), taken.colours, patches)
            assert finding is not None and finding.verdict == ("agrees" if taken == trained else "wrong")


def test_blue_first_is_seen_in_the_pictures() -> None:
    memory, bluish = recall(stem_for(HALF)), recall(stem_for(replace(HALF, swapped=True)))
    assert memory is not None and bluish is not None
    shown = pictures(24, seed=3).mean(axis=(0, 1, 2))
    assert not blue_first(memory.read(HALF.colours), shown)
    assert blue_first(memory.read(HALF.colours), shown[::-1])
    assert not blue_first(memory.read(HALF.colours), np.sort(shown).mean() * np.ones(3)), "grey"
    assert not blue_first(bluish.read(HALF.colours), shown[::-1]), "as the source was"


def test_photographs_are_correlated_as_their_pixels_are() -> None:
    mean, covariance = photographs(2, 3)
    assert mean.shape == (18,) and covariance.shape == (18, 18)
    assert mean.reshape(3, 6)[:, 0] == pytest.approx(IMAGENET[0])
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.diag(covariance)[[0, 6, 12]] == pytest.approx([0.0805, 0.0764, 0.0839], abs=1e-3)


def test_a_stem_of_one_channel_is_read() -> None:
    rng = np.random.default_rng(5)
    weight, shown = rng.normal(0, 0.3, (24, 1, 3, 3)), pictures(64, seed=9)
    grey = np.full((1, 3), 1 / 3)
    stem = Stem("conv", "bn1", weight, np.zeros(24), np.zeros(24), np.ones(24))
    filters, _ = stem.on_pixels(ColourMap(grey, np.zeros(1)))
    patches = patches_of(shown, 3, 3)
    variance = np.einsum("oi,ij,oj->o", filters, patches.covariance, filters)
    finding = judge(replace(stem, mean=filters @ patches.mean, variance=variance), ColourMap(grey, np.zeros(1)))
    assert finding is not None and finding.verdict == "agrees"
