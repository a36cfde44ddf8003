"""The torch engine: any device, float32 or bfloat16."""

from __future__ import annotations

import contextlib
import copy
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thawline.errors import UsageError
from thawline.features.calibration import stand_ins
from thawline.features.folding import folded
from thawline.records import Precision
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.processors import usable_processors

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Preprocessing

_FULL = 32


class TorchEngine:
    """Runs a backbone with torch, channels-last, under inference mode."""

    name = "torch"
    at_once: int | None = None

    def __init__(
        self,
        backbone: Backbone,
        rungs: str | Sequence[str] = "pooled",
        *,
        precision: str = "auto",
        device: str = "auto",
    ) -> None:
        """Build the backbone and move it, in place and value for value, to where it runs.

        In f32 a copy of it runs, with its batch norms folded into its convolutions.

        Args:
            rungs: One, or several that are read in one pass.
            precision: ``auto``, ``f32`` or ``bf16`` (weights stay float32; convolutions and products run in bfloat16).
            device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        Raises:
            UsageError: The device is not there.
            ModelError: The backbone cannot be built, or has no such rung.
        """
        self.device, self.precision = resolve(precision, device)
        self._device = torch.device(self.device)
        self.workers = usable_processors() if self._device.type == "cpu" else 1
        if self._device.type == "cpu":
            keep_freed_memory()
        rungs = (rungs,) if isinstance(rungs, str) else tuple(rungs)
        module = backbone.module().to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalise = Normalise(backbone.preprocessing, self._device)
        if self.precision == "f32":
            pictures = stand_ins(2, backbone.preprocessing.input_px)
            images = self._normalise(torch.from_numpy(pictures).to(self._device))
            with one_thread(self._device):
                module = folded(module, images, keep=rungs)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        backbone.reader(rungs, module)  # refuses an unknown layer now, not in the first batch
        self._open = lambda: backbone.reader(rungs, _sharing_weights(module))
        self._own = threading.local()
        self._shape = (*backbone.preprocessing.input_px, 3)
        self.widths: tuple[int, ...] = ()

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels uint8 (B, H, W, 3) -> features float32 (B, D), those of several rungs side by side.

        A sample's bits do not depend on its neighbours.
        """
        if batch.dtype != np.uint8 or batch.shape[1:] != self._shape or not len(batch):
            shape = ", ".join(map(str, self._shape))
            raise ValueError(f"batch must be uint8 (B, {shape}) with B > 0; got {batch.dtype} {batch.shape}")
        padding = np.repeat(batch[-1:], padded_size(len(batch)) - len(batch), axis=0)
        pixels = torch.from_numpy(np.concatenate([batch, padding])).to(self._device)
        with one_thread(self._device), torch.inference_mode(), arithmetic(self._device, self.precision):
            features = self._reader()(self._normalise(pixels))  # (B, D) for each rung
        self.widths = tuple(rows.shape[1] for rows in features)
        values: NDArray[np.float32] = torch.cat([rows[: len(batch)].float() for rows in features], dim=1).cpu().numpy()
        return values

    def _reader(self) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Each thread reads layers by hooks on modules of its own: on shared ones it would also hear of the others'."""
        if not hasattr(self._own, "reader"):
            self._own.reader = self._open()  # type: ignore[no-untyped-call]
        reader: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = self._own.reader
        return reader


def _sharing_weights(module: nn.Module) -> nn.Module:
    """A copy of the layers that has the very same parameters and buffers."""
    kept = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, kept)


_usual_threads = torch.get_num_threads()


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one processor, in this thread: sums are then added in the same order however many there are.

    The number that is put back is what torch began with, not what was found: other threads may be in here as well.
    """
    if device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_usual_threads)


class Normalise:
    """Pixels as a backbone was trained to see them."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels uint8 (B, H, W, 3) -> images float32 (B, 3, H, W), channels-last as they are."""
        images = pixels.permute(0, 3, 1, 2).float().div(255)  # (B, H, W, 3) -> (B, 3, H, W)
        return images.sub(self._mean).div(self._std)


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
    """Compute in bf16 (weights stay float32; convolutions and products run in bfloat16) or f32, the same every time."""
    with repeatable(device), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def padded_size(n: int) -> int:
    """Size that a batch of ``n`` is filled up to: a multiple of 32.

    Kernels are chosen by shape, and for smaller batches other ones are taken that add up in another order: the same
    picture would get other last bits alone than among others.
    """
    return -(-n // _FULL) * _FULL


def resolve(precision: str, device: str) -> tuple[str, Precision]:
    """Replace ``auto`` by what it means here and check that the device is there.

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
    """Whether bfloat16 has instructions of its own here, rather than being emulated."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
