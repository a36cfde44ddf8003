"""What is tried because classes have few samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawline.training.settings import TrainAsk

FEW_OF_CLASS = 50
"""With fewer samples a class, in the mean, training by pairs is tried beside the cross-entropy. Its authors found its
lead to shrink up to 64 samples a class (Tunstall et al. 2022, arXiv:2209.11055), where a second trial costs more."""
LEAST_OF_CLASS = 2
"""With fewer samples a class, in the mean, there are too few pairs of one class."""


def worth_pairs(kind: str, of_class: float, asked: TrainAsk) -> bool:
    """Whether training by pairs is tried without being asked for: on texts, where classes have few samples.

    Args:
        kind: Of the samples, a name in ``inputs.KINDS``.
        of_class: Samples to learn from a class, in the mean.
        asked: Settings of training that were asked for; an objective among them is the decision.
    """
    own = {"objective", "mixup", "cutmix", "accumulate", "class_weights"}
    return kind == "text" and LEAST_OF_CLASS <= of_class < FEW_OF_CLASS and not own & asked.model_fields_set
