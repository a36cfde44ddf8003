"""Run the frozen backbone on a few samples once, and keep what the measures of similarity need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.planning.norm_shift import NormInputs
from thawline.randomness import generator

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones import Backbone
    from thawline.records import Dataset

_BATCH = 4
"""Pictures at a time: the moments of what is still in the processor's cache take two thirds of the time."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a backbone made of N samples."""

    norms: tuple[NormInputs, ...]
    """Inputs of each batch norm, in the order in which they ran; empty if the model has none."""
    features: Mapping[str, NDArray[np.float32]]
    """Rung -> (N, D)"""


def draw_pictures(
    data: Dataset, rows: NDArray[np.int64], backbone: Backbone, n: int, *, seed: int = 0
) -> NDArray[np.uint8]:
    """Draw up to ``n`` of the rows by ``seed``, one of each group, and prepare them: (B, *spec.shape).

    Raises:
        DataError: A sample cannot be read any more, or has changed, since the data was opened.
    """
    from thawline.features.prepared import PreparedSamples

    drawn = generator(seed, "pictures to look at").permutation(np.asarray(rows, dtype=np.int64))
    of_each_group = np.sort(np.unique(data.groups[drawn], return_index=True)[1])[:n]
    prepared = PreparedSamples(data, backbone.preparation)
    pictures = [prepared.of(row) for row in drawn[of_each_group].tolist()]
    return (
        np.stack(pictures)
        if pictures
        else np.empty((0, *backbone.preparation.spec.shape), dtype=backbone.preparation.spec.dtype)
    )


def observe(backbone: Backbone, pictures: NDArray[np.uint8], rungs: Sequence[str] = ("pooled",)) -> Observation:
    """Run the backbone in float32, in inference mode, and change nothing in it.

    Args:
        pictures: (N, *spec.shape), N > 0, as the preparation leaves them.
        rungs: Where to read features; ``pooled`` must be among them, so that the whole backbone runs.
    Raises:
        ModelError: The backbone cannot be built, or has no such rung.
    """
    import torch

    from thawline.engines.arithmetic import arithmetic, one_thread
    from thawline.inputs import kind_of

    module = backbone.module()
    device = next(module.parameters()).device
    preparation = backbone.preparation
    to_tensors, read = kind_of(preparation.kind).to_tensors(preparation, device), backbone.reader(rungs)
    watch = _NormWatch(module)
    features: list[tuple[NDArray[np.float32], ...]] = []
    try:
        with one_thread(device), torch.inference_mode(), arithmetic(device, "f32"):
            for start in range(0, len(pictures), _BATCH):
                batch = torch.from_numpy(pictures[start : start + _BATCH]).to(device)
                watch.begin(len(batch))
                features.append(tuple(values.float().cpu().numpy() for values in read(to_tensors(batch))))
    finally:
        watch.end()
    joined = {rung: np.concatenate(parts) for rung, parts in zip(rungs, zip(*features, strict=True), strict=True)}
    return Observation(watch.inputs(len(pictures)), joined)


class _NormWatch:
    """Takes the moments of the inputs of each batch norm, sample by sample."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._seen: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        self._this_batch: set[str] = set()
        self._n = 0
        self._hooks = [
            layer.register_forward_pre_hook(self._catch(name))
            for name, layer in module.named_modules()
            if _remembers(layer)
        ]

    def begin(self, n: int) -> None:
        self._n = n
        self._this_batch = set()

    def end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def inputs(self, n: int) -> tuple[NormInputs, ...]:
        """Return the inputs of the norms that saw each of ``n`` samples."""
        return tuple(self._inputs(name) for name, seen in self._seen.items() if sum(len(m) for m, _ in seen) == n)

    def _catch(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            values = arguments[0]
            # skips layers that take patches as a batch of their own or run twice: not one row for each sample
            if len(values) == self._n and name not in self._this_batch:
                self._this_batch.add(name)
                self._seen.setdefault(name, []).append(_moments(values))

        return hook

    def _inputs(self, name: str) -> NormInputs:
        layer: Any = self._module.get_submodule(name)
        means, squares = (np.concatenate(parts) for parts in zip(*self._seen[name], strict=True))
        mean, variance = layer.running_mean.double().cpu().numpy(), layer.running_var.double().cpu().numpy()
        return NormInputs(name, means, squares, mean, variance + layer.eps)


def _remembers(layer: nn.Module) -> bool:
    """Whether a layer is a batch norm with stored statistics, of whatever class."""
    import torch

    return isinstance(getattr(layer, "running_mean", None), torch.Tensor) and hasattr(layer, "eps")


def _moments(values: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and mean square (B, C) over the positions of (B, C, ...)."""
    values = values.float()
    positions = tuple(range(2, values.ndim))
    both = (values, values.square())
    mean, square = (v.mean(positions) if positions else v for v in both)  # (B, C)
    return mean.double().cpu().numpy(), square.double().cpu().numpy()
