"""How large the first step of the backbone may be: weights of some models are so small that the usual one spoils them.

AdamW moves every weight by the learning rate at first, whatever its size. The rate that suits one library's weights
tears those of another: of the models that the default rate was measured on, a quarter of such a step lowers the loss of
a solved head; of torchvision's MobileNetV2 and of Keras's MobileNet it multiplies it. So the step is tried before any
training, and the backbone's rate halved until the step does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thawline.engines.arithmetic import repeatable
from thawline.features.prepared import PreparedSamples
from thawline.inputs import kind_of
from thawline.training.losses import guessing_loss, loss_of
from thawline.training.ragged import cut_to_longest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.records import Dataset
    from thawline.training.net import Above
    from thawline.training.settings import TrainPlan

N_SAMPLES = 32
"""Samples of the training set, evenly spread, whose loss is looked at."""
_TRIED = 0.25
"""Share of the full step that must do no harm: later steps of AdamW are smaller than its first, and the rate rises."""
_HARM = 0.15
"""Rise of the loss, of that of guessing among the classes, that counts as none: the loss of few samples is noisy."""
_LEAST = 1 / 64
"""Smallest share that is tried."""


def safe_share(
    above: Above,
    data: Dataset,
    rows: NDArray[np.int64],
    backbone: Backbone,
    n_classes: int,
    settings: TrainPlan,
    *,
    truth: NDArray[Any] | None = None,
) -> float:
    """Return the share of the learning rate at which the backbone may learn: 1, or less by halves.

    Args:
        above: The net with its solved head, whose values are put back.
        rows: Those to learn from.
        backbone: Says how samples are prepared.
        truth: Of all samples, as ``TrainingSetup.labels``; by default their classes.
    Source:
        The backtracking line search: Armijo 1966, Pacific Journal of Mathematics 16 (1), here along the first step of
        Adam (Kingma & Ba 2015, arXiv:1412.6980), whose size is the rate.
    """
    some = rows[np.unique(np.linspace(0, len(rows) - 1, N_SAMPLES).round().astype(int))]
    device = next(iter(above.learning.values())).device
    prepared = PreparedSamples(data, backbone.preparation)
    samples = torch.from_numpy(np.stack([prepared.of(int(row)) for row in some])).to(device)
    (samples,) = cut_to_longest((samples,), backbone.preparation.spec.pad)
    labels = torch.from_numpy(np.asarray(data.labels if truth is None else truth)[some]).to(device)
    names = [name for name, away in above.distance.items() if away]
    weights = [above.learning[name] for name in names]
    rates = [settings.lr * settings.lr_decay ** above.distance[name] for name in names]
    above.eval()
    with repeatable(device):
        crossing = above.cut.prefix(
            kind_of(backbone.preparation.kind).to_tensors(backbone.preparation, device)(samples)
        )

        def loss() -> torch.Tensor:
            return loss_of(above.logits(crossing), labels, smoothing=settings.label_smoothing)

        before = loss()
        gradients = torch.autograd.grad(before, weights, allow_unused=True)
        signs = [None if gradient is None else gradient.sign() for gradient in gradients]
        most = float(before.detach()) + _HARM * guessing_loss(labels, n_classes)
        start = [weight.detach().clone() for weight in weights]
        share = 1.0
        while share > _LEAST and not _loss_after(loss, weights, start, signs, rates, _TRIED * share) <= most:
            share /= 2
    return share


@torch.no_grad()
def _loss_after(
    loss: Callable[[], torch.Tensor],
    weights: Sequence[torch.Tensor],
    start: Sequence[torch.Tensor],
    signs: Sequence[torch.Tensor | None],
    rates: Sequence[float],
    share: float,
) -> float:
    """Return the loss after a share of a step, and put the weights back."""
    for weight, sign, rate in zip(weights, signs, rates, strict=True):
        if sign is not None:
            weight.sub_(sign, alpha=rate * share)
    after = float(loss())
    for weight, began in zip(weights, start, strict=True):
        weight.copy_(began)
    return after
