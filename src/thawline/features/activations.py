"""Compute activations at the thaw line: prepared views of samples, run through the layers below it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import FakeTensorMode

from thawline.backbones.cut import Cut, Prefix
from thawline.backbones.cut import cut as cut_at
from thawline.backbones.names import INPUT
from thawline.engines.arithmetic import arithmetic
from thawline.errors import ModelError
from thawline.features.layout import InputLayout, Layout, TensorLayout, empty_rows
from thawline.features.prepared import Samples, read_sample
from thawline.inputs import kind_of
from thawline.inputs.image.views import Views
from thawline.records import Precision, Preparation
from thawline.scale import executor
from thawline.scale.allocator import keep_freed_memory

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone

BATCH = 32
"""Rows in every run of frozen layers; a smaller batch is padded. Torch chooses kernels by shape, so without padding a
sample's bits would depend on the size of its batch."""

Batches = Sequence[tuple[NDArray[np.int64], "int | None"]]
"""(rows (B,) of the samples, number of the view or None for the picture itself), one after the other."""


class FrozenPart:
    """The layers between two lines, run without gradients in batches of one size.

    Attributes:
        device: Where it runs.
        start: How the rows lie that it is given.
    """

    def __init__(self, layers: Prefix | None, start: Layout, rung: str, *, precision: Precision, device: str) -> None:
        """Work out the rows that come out, without running anything.

        Args:
            layers: From the tensors at the lower line to those at the upper one; None where the two are one.
            start: At the lower line.
            rung: At the upper line.
            precision: What to compute and to round the rows to.
            device: Where the layers are.
        Raises:
            ModelError: What crosses the upper line cannot be kept.
        """
        self.device = torch.device(device)
        self.start = start
        if self.device.type == "cpu":
            keep_freed_memory()
        self._layers, self._precision = layers, precision
        self._packed = None if layers is None else self._outline(layers, rung)

    @property
    def end(self) -> Layout:
        """How the rows lie that it gives."""
        return self._packed or self.start

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, ...) at the lower line, n > 0, anywhere -> rows (n, ...) at the upper line, on the device.

        A row's bits do not depend on the rows beside it.
        """
        if self._layers is None or self._packed is None:
            return rows.to(self.device)
        return torch.cat([self._run(self._layers, self._packed, batch) for batch in torch.split(rows, BATCH)])

    def _run(self, layers: Prefix, packed: TensorLayout, rows: torch.Tensor) -> torch.Tensor:
        n = len(rows)
        full = empty_rows(BATCH, self.start, self.device)
        full[:n] = rows
        full[n:] = full[n - 1]
        with torch.no_grad(), arithmetic(self.device, self._precision):
            return packed.pack(layers(*self.start.tensors(full)))[:n]

    def _outline(self, layers: Prefix, rung: str) -> TensorLayout:
        """Work out shapes, strides and types of the result, without numbers."""
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), arithmetic(self.device, self._precision):
            crossing = layers(*self.start.tensors(empty_rows(BATCH, self.start, self.device)))
        return TensorLayout.of(crossing, self._precision, rung)


def frozen_part(cut: Cut, preparation: Preparation, *, precision: Precision, device: str) -> FrozenPart:
    """Everything below a line: from prepared samples to what crosses it. At ``input`` nothing is run.

    Raises:
        ModelError: What crosses the line cannot be kept.
    """
    layers = None if cut.rung == INPUT else cut.prefix
    start = InputLayout.of(preparation, torch.device(device))
    return FrozenPart(layers, start, cut.rung, precision=precision, device=device)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedViews:
    """Any view of any sample, prepared. Safe to use from several threads."""

    samples: Samples
    preparation: Preparation
    views: Views

    def read(self, row: int, views: Sequence[int | None]) -> torch.Tensor:
        """Read a sample once for several views: rows (n_views, numbers of one view).

        Raises:
            DataError: The sample cannot be read any more, or has changed; names the file.
        """
        seeds = [self.views.sample_seed(view, self.samples.digests[row]) for view in views]
        prepare = kind_of(self.preparation.kind).views
        prepared = read_sample(
            self.samples, row, lambda payload: prepare(payload, self.preparation, self.views.augmentation, seeds)
        )
        return torch.from_numpy(np.stack(prepared)).flatten(1)


def check_untouched(prefix: Prefix, backbone: Backbone, rung: str) -> None:
    """Refuse layers below a line that are not as they were loaded: their activations would be stored as the backbone's.

    Raises:
        ModelError: Names the tensor that differs.
    """
    below = prefix.layers.state_dict()
    loaded = backbone.tensors.load() if below else {}  # with nothing below, weights need not even be there
    for name, tensor in below.items():
        if not torch.equal(loaded[name].to(tensor.dtype), tensor.cpu()):
            raise ModelError(
                f"{backbone.name} has changed below the thaw line at {rung!r} since it was loaded: {name}. "
                "Open the backbone again."
            )


class FreshActivations:
    """Activations at a thaw line, computed anew each time: any number of views, and nothing on disk.

    The tensors are bit for bit those of ``Boundary``.
    """

    def __init__(
        self,
        samples: Samples,
        backbone: Backbone,
        model: nn.Module,
        rung: str,
        views: Views,
        *,
        precision: Precision,
        device: str,
        cut: Cut | None = None,
    ) -> None:
        """Prepare to compute; see ``Boundary`` for the arguments.

        Raises:
            ModelError: No such rung, or layers below it that have been trained.
        """
        cut = cut or cut_at(model, rung, signature=backbone.signature)
        check_untouched(cut.prefix, backbone, rung)
        self._prepared = PreparedViews(samples, backbone.preparation, views)
        self._part = frozen_part(cut, backbone.preparation, precision=precision, device=device)

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each batch, the tensors (B, ...) that cross the line, on the device.

        Samples are decoded by other threads while a batch is used. Memory stays flat, however many batches there are.
        Wrap it in ``contextlib.closing`` where it may not be read to its end.

        Raises:
            DataError: A sample cannot be read any more, or has changed; names the file.
        """
        if not batches:
            return
        lengths = [len(rows) for rows, _ in batches]
        rows, ends = np.concatenate([rows for rows, _ in batches]), np.cumsum(lengths)

        def decode(position: int) -> torch.Tensor:
            _, view = batches[int(np.searchsorted(ends, position, side="right"))]
            return self._prepared.read(int(rows[position]), [view])

        ahead = -(-max(lengths) // BATCH) * BATCH
        parts = executor().pipelined(range(len(rows)), decode, self._run, batch_size=ahead)
        ready = empty_rows(0, self._part.end, self._part.device)
        with closing(parts):
            for length in lengths:
                while len(ready) < length:
                    ready = torch.cat([ready, next(parts)[1]])
                batch, ready = ready[:length], ready[length:]
                yield self._part.end.tensors(batch.clone())  # aligned, as a batch that was read from a file is

    def _run(self, prepared: list[torch.Tensor]) -> torch.Tensor:
        return self._part.run(torch.cat(prepared))
