"""Which depths stand side by side: their widths are channels, wherever these lie in a shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.contracts.zoo import shaken

from thawline.backbones import open_backbone
from thawline.backbones.ladder import Ladder, Rung
from thawline.backbones.lines import depth_rungs
from thawline.backbones.signature import Signature


def ladder(*shapes: tuple[int, ...], channels_last: bool) -> Ladder:
    """One stage for each shape, then ``pooled``, as wide as the last one."""
    n = len(shapes)
    rungs = [Rung("input", "input", "Input", (3, 64, 64), 0, 0, 0.0, 2)]
    rungs += [
        Rung(f"layers.{i}", f"layers.{i}", "Stage", shape, 9, 9, (i + 1) / n, 2, f"layers.{i}", shape)
        for i, shape in enumerate(shapes)
    ]
    width = shapes[-1][-1] if channels_last else shapes[-1][0]
    rungs.append(Rung("pooled", "pooled", "Pooled", (width,), 0, 9, 1.0, 2))
    return Ladder("toy", n, 9 * n, tuple(rungs), Signature("timm", (3, 64, 64)), channels_last=channels_last)


def test_the_last_stage_is_pooled_itself_also_with_channels_last() -> None:
    first = ladder((8, 32, 32), (16, 16, 16), (32, 8, 8), channels_last=False)
    last = ladder((32, 32, 8), (16, 16, 16), (8, 8, 32), channels_last=True)
    assert depth_rungs(first) == depth_rungs(last) == ["layers.0", "layers.1", "pooled"]


def test_columns_are_counted_in_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawline.backbones.lines.MOST_COLUMNS", 60)
    wide = ladder((64, 64, 8), (4, 4, 48), (2, 2, 96), channels_last=True)
    assert depth_rungs(wide) == ["layers.0", "layers.1", "pooled"]
    # read as (C, H, W), the heights would be taken for widths: 64 columns of the first are too many
    assert depth_rungs(replace(wide, channels_last=False))[:2] == ["layers.1", "layers.2"]


@pytest.mark.parametrize(
    ("name", "first"),
    [("embedded/resnet18_half", "act1"), ("timm/mobilenetv2_100", "bn1"), ("timm/test_vit", "norm_pre")],
)
def test_a_depth_is_read_behind_its_activation_alone_and_with_others(name: str, first: str) -> None:
    """timm's resnets write the activation into what the batch norm gave; MobileNetV2's batch norm holds its own. A
    position embedding is no module: what it was added to is read from the layer that passes it on."""
    px = 160 if "vit" in name else 64
    backbone = open_backbone(name, input_px=px, architecture_only=not name.startswith("embedded"))
    depths = depth_rungs(backbone.ladder)
    assert depths[0] == first
    module = shaken(backbone.build)
    samples = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = backbone.reader(depths, module)(samples)
        alone = [backbone.reader([depth], module)(samples)[0] for depth in depths]
    assert all(map(torch.equal, together, alone))
    assert "vit" in name or float(together[0].min()) >= 0
    widths = {rung.read_at: backbone.ladder.width(rung) for rung in backbone.ladder.rungs}
    assert [features.shape[1] for features in together] == [widths[depth] for depth in depths]
