"""Turn heads into torch modules for training, and back; loaded for training only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thawline.heads.head import Head, LinearHead
from thawline.heads.mlp import MLPHead
from thawline.randomness import derived_seed
from thawline.records import Target


def to_module(head: LinearHead) -> nn.Linear:
    """Return a float32 module, (B, D) -> (B, C), that gives the head's decision: the logits before its temperature."""
    layer = _empty_linear(head.weight.shape[1], head.weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
    return layer


def from_module(
    module: nn.Module,
    *,
    kind: Literal["linear", "mlp", "logistic", "ridge", "svm"],
    temperature: float = 1.0,
    target: Target = "class",
) -> Head:
    """Return the head that predicts as a trained module does in evaluation mode.

    Args:
        module: What ``to_module`` or ``new_mlp`` gave, on any device and in any precision.
        kind: ``mlp`` for an ``nn.Sequential``; for an ``nn.Linear`` what the head shall be called.
        temperature: Divides the decision before the softmax.
        target: What it was trained to predict.
    Raises:
        TypeError: A module of another make.
    """
    if kind == "mlp" and isinstance(module, nn.Sequential):
        layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        dropout = next((layer.p for layer in module if isinstance(layer, nn.Dropout)), 0.0)
        weights, biases = (tuple(_array(layer.get_parameter(name)) for layer in layers) for name in ("weight", "bias"))
        return MLPHead(weights, biases, dropout, temperature, target)
    if kind != "mlp" and isinstance(module, nn.Linear):
        return LinearHead(kind, _array(module.weight), _array(module.bias), temperature, target)
    raise TypeError(
        f"a {kind} head must come from the module that to_module or new_mlp gives; got {type(module).__name__}"
    )


def new_mlp(in_features: int, hidden: Sequence[int], n_classes: int, dropout: float, seed: int) -> nn.Module:
    """Return an untrained MLP: Linear, ReLU and Dropout for each hidden layer, then Linear.

    The tensors are named ``0.weight``, ``0.bias``, ``3.weight``, ``3.bias``, ..., whatever the dropout.

    Args:
        hidden: Widths, from the features to the classes; empty for a linear layer alone.
        dropout: Share of each hidden layer that a training step leaves out, in [0, 1).
        seed: Decides the weights; no global generator is read or moved.
    Source:
        He et al., Delving Deep into Rectifiers (2015): weights normal with variance 2 / inputs before a ReLU, and
        1 / inputs before the softmax; biases zero.
    """
    draws = torch.Generator().manual_seed(derived_seed(seed, "head", "mlp"))
    layers = [_empty_linear(n_in, n_out) for n_in, n_out in pairwise((in_features, *hidden, n_classes))]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is layers[-1] else "relu", generator=draws)
        nn.init.zeros_(layer.bias)
    hidden_layers = [part for layer in layers[:-1] for part in (layer, nn.ReLU(), nn.Dropout(dropout))]
    return nn.Sequential(*hidden_layers, layers[-1])


def _empty_linear(n_in: int, n_out: int) -> nn.Linear:
    """Return a layer without drawing weights: the global generator must not move."""
    return nn.Linear(n_in, n_out, device="meta", dtype=torch.float32).to_empty(device="cpu")


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().cpu().double().numpy().copy()
    return array
