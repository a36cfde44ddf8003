"""The networks of the guides: of the shapes that guides give, better than chance, the same twice and after a stop."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import thawline as tl
from thawline.data.digits import open_digits
from thawline.training import guide_nets
from thawline.training.guide_nets import GuideKind, fit_guide, guide_net, pixel_statistics, usual_side
from thawline.training.pixel_nets import read_pixels


def shapes(net: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in net.parameters() if p.ndim > 1]


def test_the_mlp_has_three_layers_of_500() -> None:
    assert shapes(guide_net("mlp", 28, 10)) == [(500, 3 * 28 * 28), (500, 500), (500, 500), (10, 500)]


@pytest.mark.parametrize(("side", "left"), [(224, 3), (128, 2), (28, 1), (8, 1), (1, 1)])
def test_the_cnn_has_three_blocks(side: int, left: int) -> None:
    net = guide_net("cnn", side, 10)
    filters = [(32, 3, 5, 5), (32, 32, 5, 5), (32, 32, 5, 5)]
    assert shapes(net) == [*filters, (64, 32 * left * left), (10, 64)]
    assert [layer.p for layer in net if isinstance(layer, torch.nn.Dropout)] == [0.5]
    assert net(torch.zeros(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_it_is_better_than_chance_on_digits(kind: GuideKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_nets, "MOST_EPOCHS", 15)
    data = open_digits(30)
    assert data.given is not None
    assert usual_side(data, np.arange(len(data))) == 8
    learned, test = np.flatnonzero(data.given == "train"), np.flatnonzero(data.given == "test")
    pictures, rng = read_pixels(data, side=8), np.random.default_rng(0)
    learned = rng.permutation(learned)
    steps: list[tuple[int, int]] = []
    fitted = fit_guide(
        kind, pictures, data.labels, learned[60:], learned[:60], 10, progress=lambda *at: steps.append(at)
    )
    assert fitted is not None
    assert 1 <= fitted.best_epoch <= fitted.epochs <= guide_nets.MOST_EPOCHS
    assert steps[-1][0] == steps[-1][1]
    right = fitted.net.predict_proba(pictures[test]).argmax(1) == data.labels[test]
    assert right.mean() > 0.5  # chance is 0.1


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_stop_changes_no_bit(kind: GuideKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_nets, "MOST_EPOCHS", 5)
    monkeypatch.setattr(guide_nets, "FEWEST_EPOCHS", 5)
    monkeypatch.setattr(guide_nets, "SAVED_EVERY_S", 0.0)
    monkeypatch.setattr(guide_nets, "WRITING", float("inf"))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    labels, rows = np.arange(40) % 2, np.arange(40)
    monkeypatch.setattr(guide_nets, "WIDTHS", (20, 20, 20))
    args = (kind, pictures, labels, rows[:30], rows[30:], 2)
    whole = fit_guide(*args)
    file, seen = tmp_path / "net.safetensors", []

    class Stopped(Exception):
        pass

    def stop(done: int, of: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit_guide(*args, checkpoint=file, progress=stop)
    assert file.exists()
    again = fit_guide(*args, checkpoint=file, progress=lambda done, of: seen.append(done))
    assert whole is not None and again is not None
    assert seen[3] > 1  # not from the beginning
    assert np.array_equal(whole.net.predict_proba(pictures), again.net.predict_proba(pictures))
    assert (whole.epochs, whole.best_epoch) == (again.epochs, again.best_epoch)
    other = fit_guide(*args, seed=1)
    assert other is not None
    assert not np.array_equal(whole.net.predict_proba(pictures), other.net.predict_proba(pictures))


def test_it_stops_when_the_validation_set_no_longer_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_nets, "WIDTHS", (20, 20, 20))
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8), rng.integers(0, 2, 40)
    fitted = fit_guide("mlp", pictures, labels, np.arange(30), np.arange(30, 40), 2)
    assert fitted is not None
    assert fitted.epochs == fitted.best_epoch + guide_nets.PATIENCE < guide_nets.MOST_EPOCHS  # of noise, soon


def test_without_time_there_is_no_network() -> None:
    pictures, labels = np.zeros((4, 8, 8, 3), dtype=np.uint8), np.array([0, 1, 0, 1])
    rows = np.arange(4)
    assert fit_guide("mlp", pictures, labels, rows, rows, 2, ends_at=time.monotonic() - 1) is None


def test_pixel_statistics_are_those_of_the_rows() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 5, 4, 3), dtype=np.uint8)
    mean, std = pixel_statistics(pictures, np.array([0, 2, 5]))
    own = pictures[[0, 2, 5]] / 255
    assert np.allclose(mean, own.mean((0, 1, 2)))
    assert np.allclose(std, own.std((0, 1, 2)))


def test_large_pictures_are_read_smaller(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tl.open_data(tiny_photos)
    rows = np.arange(len(data))
    side = usual_side(data, rows)
    assert 40 < side < 70
    monkeypatch.setattr(guide_nets, "LARGEST_SIDE", 32)
    assert usual_side(data, rows) == 32
    monkeypatch.setattr(guide_nets, "MOST_BYTES", 3 * len(data) * 10**2)
    assert usual_side(data, rows) == 10
    assert usual_side(replace(data, scales=()), rows[:1]) == 10
