"""What a whole model must hold, whichever library it comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tests.contracts.test_cut import check_learning, close
from tests.contracts.test_training_step import Net, statistics_above, train_one_step
from tests.contracts.zoo import above, images, tensors
from torch import nn

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.cut import cut


def rungs_of(backbone: Backbone) -> list[str]:
    return [rung.name for rung in backbone.ladder.rungs]


def check_three_rungs(backbone: Backbone, model: nn.Module, px: int) -> None:
    """Cut at three rungs: the halves give what the whole gives, and what is above learns."""
    rungs = rungs_of(backbone)
    assert (rungs[0], rungs[-1]) == ("input", "pooled")
    with torch.no_grad():
        whole = model(images(3, px))
    for share in (0.25, 0.5, 0.75):
        rung = rungs[round(share * (len(rungs) - 1))]
        halves = cut(model, rung, signature=backbone.signature)
        with torch.no_grad():
            close(halves.suffix(*halves.prefix(images(3, px))), whole)  # another batch size than it was checked with
        assert set(halves.suffix_parameter_names) == above(model, rungs, rung), rung
        check_learning(model, halves, rungs, rung, images(3, px))


def check_step(backbone: Backbone, model: nn.Module, px: int) -> None:
    """Train one step above the middle: all that is above changes, and nothing else."""
    net, rungs = Net(model, px), rungs_of(backbone)
    rung = rungs[len(rungs) // 2]
    halves = cut(net.backbone, rung, signature=backbone.signature)
    before = {key: tensor.clone() for key, tensor in tensors(net).items()}
    receipt = train_one_step(net, halves, px, moving=True)
    learned = {f"backbone.{key}" for key in above(net.backbone, rungs, rung)} | {"head.weight", "head.bias"}
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert receipt.status == "clean"
    assert set(receipt.thawed) == learned
    assert changed == learned | statistics_above(net, rungs, rung)


def check_bundle(backbone: Backbone, photos: Path, folder: Path, *, thaw: str = "none") -> None:
    """Fit, and load what was saved: the same weights, the predictions that its features and head give."""
    data = tl.open_data(photos)
    training = {} if thaw == "none" else {"epochs": 1}
    run = tl.fit(data, tl.plan(data, backbone, thaw=thaw, training=training), run=folder)
    bundle = tl.load_bundle(run.folder)
    if thaw == "none":
        saved, own = bundle.backbone.module().state_dict(), backbone.module().state_dict()
        assert saved.keys() == own.keys()
        assert all(torch.equal(saved[name], tensor) for name, tensor in own.items())
    features = tl.extract_features(data, bundle.backbone, precision="f32").values
    expected = bundle.head.predict_proba(features)
    assert np.abs(bundle.predict(data).probabilities - expected).max() < 0.02  # the bundle may run in bfloat16
    assert (run.folder / "load_receipt.json").is_file()
