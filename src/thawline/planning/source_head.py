"""Ask the classifier that the backbone was trained with about the data, if its weights still hold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.weights import TensorFile
from thawline.errors import ModelError
from thawline.heads.head import softmax
from thawline.planning.distances import halvings

if TYPE_CHECKING:
    from thawline.backbones import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfidence:
    """How sure the source classifier is on the data. Without source pictures, no level is high or low."""

    n_classes: int
    """Classes of the source."""
    energy: float
    """Mean of -log sum exp(logits); lower means that the classifier recognises more."""
    energy_between_halves: float
    """Mean distance between two halves of the sample; smaller differences mean nothing."""
    max_softmax: float
    """Mean probability of the likeliest source class."""
    max_softmax_between_halves: float
    n: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class SourceHead:
    """A linear classifier on pooled features."""

    weight: NDArray[np.float64]
    """(C, D)"""
    bias: NDArray[np.float64]
    """(C,)"""

    def logits(self, pooled: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return logits: (N, D) -> (N, C)."""
        values: NDArray[np.float64] = pooled @ self.weight.T + self.bias
        return values


def read_source_head(backbone: Backbone) -> SourceHead | str:
    """Return the classifier in the backbone's weights file, or the reason why there is none to ask."""
    file = backbone.tensors
    try:
        file.entries()
    except ModelError:
        return "the backbone was opened without its weights"
    if not file.excluded:
        return "the weights do not name a classifier"
    if len(file.excluded) > 1:
        return f"the weights have {len(file.excluded)} classifiers, and no one of them speaks for the source"
    tensors = TensorFile(file.path, prefix=file.prefix + file.excluded[0]).load()
    if "weight" not in tensors:
        return "the weights come without the classifier that they were trained with"
    weight = tensors["weight"].double().numpy()
    weight = weight.reshape(len(weight), -1)  # a 1 x 1 convolution, in some models: (C, D, 1, 1) -> (C, D)
    bias = tensors["bias"].double().numpy() if "bias" in tensors else np.zeros(len(weight))
    if sorted(tensors) not in (["bias", "weight"], ["weight"]) or bias.shape != (len(weight),):
        return "the classifier in the weights is not linear"
    return SourceHead(weight, bias)


def source_confidence(logits: NDArray[np.float64], *, seed: int = 0) -> SourceConfidence:
    """Return mean energy and mean largest probability of logits (N, C), N >= 2, C >= 2.

    Softmax is overconfident far from the source: noise can raise it. So both are shown only, and decide nothing.

    Source:
        Energy: Liu et al. 2020, arXiv:2010.03759. Largest probability: Hendrycks and Gimpel 2017, arXiv:1610.02136.
    """
    highest = logits.max(axis=1)
    energy = -(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))
    likeliest = softmax(logits).max(axis=1)
    halves = halvings(len(logits), seed)
    return SourceConfidence(
        n_classes=logits.shape[1],
        energy=float(energy.mean()),
        energy_between_halves=_between(energy, halves),
        max_softmax=float(likeliest.mean()),
        max_softmax_between_halves=_between(likeliest, halves),
        n=len(logits),
    )


def _between(values: NDArray[np.float64], halves: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> float:
    return float(np.mean([abs(values[one].mean() - values[other].mean()) for one, other in halves]))
