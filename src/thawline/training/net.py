"""The network that is trained: a copy of the backbone with a head on it, and the layers above the thaw line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones.cut import Cut, cut
from thawline.training.checkpoint import Tensors

if TYPE_CHECKING:
    from thawline.backbones.signature import Signature
    from thawline.backbones.thaw import Thaw

BACKBONE, HEAD = "backbone", "head"
"""Prefixes of names, as in ``model.safetensors``."""


class Net(nn.Module):
    """Backbone and head; names in its ``state_dict`` are those in a bundle's ``model.safetensors``."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head


class Above:
    """The layers of a net above the thaw line: they take what crosses the line and give logits.

    The layers are those of the net, not copies.
    """

    def __init__(self, net: Net, thaw: Thaw, signature: Signature, *, moving_statistics: bool) -> None:
        """Cut the net's backbone at the line, and set what learns.

        Args:
            net: On the device where it is trained.
            thaw: What learns beside the head. With nothing thawed, pooled features cross the line.
            signature: What the backbone takes.
            moving_statistics: Let running statistics of thawed normalisation layers move; all others stay fixed.
        """
        self.net = net
        self.signature = signature
        self.cut: Cut = cut(net.backbone, thaw.rung, signature=signature)
        self._freeze_holes(thaw)
        parameters = dict(net.named_parameters())
        names = [*(f"{BACKBONE}.{name}" for name in thaw.thawed), *(n for n in parameters if n.startswith(f"{HEAD}."))]
        self.learning: dict[str, nn.Parameter] = {name: parameters[name] for name in names}
        """Parameters that learn, by their names in the net."""
        self.distance: dict[str, float] = dict.fromkeys(names, 0) | dict(
            zip((f"{BACKBONE}.{name}" for name in thaw.thawed), thaw.distance, strict=True)
        )
        """Layers from the head, 0 for the head itself."""
        buffers = dict(net.named_buffers())
        self.moving: dict[str, torch.Tensor] = {
            f"{BACKBONE}.{name}": buffers[f"{BACKBONE}.{name}"] for name in thaw.buffers if moving_statistics
        }
        """Running statistics that may move."""

    def _freeze_holes(self, thaw: Thaw) -> None:
        """Freeze the parameters above the line that the thaw leaves out."""
        frozen = set(thaw.frozen)
        for name, parameter in self.net.backbone.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)

    def train(self) -> None:
        """Turn dropout and stochastic depth on; only layers whose statistics may move normalise by the batch."""
        self.cut.suffix.train()
        self.net.head.train()
        moving = {id(buffer) for buffer in self.moving.values()}
        for layer in self.cut.suffix.modules():
            if isinstance(layer, _NormBase) and not any(id(buffer) in moving for buffer in layer.buffers()):
                layer.eval()

    def eval(self) -> None:
        """Put every layer into the mode in which it predicts."""
        self.cut.suffix.eval()
        self.net.head.eval()

    def logits(self, crossing: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return float32 logits (B, C) from what crosses the line, each (B, ...)."""
        logits: torch.Tensor = self.net.head(self._pooled(crossing))
        return logits.float()

    def features(self, crossing: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return float32 features (B, D), as the head takes them, from what crosses the line, each (B, ...)."""
        return self._pooled(crossing).float()

    def _pooled(self, crossing: tuple[torch.Tensor, ...]) -> torch.Tensor:
        pooled: torch.Tensor = self.cut.suffix(*crossing)
        return pooled

    def snapshot(self) -> Tensors:
        """Return copies of everything that the stage may change, by name."""
        return {name: tensor.detach().clone() for name, tensor in self._changing()}

    @torch.no_grad()
    def restore(self, tensors: Tensors) -> None:
        """Put a snapshot back, bit for bit."""
        for name, tensor in self._changing():
            tensor.copy_(tensors[name])

    def _changing(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.learning.items()
        yield from self.moving.items()


@contextlib.contextmanager
def swapped(above: Above, tensors: Tensors | None) -> Iterator[None]:
    """Run a block with other values of what learns, such as an average, then put the present ones back."""
    if tensors is None:
        yield
        return
    own = above.snapshot()
    above.restore(own | tensors)
    try:
        yield
    finally:
        above.restore(own)
