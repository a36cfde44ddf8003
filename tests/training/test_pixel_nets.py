"""Small networks on pixels learn what pixels tell, and the same twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import thawline as tl
from thawline.training import pixel_nets
from thawline.training.pixel_nets import fit_pixels, read_pixels


@pytest.fixture(scope="module")
def bars() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Standing or lying bars, somewhere, in noise: nothing that the mean of a pixel would tell."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    pictures = rng.integers(0, 60, (120, 32, 32, 3), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        at = rng.integers(4, 26)
        if label:
            picture[at : at + 3] = 220
        else:
            picture[:, at : at + 3] = 220
    return pictures, labels


@pytest.mark.parametrize("kind", ["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def test_it_learns(
    kind: pixel_nets.PixelKind, bars: tuple[NDArray[np.uint8], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_nets, "MOST_EPOCHS", 40)
    pictures, labels = bars
    steps = []
    net = fit_pixels(kind, pictures[:80], labels[:80], 2, progress=lambda done, of: steps.append((done, of)))
    p = net.predict_proba(pictures[80:])
    assert p.shape == (40, 2)
    assert np.allclose(p.sum(axis=1), 1)
    assert (p.argmax(1) == labels[80:]).mean() > 0.85
    assert steps[-1][0] == steps[-1][1] == len(steps)


def test_the_same_twice_and_another_with_another_seed(
    bars: tuple[NDArray[np.uint8], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_nets, "MOST_EPOCHS", 2)
    pictures, labels = bars
    first, again, other = (
        fit_pixels("cnn", pictures, labels, 2, seed=seed).predict_proba(pictures) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_few_samples_do(bars: tuple[NDArray[np.uint8], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_nets, "MOST_EPOCHS", 10)
    pictures, labels = bars
    assert np.isfinite(fit_pixels("cnn", pictures[:2], labels[:2], 2).predict_proba(pictures)).all()


def test_pictures_of_any_shape_are_squashed(tiny_photos: Path) -> None:
    data = tl.open_data(tiny_photos)
    seen = []
    pixels = read_pixels(data, lambda done, of: seen.append((done, of)))
    assert pixels.shape == (len(data), 32, 32, 3)
    assert seen[-1] == (len(data), len(data))
    assert pixels.std() > 10
