"""Every family of encoders of transformers, small: cut equals whole, a training step is clean, a bundle ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.contracts.test_cut import check_learning, close
from tests.contracts.test_training_step import Net, statistics_above, train_one_step
from tests.contracts.zoo import above, images, tensors
from tests.hf_models import PX, SMALL, library_model, processor_of, save

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.cut import cut

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

QUICK = ("vit", "swin", "convnext")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Backbone:
    """The small model of the family that the test asks for; dropout and stochastic depth as its configuration says."""
    folder = save(library_model(request.param), tmp_path / "model", processor_of(request.param))
    return tl.open_backbone(f"hf/{request.param}@{folder}")


def rungs_of(backbone: Backbone) -> list[str]:
    return [rung.name for rung in backbone.ladder.rungs]


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_three_rungs(opened: Backbone) -> None:
    model, rungs = opened.build(), rungs_of(opened)
    model.load_state_dict(opened.module().state_dict())
    assert (rungs[0], rungs[-1]) == ("input", "pooled")
    with torch.no_grad():
        whole = model(images(3, PX))
    for share in (0.25, 0.5, 0.75):
        rung = rungs[round(share * (len(rungs) - 1))]
        halves = cut(model, rung, signature=opened.signature)
        with torch.no_grad():
            close(halves.suffix(*halves.prefix(images(3, PX))), whole)  # another batch size than it was checked with
        assert set(halves.suffix_parameter_names) == above(model, rungs, rung), rung
        check_learning(model, halves, rungs, rung, images(3, PX))


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_a_training_step_above_the_middle(opened: Backbone) -> None:
    net, rungs = Net(opened.module(), PX), rungs_of(opened)
    rung = rungs[len(rungs) // 2]
    halves = cut(net.backbone, rung, signature=opened.signature)
    before = {key: tensor.clone() for key, tensor in tensors(net).items()}
    receipt = train_one_step(net, halves, PX, moving=True)
    learned = {f"backbone.{key}" for key in above(net.backbone, rungs, rung)} | {"head.weight", "head.bias"}
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert receipt.status == "clean"
    assert set(receipt.thawed) == learned
    assert changed == learned | statistics_above(net, rungs, rung)


@pytest.mark.slow
@pytest.mark.parametrize("thaw", ["none", "last:2"])
@pytest.mark.parametrize("opened", SMALL, indirect=True)
def test_a_bundle_predicts_what_its_run_did(opened: Backbone, thaw: str, tiny_photos: Path, tmp_path: Path) -> None:
    data = tl.open_data(tiny_photos)
    training = {} if thaw == "none" else {"epochs": 1}
    run = tl.fit(data, tl.plan(data, opened, thaw=thaw, training=training), run=tmp_path / "run")
    bundle = tl.load_bundle(run.folder)
    features = tl.extract_features(data, bundle.backbone, precision="f32").values
    expected = bundle.head.predict_proba(features)
    assert np.abs(bundle.predict(data).probabilities - expected).max() < 0.02  # the bundle may run in bfloat16
    assert (run.folder / "load_receipt.json").is_file()
