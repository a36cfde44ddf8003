"""Print a table of models for the documentation: provider, name, layers, parameters, rungs, input.

    python tools/model_table.py torchvision/alexnet torchvision/vgg16 timm/vgg16
    python tools/model_table.py --models-of torchvision

Counts are those of ``thawline ladder``: of the backbone without its head; for models of Keras, those of Keras. No
weights are read.
"""

from __future__ import annotations

import argparse

from thawline.backbones import open_backbone
from thawline.backbones.providers.hf_known import KNOWN
from thawline.backbones.providers.hf_text_known import TEXT_KNOWN
from thawline.backbones.providers.keras.preparation import APPLICATIONS

SHOWN = {
    "timm": (
        "xception41 inception_v3 inception_v4 inception_resnet_v2 vgg16 vgg19 resnet50 resnet101 resnet152 resnetv2_50 "
        "resnetv2_101 mobilenetv1_100 mobilenetv2_100 mobilenetv3_small_100 mobilenetv3_large_100 densenet121 "
        "densenet169 densenet201 nasnetalarge efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 "
        "efficientnet_b4 efficientnet_b5 tf_efficientnet_b6 tf_efficientnet_b7 convnext_tiny vit_small_patch16_224 "
        "vit_base_patch16_224 swin_tiny_patch4_window7_224 vit_small_patch14_dinov2"
    ).split(),
    "torchvision": (
        "alexnet googlenet inception_v3 squeezenet1_0 squeezenet1_1 vgg16 vgg19 resnet50 resnet101 resnet152 "
        "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x1_0 mnasnet1_0 densenet121 densenet169 "
        "densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 "
        "efficientnet_b6 efficientnet_b7 efficientnet_v2_s regnet_y_400mf convnext_tiny vit_b_16 swin_t swin_v2_t "
        "maxvit_t"
    ).split(),
    "hf": [*KNOWN, *TEXT_KNOWN],
    "keras": list(APPLICATIONS),
}
"""Models that the guides to transfer learning name, and relatives of theirs."""


def row(name: str) -> str:
    """Return one line of the table."""
    backbone = open_backbone(name, architecture_only=True)
    ladder = backbone.ladder
    unit = "tokens" if backbone.preparation.kind == "text" else "px"
    layers, parameters = ladder.layers, ladder.parameters
    if counted := ladder.signature.library_layers(backbone.blueprint()):
        layers, parameters = len(counted), sum(layer.parameters for layer in counted)
    cells = (
        f"`{name}`",
        layers,
        f"{parameters:,}",
        len(ladder.rungs),
        f"{backbone.preparation.tensor_shape[-1]} {unit}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print the rows of the models that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models, such as torchvision/alexnet")
    parser.add_argument("--models-of", action="append", default=[], choices=sorted(SHOWN))
    asked = parser.parse_args()
    names = [*asked.names, *(f"{family}/{name}" for family in asked.models_of for name in SHOWN[family])]
    print("| model | layers | parameters | rungs | input |\n|---|---|---|---|---|")
    for name in names:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
