"""Mixup and cutmix: what is shown and what is asked for agree."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch

from thawline.errors import UsageError
from thawline.randomness import generator
from thawline.training.mixing import Mixed, mix
from thawline.training.settings import TrainPlan

B = 6


def batch(*shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    draws = torch.Generator().manual_seed(0)
    return tuple(torch.randn(B, *shape, generator=draws) for shape in shapes)


def mixed(crossing: tuple[torch.Tensor, ...], step: int = 0, **settings: float) -> Mixed:
    return mix(crossing, TrainPlan.model_validate(settings), generator(0, "mix", step))


def fixed(share: float) -> Mock:
    """A generator that draws this share, and all else as usual."""
    rng = Mock(wraps=np.random.default_rng(0))
    rng.beta = lambda *_: share
    return rng


def test_off_by_default() -> None:
    crossing = batch((3, 4, 4))
    found = mixed(crossing)
    assert found.crossing is crossing
    assert (found.partner, found.share) == (None, 1.0)


def test_mixup_is_the_weighted_sum_of_a_sample_and_its_partner() -> None:
    crossing = batch((3, 4, 4), (5, 7), (9,))
    found = mixed(crossing, mixup=0.5)
    assert found.partner is not None
    assert sorted(found.partner.tolist()) == list(range(B))
    assert 0 < found.share < 1
    for shown, x in zip(found.crossing, crossing, strict=True):
        assert torch.allclose(shown, found.share * x + (1 - found.share) * x[found.partner], atol=1e-6)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_share_of_one_changes_nothing(kind: str) -> None:
    (x,) = batch((3, 8, 8))
    before = x.clone()
    found = mix((x,), TrainPlan.model_validate({kind: 1.0}), fixed(1.0))
    assert found.share == 1.0
    assert torch.equal(found.crossing[0], before)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_what_is_given_stays_as_it_was(kind: str) -> None:
    (x,) = batch((3, 8, 8))
    before = x.clone()
    found = mix((x,), TrainPlan.model_validate({kind: 1.0}), fixed(0.4))
    assert not torch.equal(found.crossing[0], before)
    assert torch.equal(x, before)


def test_cutmix_asks_for_as_much_as_it_shows() -> None:
    shares = []
    for step in range(200):
        (x,) = batch((3, 9, 13))
        found = mixed((x,), step, cutmix=1.0)
        assert found.partner is not None
        (shown,) = found.crossing
        moved = torch.arange(B) != found.partner
        if not moved.any():  # every sample is its own partner
            continue
        own = (shown == x).all(dim=1)[moved]  # (M, H, W)
        assert float(own.float().mean()) == pytest.approx(found.share, abs=1e-6)
        theirs = (shown == x[found.partner]).all(dim=1)[moved]
        assert (own ^ theirs).all()
        for rectangle in theirs:
            rows, columns = rectangle.any(1).nonzero(), rectangle.any(0).nonzero()
            assert int(rectangle.sum()) == len(rows) * len(columns)
            if len(rows):
                assert int(rows.max() - rows.min()) + 1 == len(rows)
                assert int(columns.max() - columns.min()) + 1 == len(columns)
        shares.append(found.share)
    assert 0.4 < np.mean(shares) < 0.8  # as drawn, a little more where the rectangle reaches over the edge
    assert np.std(shares) > 0.15


@pytest.mark.parametrize("shapes", [[(3, 4, 4), (3, 4, 4)], [(5, 7)], [(9,)]])
def test_cutmix_needs_one_image(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match=r"cutmix must have one image-shaped tensor .*\(\d.*cross it\. Use mixup"):
        mixed(batch(*shapes), cutmix=1.0)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_step_is_mixed_the_same_way_every_time(kind: str) -> None:
    crossing = batch((3, 8, 8))
    one, same, other = (mixed(crossing, step, **{kind: 1.0}) for step in (0, 0, 1))
    assert torch.equal(one.crossing[0], same.crossing[0])
    assert one.share == same.share != other.share
