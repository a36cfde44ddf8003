"""A trained multilayer perceptron as plain arrays: it predicts without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import check_temperature, in_blocks, outputs_of, target_setting
from thawline.records import Target


@dataclass(frozen=True, slots=True, eq=False)
class MLPHead:
    """Fully connected layers with ReLU between them."""

    weights: tuple[NDArray[np.float64], ...]
    """Each (outputs, inputs), from the features to the classes."""
    biases: tuple[NDArray[np.float64], ...]
    """Each (outputs,)"""
    dropout: float = 0.0
    """Share of each hidden layer that training left out, for the record; predictions use all of it."""
    temperature: float = 1.0
    """The decision is divided by this before the softmax."""
    target: Target = "class"

    @property
    def kind(self) -> str:
        return "mlp"

    @property
    def classes_n(self) -> int:
        return len(self.biases[-1])

    @property
    def n_parameters(self) -> int:
        return sum(array.size for array in (*self.weights, *self.biases))

    def decision(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (N, C) before the temperature.

        Raises:
            DataError: The features have another width than those the head was trained on.
        """
        return in_blocks(values, self.weights[0].shape[1], self.classes_n, self._decide)

    def _decide(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            block = np.maximum(block @ weight.T + bias, 0)
        return block @ self.weights[-1].T + self.biases[-1]

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.decision(values) / self.temperature

    def predict_proba(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return outputs_of(self.target, self.logits(values))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        pairs = zip(self.weights, self.biases, strict=True)
        return {
            f"{index}.{name}": array
            for index, (weight, bias) in enumerate(pairs)
            for name, array in (("weight", weight), ("bias", bias))
        }

    def settings(self) -> dict[str, object]:
        return {"temperature": self.temperature, "dropout": self.dropout, **target_setting(self.target)}


def mlp_from_tensors(
    tensors: Mapping[str, NDArray[np.generic]], temperature: float, dropout: float, target: Target = "class"
) -> MLPHead:
    """Rebuild a head from what its ``tensors()`` gave.

    Raises:
        KeyError: A layer lacks its weight or bias.
        ValueError: Layers that do not follow on each other, or a setting that cannot be.
    """
    n_layers = max(1, (len(tensors) + 1) // 2)
    weights = tuple(tensors[f"{index}.weight"].astype(np.float64) for index in range(n_layers))
    biases = tuple(tensors[f"{index}.bias"].astype(np.float64) for index in range(n_layers))
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{index}.weight must be (outputs, inputs) and {index}.bias (outputs,); "
                f"got {weight.shape} and {bias.shape}"
            )
        if index and weight.shape[1] != len(biases[index - 1]):
            raise ValueError(
                f"{index}.weight must take the {len(biases[index - 1])} outputs of layer {index - 1}; "
                f"got {weight.shape}"
            )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1; got {dropout}")
    return MLPHead(weights, biases, dropout, check_temperature(temperature), target)
