"""Torch contexts for repeatable arithmetic: precision, one processor, the same bits every time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_FULL = 32


_usual_threads = torch.get_num_threads()


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one processor, in this thread: sums are then added in the same order however many there are.

    The context restores the number that torch began with: other threads may be inside as well.
    """
    if device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_usual_threads)


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let the same input give the same bits: cuDNN would round float32 to TF32, and pick kernels by timing them."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Compute repeatably, in f32 or in bf16 (weights stay float32; convolutions and products run in bfloat16)."""
    with repeatable(device), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def padded_size(n: int) -> int:
    """Return the size to which a batch of ``n`` is padded: a multiple of 32.

    Torch chooses kernels by shape, and those for small batches add up in another order. Without the padding, the
    last bits of a sample would depend on the size of its batch.
    """
    return -(-n // _FULL) * _FULL
