"""Every family of encoders of transformers, small: cut equals whole, a training step is clean, a bundle ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.whole import check_bundle, check_step, check_three_rungs
from tests.hf_models import PX, SMALL, library_model, processor_of, save

import thawline as tl
from thawline.backbones import Backbone

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

QUICK = ("vit", "swin", "convnext")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Backbone:
    """The small model of the family that the test asks for; dropout and stochastic depth as its configuration says."""
    folder = save(library_model(request.param), tmp_path / "model", processor_of(request.param))
    return tl.open_backbone(f"hf/{request.param}@{folder}")


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_three_rungs(opened: Backbone) -> None:
    model = opened.build()
    model.load_state_dict(opened.module().state_dict())
    check_three_rungs(opened, model, PX)


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_a_training_step_above_the_middle(opened: Backbone) -> None:
    check_step(opened, opened.module(), PX)


@pytest.mark.slow
@pytest.mark.parametrize("thaw", ["none", "last:2"])
@pytest.mark.parametrize("opened", SMALL, indirect=True)
def test_a_bundle_predicts_what_its_run_did(opened: Backbone, thaw: str, tiny_photos: Path, tmp_path: Path) -> None:
    check_bundle(opened, tiny_photos, tmp_path / "run", thaw=thaw)
