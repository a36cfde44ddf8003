"""Files without a counter of batches, as old ones and Keras's are, cache their activations like any others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from thawline.backbones import open_backbone
from thawline.backbones.cut import cut
from thawline.errors import ModelError
from thawline.features.activations import check_untouched

COUNTER = "num_batches_tracked"


def test_a_missing_counter_is_no_change_and_another_weight_is(tmp_path: Path) -> None:
    from thawline.backbones.providers.timm_import import import_timm

    module = import_timm().create_model("test_resnet")
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in module.state_dict().items() if not name.endswith(COUNTER)}, path)
    assert not any(name.endswith(COUNTER) for name in load_file(path))
    backbone = open_backbone(f"timm/test_resnet@{path}")
    rung = backbone.ladder.rungs[4].name
    halves = cut(backbone, rung)
    assert any(name.endswith(COUNTER) for name in halves.prefix.layers.state_dict())
    check_untouched(halves.prefix, backbone, rung)
    with torch.no_grad():
        next(tensor for name, tensor in halves.prefix.layers.state_dict().items() if name.endswith("weight")).add_(1)
    with pytest.raises(ModelError, match="has changed below the thaw line"):
        check_untouched(halves.prefix, backbone, rung)
