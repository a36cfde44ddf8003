"""The torch engine: any device, float32 or bfloat16."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thawline.engines.arithmetic import arithmetic, one_thread, padded_size
from thawline.engines.choices import check_batch
from thawline.engines.converting.batch_norm import folded
from thawline.engines.devices import resolve
from thawline.engines.lengths import TOGETHER, TOKENS_AT_ONCE, run_by_length
from thawline.inputs import kind_of
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.processors import usable_processors

if TYPE_CHECKING:
    from thawline.backbones import Backbone


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
        """Build the backbone and move it to the device, in place and value for value.

        In f32 a copy runs, with its batch norms folded into its convolutions.

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
        preparation, kind = backbone.preparation, kind_of(backbone.preparation.kind)
        self._to_tensors = kind.to_tensors(preparation, self._device)
        if self.precision == "f32":
            examples = self._to_tensors(torch.from_numpy(kind.stand_ins(2, preparation)).to(self._device))
            with one_thread(self._device):
                module = folded(module, examples, keep=[backbone.reading(rung).layer for rung in rungs])
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        backbone.reader(rungs, module)  # refuses an unknown layer now, not in the first batch
        self._open = lambda: backbone.reader(rungs, _sharing_weights(module))
        self._own = threading.local()
        self._spec = preparation.spec
        self.together = 0 if self._spec.pad is None else TOGETHER
        self.widths: tuple[int, ...] = ()

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Prepared samples (B, *spec.shape) -> features float32 (B, D), those of several rungs side by side.

        A sample's bits do not depend on its neighbours.
        """
        check_batch(batch, self._spec)
        if self._spec.pad is not None:
            at_once = TOKENS_AT_ONCE * (1 if self._device.type == "cpu" else 32)
            return run_by_length(batch, self._spec.pad, at_once, self._run)
        padding = np.repeat(batch[-1:], padded_size(len(batch)) - len(batch), axis=0)
        return self._run(np.concatenate([batch, padding]))[: len(batch)]

    def _run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Samples of one shape -> features (B, D)."""
        full = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        with one_thread(self._device), torch.inference_mode(), arithmetic(self._device, self.precision):
            features = self._reader()(self._to_tensors(full))  # (B, D) for each rung
        self.widths = tuple(rows.shape[1] for rows in features)
        values: NDArray[np.float32] = torch.cat([rows.float() for rows in features], dim=1).cpu().numpy()
        return values

    def _reader(self) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Return this thread's reader, on its own modules: hooks on shared ones would catch other threads' batches."""
        if not hasattr(self._own, "reader"):
            self._own.reader = self._open()  # type: ignore[no-untyped-call]
        reader: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = self._own.reader
        return reader


def _sharing_weights(module: nn.Module) -> nn.Module:
    """Copy the layers; the copy shares their parameters and buffers."""
    kept = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, kept)
