"""Compute activations at the thaw line: prepared views of samples, run through the layers below it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
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
from thawline.features.folding import folded
from thawline.features.layout import InputLayout, Layout, TensorLayout, empty_rows
from thawline.features.prepared import Samples, read_sample
from thawline.inputs import kind_of
from thawline.inputs.image.views import Views
from thawline.records import Precision, Preparation
from thawline.scale import executor
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.processors import usable_processors
from thawline.scale.threads import Crew

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone

BATCH = 32
"""Rows that are given to frozen layers at once."""
_PASS_NUMBERS = 4 * 3 * 224 * 224
"""Of the input, in one pass on a processor: what a pass computes should stay in its caches."""
_PASS_ROWS = 4, 8
"""Fewest and most rows in one pass on a processor. With fewer, calling the layers outweighs their work; with more,
there are not enough passes in a batch for all processors."""
_PASS_TOKENS = {"cpu": (256, _PASS_ROWS[1]), "else": (16_384, 256)}
"""Of texts, in one pass: tokens, and rows at most, on a processor and elsewhere. One long text is a pass alone."""

Batches = Sequence[tuple[NDArray[np.int64], "int | None"]]
"""(rows (B,) of the samples, number of the view or None for the picture itself), one after the other."""


class FrozenPart:
    """The layers between two lines, run without gradients in passes of one size.

    On a processor, several passes run side by side, each in one thread: no thread waits for another after each layer,
    and the number of processors changes no bit.

    Attributes:
        device: Where it runs.
        start: How the rows lie that it is given.
        crew: Threads that run its passes; None if it does not run on a processor.
    """

    def __init__(
        self,
        layers: Prefix | None,
        start: Layout,
        rung: str,
        *,
        precision: Precision,
        device: str,
        pass_rows: int = _PASS_ROWS[1],
        end: TensorLayout | None = None,
        crew: Crew | None = None,
    ) -> None:
        """Work out the rows that come out, without running anything.

        Args:
            layers: From the tensors at the lower line to those at the upper one; None where the two are one.
            start: At the lower line.
            rung: At the upper line.
            precision: What to compute and to round the rows to.
            device: Where the layers are.
            pass_rows: Rows in one pass; see ``pass_rows_of``.
            end: How rows lie at the upper line, if that is known already.
            crew: Threads that run passes on a processor; by default this part has its own.
        Raises:
            ModelError: What crosses the upper line cannot be kept.
        """
        self.device = torch.device(device)
        self.start = start
        if self.device.type == "cpu":
            keep_freed_memory()
        self._layers, self._precision = layers, precision
        self._packed = None if layers is None else end or self._outline(layers, rung)
        self._on_processor = self.device.type == "cpu"
        self._pass_rows = pass_rows
        self.crew = (crew or Crew(usable_processors(), name="thawline-frozen")) if self._on_processor else None

    @property
    def end(self) -> Layout:
        """How the rows lie that it gives."""
        return self._packed or self.start

    @property
    def at_once(self) -> int:
        """Rows to give it at once."""
        return max(BATCH, self._pass_rows)

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, ...) at the lower line, n > 0, anywhere -> rows (n, ...) at the upper line, on the device.

        A row's bits do not depend on the rows beside it.
        """
        if self._layers is None:
            return rows.to(self.device)
        layers, passes = self._ready, torch.split(rows, self._pass_rows)
        if self.crew is None:
            return torch.cat([self._run(layers, part) for part in passes])

        def alone(part: torch.Tensor) -> torch.Tensor:
            if torch.get_num_threads() != 1:  # of this thread
                torch.set_num_threads(1)
            return self._run(layers, part)

        try:
            return torch.cat(self.crew.each(alone, passes))
        finally:
            torch.set_num_threads(torch.get_num_threads())  # a new thread begins with what was set last in any thread

    @cached_property
    def _ready(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The layers as they run: made when they first do, since all rows may be stored."""
        assert self._layers is not None
        if not self._on_processor:
            return self._layers
        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
        return folded(self._layers, self.start.examples(2), dtype)

    def _run(self, layers: Callable[..., tuple[torch.Tensor, ...]], rows: torch.Tensor) -> torch.Tensor:
        assert self._packed is not None
        n = len(rows)
        # Torch chooses kernels by shape: without padding, a sample's bits would depend on the size of its pass.
        full = empty_rows(self._pass_rows, self.start, self.device)
        full[:n] = rows
        full[n:] = full[n - 1]
        with torch.no_grad(), arithmetic(self.device, self._precision):
            return self._packed.pack(layers(*self.start.tensors(full)))[:n]

    def _outline(self, layers: Prefix, rung: str) -> TensorLayout:
        """Work out shapes, strides and types of the result, without numbers."""
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), arithmetic(self.device, self._precision):
            crossing = layers(*self.start.tensors(empty_rows(BATCH, self.start, self.device)))
        return TensorLayout.of(crossing, self._precision, rung)


def frozen_part(
    cut: Cut,
    preparation: Preparation,
    *,
    precision: Precision,
    device: str,
    end: TensorLayout | None = None,
    crew: Crew | None = None,
) -> FrozenPart:
    """Everything below a line: from prepared samples to what crosses it. At ``input`` nothing is run.

    Args:
        end, crew: As for ``FrozenPart``.
    Raises:
        ModelError: What crosses the line cannot be kept.
    """
    layers = None if cut.rung == INPUT else cut.prefix
    start, rows = InputLayout.of(preparation, torch.device(device)), pass_rows_of(preparation, device)
    return FrozenPart(layers, start, cut.rung, precision=precision, device=device, pass_rows=rows, end=end, crew=crew)


def pass_rows_of(preparation: Preparation, device: str) -> int:
    """Return how many rows run in one pass: the same for all layers of a backbone.

    With other sizes below and above a lower line, its rows might not be carried on to the same bits.
    """
    on_processor, numbers = torch.device(device).type == "cpu", math.prod(preparation.spec.shape)
    if preparation.spec.pad is not None:
        tokens, most = _PASS_TOKENS["cpu" if on_processor else "else"]
        return min(max(tokens // numbers, 1), most)
    if not on_processor:
        return BATCH
    least, most = _PASS_ROWS
    return most if _PASS_NUMBERS // numbers >= most else least


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
        began = loaded.get(name, torch.zeros_like(tensor, device="cpu"))  # without a counter of batches, it is 0
        if not torch.equal(began.to(tensor.dtype), tensor.cpu()):
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
