"""Stages of models whose layers have no dots in their names."""

from __future__ import annotations

import pytest

from thawline.backbones.ladder import _stages_of_names
from thawline.backbones.providers.keras.stages import stage_of


@pytest.mark.parametrize(
    ("layer", "stage"),
    [
        ("block5_conv1", "block5"),
        ("block14_sepconv2_bn", "block14"),
        ("block6d_expand_conv", "block6"),
        ("conv4_block12_1_bn", "conv4"),
        ("conv1_conv", None),
        ("block_13_project_BN", "block_13"),
        ("convnext_tiny_stage_2_block_3_layernorm", "convnext_tiny_stage_2"),
        ("convnext_tiny_stem_conv", None),
        ("conv_dw_7_bn", "conv_7"),
        ("conv_pw_7", "conv_7"),
        ("conv_1_bn", None),
        ("expanded_conv_8_depthwise", "expanded_conv_8"),
        ("expanded_conv_depthwise", "expanded_conv"),
        ("separable_conv_2_bn_normal_left5_18", "cell_18"),
        ("reduction_conv_1_stem_1", None),
        ("conv2d_48", None),
        ("post_bn", None),
    ],
)
def test_names_say_the_block(layer: str, stage: str | None) -> None:
    assert stage_of(layer) == stage


def test_a_layer_whose_name_says_nothing_is_in_the_stage_before_it() -> None:
    layers = ["input", "conv1", "block1_conv1", "conv2d", "block2_conv1", "top", "pooled"]
    found = list(_stages_of_names(layers, [stage_of(layer) for layer in layers]))
    assert found == ["input", "stem", "block1", "block1", "block2", "head", "pooled"]
