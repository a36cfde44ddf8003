"""Ask torch for the devices of this machine and the precisions that they compute in."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import torch

from thawline.errors import UsageError
from thawline.records import Precision

if TYPE_CHECKING:
    pass


def resolve(precision: str, device: str) -> tuple[str, Precision]:
    """Replace ``auto`` by what this machine offers, and check that the device exists.

    Raises:
        UsageError: The device is not there.
    """
    here = [kind for kind, there in (("cuda", torch.cuda.is_available()), ("mps", torch.mps.is_available())) if there]
    here.append("cpu")
    chosen = here[0] if device == "auto" else device
    kind, _, number = chosen.partition(":")
    if kind not in here or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"device must be one that torch finds here ({', '.join(here)}); got {device!r}.")
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(kind) else "f32"
    return chosen, "bf16" if precision == "bf16" else "f32"


def _computes_in_bf16(kind: str) -> bool:
    """Tell whether the device has instructions for bfloat16, rather than emulating it."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
