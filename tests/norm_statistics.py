"""Batch norms as training leaves them."""

from __future__ import annotations

import torch
from torch import nn


def with_statistics(module: nn.Module) -> nn.Module:
    """Give the batch norms of a module running statistics that differ from channel to channel; for prediction."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        if name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module.eval()
