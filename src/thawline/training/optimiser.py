"""The optimiser of a stage: layers near the head learn fast, layers far from it slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from thawline.training.settings import TrainPlan


def build_optimiser(
    learning: Mapping[str, nn.Parameter],
    distance: Mapping[str, float],
    settings: TrainPlan,
    backbone_share: float = 1.0,
) -> torch.optim.Optimizer:
    """Make AdamW or SGD with one learning rate per layer.

    Args:
        learning: Parameters by name.
        distance: Layers from the head, by the same names; 0 for the head itself.
        settings: A parameter at distance d learns at ``lr * lr_decay ** d``. Vectors (biases, normalisation) do not
            decay.
        backbone_share: All but the head learn at this share of their rate.
    Returns:
        The optimiser; each group has its full rate under ``full_lr``.
    Source:
        Howard & Ruder 2018, arXiv:1801.06146 (discriminative rates).
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in learning.items():
        groups.setdefault((distance[name], parameter.ndim > 1), []).append(parameter)

    def rate_at(away: float) -> float:
        return settings.lr * float(settings.lr_decay**away) * (backbone_share if away else 1.0)

    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rate_at(away),
            "full_lr": rate_at(away),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (away, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in learning.values())
    if settings.optimiser == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(described, momentum=settings.momentum, nesterov=nesterov, fused=fused)
    return torch.optim.AdamW(described, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set every group to a share of its full rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_lr"] * share


def state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's memory as tensors named ``GROUP.PARAMETER.KIND``."""
    return {
        f"{g}.{p}.{kind}": value
        for g, group in enumerate(optimiser.param_groups)
        for p, parameter in enumerate(group["params"])
        for kind, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def load_state_tensors(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a new optimiser the memory of the one that was stopped."""
    for name, value in tensors.items():
        g, p, kind = name.split(".")
        parameter = optimiser.param_groups[int(g)]["params"][int(p)]
        # In the layout of the parameter, such as channels-last: fused optimisers read memory in its order.
        shaped = value.shape == parameter.shape
        own = torch.empty_like(parameter) if shaped else torch.empty_like(value, device=parameter.device)
        optimiser.state[parameter][kind] = own.copy_(value)
