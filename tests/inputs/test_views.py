"""Views are what torchvision would have drawn, owned by their seeds; the view None is what a prediction sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

import thawline.inputs.image.decode
import thawline.inputs.image.views
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import UndecodableError, UsageError
from thawline.inputs.image.decode import open_picture, prepare
from thawline.inputs.image.views import Augmentation, Views, prepare_views
from thawline.randomness import derived_seed, generator
from thawline.records import ImagePreparation

PLAIN = ImagePreparation(input_px=(48, 64), resize_px=72, mean=(0.5,) * 3, std=(0.5,) * 3)
NEAREST = replace(PLAIN, interpolation="nearest")
CROP_ONLY = Augmentation(flip=False)


def coordinates(width: int, height: int) -> np.ndarray:
    """Pixels that say where they are: red is the column, green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return pixels


def torchvision_box(
    monkeypatch: pytest.MonkeyPatch, image: Image.Image, augmentation: Augmentation, seed: int
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom that torchvision takes from the draws of a seed."""
    import_timm()
    from torchvision.transforms import RandomResizedCrop

    crop = generator(seed, "view").random(22).tolist()
    shares, places = iter(crop[:20]), iter(crop[20:])

    def uniform(_tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        low, high = float(low), float(high)
        return torch.tensor([low + (high - low) * next(shares)], dtype=torch.float64)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "uniform_", uniform)
        patch.setattr(torch, "randint", lambda low, high, size: torch.tensor([int(low + (high - low) * next(places))]))
        top, left, h, w = RandomResizedCrop.get_params(image, augmentation.crop_scale, augmentation.crop_ratio)
    return left, top, left + w, top + h


AUGMENTATIONS = [
    CROP_ONLY,
    Augmentation(flip=False, crop_scale=(0.05, 0.3)),
    Augmentation(flip=False, crop_scale=(0.3, 1.0), crop_ratio=(0.2, 0.5)),
    Augmentation(flip=False, crop_ratio=(1.0, 1.0)),
]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["default", "small", "narrow", "square"])
@pytest.mark.parametrize("size", [(200, 150), (64, 48), (20, 90), (7, 5), (200, 3), (2, 250), (1, 1)])
def test_the_crop_is_the_one_that_torchvision_takes(monkeypatch, size, augmentation):
    image = Image.fromarray(coordinates(*size))
    for seed in range(25):
        box = torchvision_box(monkeypatch, image, augmentation, seed)
        expected = image.resize((64, 48), Image.Resampling.NEAREST, box=box)
        (view,) = prepare_views(np.asarray(image), NEAREST, augmentation, [seed])
        np.testing.assert_array_equal(view, np.asarray(expected))


def test_a_strip_falls_back_to_the_largest_allowed_crop_in_the_centre():
    (view,) = prepare_views(coordinates(250, 30), NEAREST, CROP_ONLY, [0])
    assert (view[..., 0].min(), view[..., 0].max()) == (105, 144), "40 columns, 4/3 of the height"
    assert (view[..., 1].min(), view[..., 1].max()) == (0, 29)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_a_view_is_resized_with_the_filter_of_the_preparation(monkeypatch, photo, interpolation):
    image = photo(0, (300, 200))
    for seed in range(5):
        box = torchvision_box(monkeypatch, image, CROP_ONLY, seed)
        filter = Image.Resampling[interpolation.upper()]
        expected = np.asarray(image.crop(box).resize((64, 48), filter), int)
        (view,) = prepare_views(np.asarray(image), replace(PLAIN, interpolation=interpolation), CROP_ONLY, [seed])
        if interpolation == "lanczos":
            # at its border a view also hears of the pixels just outside, which a crop would have thrown away
            np.testing.assert_array_equal(view[4:-4, 4:-4], expected[4:-4, 4:-4])
            assert np.abs(view - expected).max() < 32
        else:
            assert np.abs(view - expected).max() <= 1
            assert (view != expected).mean() < 0.02


def test_a_large_picture_is_shrunk_faithfully(monkeypatch, photo):
    image = photo(0, (900, 700))
    for seed in range(3):
        box = torchvision_box(monkeypatch, image, CROP_ONLY, seed)
        expected = np.asarray(image.resize((64, 48), Image.Resampling.BICUBIC, box=box), int)
        (view,) = prepare_views(np.asarray(image), PLAIN, CROP_ONLY, [seed])
        difference = np.abs(view - expected)
        # averaged to a half, it is cut at whole pixels of that size
        assert (difference.max() <= 8, difference.mean() < 1) == (True, True), (difference.max(), difference.mean())


def test_view_none_is_what_a_prediction_sees(photo, encode):
    turned = Image.Exif()
    turned[0x0112] = 6
    payloads = [
        encode(photo(1)),
        encode(photo(1), "JPEG", exif=turned),
        encode(photo(1).convert("L")),
        np.asarray(photo(2)),
    ]
    for payload in payloads:
        first, view, last = prepare_views(payload, PLAIN, Augmentation(), [None, 7, None])
        assert first.tobytes() == last.tobytes() == prepare(payload, PLAIN).tobytes()
        assert view.tobytes() != first.tobytes()


def test_views_are_cropped_upright(photo, encode):
    turned = Image.Exif()
    turned[0x0112] = 6
    lying, upright = photo(1), photo(1).transpose(Image.Transpose.ROTATE_270)
    views = [prepare_views(encode(image, **how), PLAIN, CROP_ONLY, [3])[0] for image, how in
             ((lying, {"exif": turned}), (upright, {}))]  # fmt: skip
    np.testing.assert_array_equal(*views)


LARGE = replace(PLAIN, input_px=(24, 32), resize_px=36)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_jpeg_is_decoded_to_a_part_for_views_too(photo, encode, orientation):
    turned = Image.Exif()
    turned[0x0112] = orientation
    data = encode(photo(0, (1203, 901)), "JPEG", quality=95, exif=turned)
    exact = open_picture(data)
    seeds = [None, 1, 2, 3, None]
    views = prepare_views(data, LARGE, CROP_ONLY, seeds)
    assert views[0].tobytes() == views[-1].tobytes() == prepare(data, LARGE).tobytes()
    for view, seed in zip(views[1:-1], seeds[1:-1], strict=True):
        (alone,) = prepare_views(data, LARGE, CROP_ONLY, [seed])
        assert alone.tobytes() == view.tobytes(), "a view depends on its seed alone"
        (expected,) = prepare_views(np.asarray(exact.image), LARGE, CROP_ONLY, [seed])
        off = np.abs(view.astype(int) - expected)
        # the two are cut at pixels of other sizes: the borders differ by up to a third of a pixel of the view
        assert (0 < off.max() <= 12, off.mean() < 1.5) == (True, True), (off.max(), off.mean())


def test_the_smallest_crop_that_can_be_drawn_decides_how_much_is_decoded():
    for size, augmentation in [((1203, 901), CROP_ONLY), ((901, 1203), AUGMENTATIONS[1]), ((1203, 99), CROP_ONLY)]:
        least = thawline.inputs.image.views._shrinking(LARGE, augmentation)(*size)
        boxes = [
            thawline.inputs.image.views._crop_box(size, augmentation, generator(s, "view").random(22))
            for s in range(300)
        ]
        shrunk = min(min(right - left, bottom - top) for left, top, right, bottom in boxes) / 32
        assert 0.9 * shrunk - 0.2 <= least <= shrunk + 1 / 32


def test_the_sample_is_decoded_once(monkeypatch, photo, encode):
    decoded: list[object] = []
    real = thawline.inputs.image.decode.open_picture

    def counting(payload, shrinking, **settings):
        decoded.append(payload)
        return real(payload, shrinking, **settings)

    monkeypatch.setattr(thawline.inputs.image.views, "open_picture", counting)
    assert len(prepare_views(encode(photo(0)), PLAIN, Augmentation(), [None, 1, 2, None])) == 4
    assert len(decoded) == 1


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA", "I;16", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (150, 1), (3, 40), (90, 70)])
def test_every_picture_gives_views(photo, encode, mode, size):
    image = photo(0, size)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    else:
        image = image.convert(mode)
    payload = encode(image, "TIFF")
    for view in prepare_views(payload, PLAIN, Augmentation(colour=0.3), [None, *range(6)]):
        assert (view.shape, view.dtype) == ((48, 64, 3), np.uint8)
        assert view.flags.writeable and view.flags.c_contiguous


def test_a_damaged_sample_is_refused_as_everywhere():
    with pytest.raises(UndecodableError, match="its content is text"):
        prepare_views(b"no picture", PLAIN, Augmentation(), [1])


def test_half_of_the_views_are_mirrored_and_nothing_else_changes(photo):
    payload, seeds = np.asarray(photo(0)), range(400)
    plain = prepare_views(payload, PLAIN, CROP_ONLY, seeds)
    flipped = prepare_views(payload, PLAIN, Augmentation(), seeds)
    mirrored = 0
    for before, after in zip(plain, flipped, strict=True):
        is_mirrored = not np.array_equal(before, after)
        mirrored += is_mirrored
        np.testing.assert_array_equal(after, before[:, ::-1] if is_mirrored else before)
    assert 160 < mirrored < 240, "four standard deviations"


def test_colours_change_by_the_drawn_factors_in_the_drawn_order(photo):
    payload, colour = np.asarray(photo(0)), 0.4
    orders = set()
    for seed in range(30):
        draws = generator(seed, "view")
        draws.random(23)
        factors, order = 1 + draws.uniform(-colour, colour, 3), tuple(draws.permutation(3).tolist())
        (plain,) = prepare_views(payload, PLAIN, Augmentation(), [seed])
        (view,) = prepare_views(payload, PLAIN, Augmentation(colour=colour), [seed])
        expected = Image.fromarray(plain)
        for index in order:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[index]
            expected = enhancer(expected).enhance(factors[index])
        np.testing.assert_array_equal(view, np.asarray(expected))
        orders.add(order)
    assert len(orders) == 6


def test_a_view_depends_on_its_seed_alone(photo, encode):
    payload = encode(photo(0))
    together = prepare_views(payload, PLAIN, Augmentation(), [5, 6, 7])
    alone = [prepare_views(payload, PLAIN, Augmentation(), [seed])[0] for seed in (7, 6, 5)][::-1]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({view.tobytes() for view in together}) == 3


def test_seeds_of_views_and_samples():
    views = Views(augmentation=Augmentation(), seed=11)
    assert views.seed_of(None) is None
    assert views.sample_seed(None, "abc") is None
    assert views.seed_of(2) == derived_seed(11, "view", 2)
    assert views.sample_seed(2, "abc") == derived_seed(derived_seed(11, "view", 2), "abc")
    seeds = {replace(views, seed=s).sample_seed(v, d) for s in (0, 1) for v in range(5) for d in ("abc", "abd")}
    assert len(seeds) == 20


def test_the_digest_tells_settings_apart_and_not_their_spelling():
    changed = ({"crop_scale": (0.5, 1.0)}, {"crop_ratio": (0.5, 2.0)}, {"flip": False}, {"colour": 0.1})
    digests = {Augmentation(**change).digest() for change in ({}, *changed)}
    assert len(digests) == 5
    assert all(len(digest) == 64 for digest in digests)
    assert Augmentation(crop_scale=(0.6, 1), colour=0).digest() == Augmentation().digest()


def test_the_digest_changes_with_the_revision_of_the_code(monkeypatch):
    before = Augmentation().digest()
    monkeypatch.setattr(thawline.inputs.image.views, "REVISION", 1)
    assert Augmentation().digest() != before


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"crop_scale": (0.0, 1.0)}, r"crop_scale must be .* got \(0.0, 1.0\)"),
    ({"crop_scale": (0.9, 0.5)}, "the smaller first"),
    ({"crop_scale": (0.5, 1.5)}, r"in \(0, 1\]"),
    ({"crop_scale": (float("nan"), 1.0)}, "crop_scale"),
    ({"crop_ratio": (0.0, 1.0)}, "crop_ratio must be two positive ratios"),
    ({"crop_ratio": (2.0, 1.0)}, r"crop_ratio .* got \(2.0, 1.0\)"),
    ({"crop_ratio": (1.0, float("inf"))}, "crop_ratio"),
    ({"colour": 1.0}, r"colour must be in \[0, 1\); got 1.0"),
    ({"colour": -0.1}, "colour"),
]


@pytest.mark.parametrize(("settings", "match"), REFUSED)
def test_a_range_that_cannot_be_is_refused(settings, match):
    with pytest.raises(UsageError, match=match):
        Augmentation(**settings)


@pytest.mark.parametrize(("size", "ratio"), [((1, 9), (3.0, 4.0)), ((9, 1), (0.2, 0.3))])
def test_where_no_crop_has_the_ratio_a_pixel_in_the_centre_is_left(size, ratio):
    (view,) = prepare_views(20 * coordinates(*size), PLAIN, Augmentation(crop_ratio=ratio), [0])
    assert abs(int(view[24, 32].max()) - 20 * 4) <= 1


def test_a_view_of_large_and_small_inputs_has_their_shape(photo: Callable[..., Image.Image]):
    for size in ((1, 1), (300, 10), (224, 224)):
        (view,) = prepare_views(np.asarray(photo(0)), replace(PLAIN, input_px=size), Augmentation(), [0])
        assert view.shape == (*size, 3)
