"""Make what a stage trains on: features, activations from the boundary cache, or those of fresh views."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from thawline.backbones import POOLED
from thawline.features.boundary import Boundary, FreshActivations
from thawline.features.ragged import RaggedActivations, RaggedBoundary
from thawline.training.stage import Activations, Batches
from thawline.training_records import InputsReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from thawline.backbones import Backbone
    from thawline.backbones.cut import Cut
    from thawline.features.prepared import Samples
    from thawline.inputs.image.views import Views
    from thawline.listening import Watcher
    from thawline.records import Precision

BOUNDARY = "boundary"
"""Phase of progress while the boundary cache is filled."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureActivations:
    """Pooled features in memory: what crosses a line that stands above the whole backbone. There is one view only."""

    values: NDArray[np.float32]
    """(N, D) of all samples."""
    device: str

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield the features (B, D) of each batch."""
        for rows, _view in batches:
            yield (torch.from_numpy(self.values[rows]).to(self.device),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenBelow:
    """Makes the inputs of a stage with the layers below its thaw line."""

    samples: Samples
    backbone: Backbone
    views: Views
    features: NDArray[np.float32] | None
    """(N, D) of the frozen backbone, for a line above the whole of it."""
    device: str
    precision: Precision
    listener: Watcher
    """Hears of progress while the boundary is computed, and one sentence before: how much room it will take."""

    def __call__(
        self, model: nn.Module, cut: Cut, views: int, train: NDArray[np.int64], judged: NDArray[np.int64]
    ) -> tuple[Activations, InputsReport]:
        """Return what crosses the line of ``cut``, and where it came from."""
        if cut.rung == POOLED and self.features is not None:
            return FeatureActivations(self.features, self.device), InputsReport(kind="features")
        ragged = self.backbone.preparation.spec.pad is not None
        if not views:
            fresh: Activations = self._at(RaggedActivations if ragged else FreshActivations, model, cut)
            return fresh, InputsReport(kind="fresh")
        boundary: Boundary | RaggedBoundary = self._at(RaggedBoundary if ragged else Boundary, model, cut)
        forecast = boundary.forecast((train, range(views)), (judged, [None]))
        if forecast.to_compute:
            self.listener.note(str(forecast))
        progress = partial(self.listener.progress, BOUNDARY)
        made = [boundary.ensure(train, range(views), progress)]
        if len(judged):
            made.append(boundary.ensure(judged, [None], progress))
        record = InputsReport(
            kind="boundary",
            computed=sum(part.computed for part in made),
            reused=sum(part.reused for part in made),
            bytes=sum(part.bytes for part in made),
            made_from=made[0].made_from,
            seconds=sum(part.seconds for part in made),
        )
        return boundary, record

    def _at(self, made: Callable[..., Any], model: nn.Module, cut: Cut) -> Any:
        """Return what crosses the line of ``cut``: kept on disk, or computed whenever it is asked for."""
        return made(
            self.samples,
            self.backbone,
            model,
            cut.rung,
            self.views,
            precision=self.precision,
            device=self.device,
            cut=cut,
        )
