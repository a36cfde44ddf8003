"""Train low-rank updates (LoRA) of the weights above the thaw line, and merge them into the weights at the end.

peft holds the updates. The weights that ship are plain again: nothing after training knows of LoRA.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.receipt import Receipt, issue_receipt, tensor_digests
from thawline.errors import UsageError
from thawline.randomness import derived_seed
from thawline.training.net import BACKBONE, HEAD, Above
from thawline.training.packages import check_peft

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer


@contextmanager
def low_rank(above: Above, rank: int, stage: str, seed: int) -> Iterator[list[Receipt]]:
    """Train low-rank updates in place of the thawed weights within the block, and merge them when it ends.

    Fully connected layers and convolutions without groups get updates. Everything else that is thawed, such as vectors
    and depthwise convolutions, stays as it is.

    Args:
        above: What learns; its ``learning`` and ``distance`` are those of the updates and the head within the block.
        rank: Of each update; its scale is 1.
        stage: Name of the stage, for the receipt.
        seed: Decides the updates' first factor; the second one starts at 0.
    Returns:
        A list that holds, after the block, the receipt of the merge: only adapted weights and the head have moved.
    Raises:
        UsageError: Nothing that is thawed can be adapted, or peft is missing.
    Source:
        Hu et al. 2022, arXiv:2106.09685.
    """
    check_peft()
    backbone, digests = above.net.backbone, tensor_digests(above.net)
    names = _adaptable(above)
    _inject(backbone, names, rank, derived_seed(seed, "lora", stage))
    _share(above.cut.suffix, backbone, names)
    learning, distance = above.learning, above.distance
    parameters = dict(above.net.named_parameters())
    above.learning = {name: p for name, p in parameters.items() if ".lora_" in name or name.startswith(f"{HEAD}.")}
    above.distance = {name: distance[_weight(name)] for name in above.learning}
    receipts: list[Receipt] = []
    yield receipts
    _merge(backbone, names)
    _share(above.cut.suffix, backbone, names)
    above.learning, above.distance = learning, distance
    may_move = {f"{BACKBONE}.{name}.weight" for name in names} | {name for name in learning if name.startswith(HEAD)}
    receipts.append(issue_receipt(f"{stage}, merged", above.net, digests, may_move=may_move))


def _adaptable(above: Above) -> list[str]:
    """Return the names, in the backbone, of layers whose thawed weight can have a low-rank update."""
    names = []
    for name, layer in above.net.backbone.named_modules():
        same_padding = isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d and layer.kernel_size != (1, 1)
        matrix = isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d) and layer.groups == 1 and not same_padding
        )  # a convolution that pads by itself would not fit to peft's, which pads by attribute
        if matrix and f"{BACKBONE}.{name}.weight" in above.learning:
            names.append(name)
    if not names:
        raise UsageError(
            "lora_rank must come with a thawed layer that has a weight matrix; none of the thawed layers has one. Thaw "
            "more, or leave lora_rank out."
        )
    return names


def _inject(backbone: nn.Module, names: list[str], rank: int, seed: int) -> None:
    import_timm()  # which makes torchvision importable for peft, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=f"^({'|'.join(map(_exactly, names))})$")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, backbone)


def _exactly(name: str) -> str:
    return name.replace(".", r"\.")


def _merge(backbone: nn.Module, names: list[str]) -> None:
    """Put each layer back, its update added to its weight."""
    for name in names:
        adapted = cast("LoraLayer", backbone.get_submodule(name))
        adapted.merge()
        _set(backbone, name, adapted.get_base_layer())


def _share(suffix: nn.Module, backbone: nn.Module, names: list[str]) -> None:
    """Make the suffix run the layers that the backbone has now."""
    for name in names:
        holder, _, _ = name.rpartition(".")
        if holder in dict(suffix.named_modules()):
            _set(suffix, name, backbone.get_submodule(name))


def _set(module: nn.Module, name: str, layer: nn.Module) -> None:
    holder, _, child = name.rpartition(".")
    if hasattr(parent := module.get_submodule(holder), child):
        setattr(parent, child, layer)


def _weight(name: str) -> str:
    """Return the name of the weight that an update belongs to, or the name itself if it is no update."""
    return f"{name.partition('.lora_')[0]}.weight" if ".lora_" in name else name
