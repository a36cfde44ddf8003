"""From how many samples a class fine-tuning pays: found where it was planted, with an interval, or said not to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from thawline.planning.pays_from import WORTH, PaysFrom, Size, Trained, pays_from
from thawline.randomness import generator

M = 400
SIZES = (4, 8, 16, 32)


def trained(frozen: float, tuned: float, noise: float, draw: int) -> Trained:
    """Losses of judged samples around two means; both models find the same samples hard."""
    rng = generator(0, "trained", str(frozen), str(tuned), draw)
    hard = rng.gamma(4.0, 0.25, M)
    own = 1 + noise * rng.standard_normal((2, M))
    losses = np.stack([frozen, tuned])[:, None] * hard / hard.mean() * np.clip(own, 0.1, None)
    right = losses < 0.8
    return Trained(frozen=losses[0], tuned=losses[1], frozen_right=right[0], tuned_right=right[1])


def measured(
    frozen: Callable[[float], float],
    tuned: Callable[[float], float],
    *,
    noise: float = 0.2,
    sizes: tuple[int, ...] = SIZES,
) -> PaysFrom:
    made = [
        Size(
            n=2 * size,
            of_class=size,
            way="all",
            draws=[trained(frozen(size), tuned(size), noise, draw) for draw in range(1 if size == sizes[-1] else 2)],
        )
        for size in sizes
    ]
    return pays_from(made, np.arange(M), seed=3)


def falling(level: float, slope: float) -> Callable[[float], float]:
    return lambda size: level * size**-slope


def crossing(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Where the second power law saves the least share that counts."""
    return float((other[0] / one[0] / (1 - WORTH)) ** (1 / (other[1] - one[1])))


def test_the_crossing_of_two_planted_power_laws_is_found() -> None:
    frozen, tuned = (1.0, 0.1), (1.6, 0.3)
    planted = crossing(frozen, tuned)
    assert 8 < planted < 16
    found = measured(falling(*frozen), falling(*tuned))
    assert found.answer == "from"
    assert found.of_class == pytest.approx(planted, rel=0.15)
    low, high = found.ci95
    assert low is not None and high is not None
    assert low < planted < high
    assert high / low < 3
    assert found.words.startswith("Fine-tuning starts to pay at about 1")
    assert "95 %" in found.words and "judged on 400 others" in found.words
    assert [one.of_class for one in found.reached] == list(SIZES)
    assert [one.draws for one in found.reached] == [2, 2, 2, 1]


def test_more_noise_widens_the_interval() -> None:
    laws = falling(1.0, 0.1), falling(1.6, 0.3)

    def width(noise: float) -> float:
        low, high = measured(*laws, noise=noise).ci95
        return np.log((high or 64) / (low or 2))

    assert width(0.8) > 1.5 * width(0.1)


def test_what_pays_from_the_first_size_on_is_said_to_pay_everywhere() -> None:
    found = measured(falling(1.0, 0.1), falling(0.7, 0.2))
    assert (found.answer, found.of_class) == ("everywhere", 4)
    assert found.ci95[0] is None
    assert found.words.startswith("Fine-tuning pays at every size that was measured (95 %: 4 or fewer to ")


def test_what_never_pays_is_said_so_and_no_crossing_invented() -> None:
    found = measured(falling(1.0, 0.2), falling(1.4, 0.2))
    assert (found.answer, found.of_class, found.beyond) == ("nowhere", None, None)
    assert found.words == ("Fine-tuning does not pay within the data: 4 to 32 samples a class, judged on 400 others.")


def test_a_crossing_beyond_the_data_is_called_a_guess() -> None:
    frozen, tuned = (1.0, 0.1), (1.9, 0.25)
    planted = crossing(frozen, tuned)
    assert 32 < planted < 128
    found = measured(falling(*frozen), falling(*tuned), noise=0.1)
    assert found.answer == "nowhere"
    assert found.beyond == pytest.approx(planted, rel=0.2)
    assert "a guess beyond the data" in found.words


def test_a_gain_that_the_frozen_head_catches_up_with_is_named() -> None:
    found = measured(falling(1.6, 0.3), falling(1.0, 0.1))
    assert (found.answer, found.of_class) == ("at first only", None)
    assert "Fine-tuning pays with 4 samples a class, and no more with 32" in found.words


def test_shares_saved_and_accuracies_are_means_of_the_draws() -> None:
    found = measured(falling(1.0, 0.1), falling(1.6, 0.3))
    size = [trained(falling(1.0, 0.1)(4), falling(1.6, 0.3)(4), 0.2, draw) for draw in range(2)]
    frozen, tuned = (np.mean([getattr(one, side).mean() for one in size]) for side in ("frozen", "tuned"))
    share, low, high = found.reached[0].saved
    assert share == pytest.approx(1 - tuned / frozen)
    assert low <= share <= high
    assert found.reached[0].tuned_accuracy == pytest.approx(np.mean([one.tuned_right.mean() for one in size]))
    assert found.to_json()["reached"][0]["tuned_log_loss"] == pytest.approx(tuned)


def test_samples_of_one_group_are_one_draw() -> None:
    """Ten copies of each judged sample tell no more than one of each."""
    few = M // 10
    made = [trained(frozen, tuned, 0.2, 0) for frozen, tuned in ((1.0, 1.2), (0.9, 0.8))]

    def sizes(times: int) -> list[Size]:
        draws = [
            Trained(
                frozen=np.repeat(one.frozen[:few], times),
                tuned=np.repeat(one.tuned[:few], times),
                frozen_right=np.repeat(one.frozen_right[:few], times),
                tuned_right=np.repeat(one.tuned_right[:few], times),
            )
            for one in made
        ]
        return [Size(n=n, of_class=n / 2, way="all", draws=[one]) for n, one in zip((8, 16), draws, strict=True)]

    alone = pays_from(sizes(1), np.arange(few), seed=1)
    together = pays_from(sizes(10), np.repeat(np.arange(few), 10), seed=1)
    assert together.reached[0].saved == pytest.approx(alone.reached[0].saved)
    assert together.of_class == pytest.approx(alone.of_class)
    assert together.ci95 == pytest.approx(alone.ci95)
