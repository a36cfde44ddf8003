"""Settings of training that cannot be are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from thawline.training.settings import StagePlan, TrainPlan


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"crop_scale": (0.9, 0.5)}, "must be two shares of the area, the smaller first"),
        ({"crop_scale": (0.0, 0.5)}, "must be two shares of the area"),
        ({"crop_scale": (0.5, 1.1)}, "must be two shares of the area"),
        ({"crop_scale": (float("nan"), 1.0)}, "must be two shares of the area"),
        ({"batch_size": 4, "accumulate": 5}, "accumulate must be at most batch_size, 4; got 5"),
        ({"mixup": 0.1, "cutmix": 0.1}, "mixup and cutmix cannot both be on"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"lr": 0}, "greater than 0"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"l2_sp": float("nan")}, "l2_sp"),
        ({"momentum": 1}, "less than 1"),
        ({"ema_decay": 1}, "less than 1"),
        ({"warmup_frac": 1}, "less than 1"),
        ({"optimiser": "adam"}, "'adamw' or 'sgd'"),
        ({"lr_rate": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        TrainPlan.model_validate(settings)


def test_bounds_that_are_allowed() -> None:
    TrainPlan.model_validate({"crop_scale": [0.5, 0.5], "accumulate": 32, "mixup": 10, "clip_norm": 0, "lr_decay": 1})
    TrainPlan.model_validate({"crop_scale": [1, 1], "cutmix": 1})


def test_every_setting_says_what_it_is() -> None:
    for kind in (TrainPlan, StagePlan):
        for name, field in kind.model_fields.items():
            assert (field.description or "").endswith("."), name


def test_settings_stand_still() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainPlan().lr = 1  # type: ignore[misc]
