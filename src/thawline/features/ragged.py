"""Activations at a thaw line of samples that are shorter than their spec: texts.

Each sample is filled up to a rounded length of its own (``inputs.lengths``), never to its neighbours', and is kept in
as many numbers as that takes. For each rounded length there is a ``Boundary`` of a backbone that takes samples of that
length. A batch is gathered from all of them, and filled up with zeros to its longest sample: layers of a text backbone
give exactly 0 where there is no token, and see from that where there is none.

Texts are not augmented: every view of a text is the text.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from thawline.backbones.cut import Cut
from thawline.backbones.cut import cut as cut_at
from thawline.features.activations import (
    BATCH,
    Batches,
    FrozenPart,
    PreparedViews,
    check_untouched,
    frozen_part,
)
from thawline.features.boundary import (
    READERS,
    Boundary,
    BoundaryForecast,
    BoundaryReport,
    Part,
    check_room,
    free_bytes,
    in_memory,
)
from thawline.features.layout import Layout, TensorLayout
from thawline.features.prepared import Samples
from thawline.features.text_lengths import rounded_lengths
from thawline.inputs.image.views import Views
from thawline.inputs.lengths import lengths_of, rounded_length
from thawline.listening import Progress
from thawline.records import Precision, Preparation, TextPreparation
from thawline.scale import executor
from thawline.store.store import FeatureStore

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone

_AHEAD = 256
"""Samples that are run ahead at once: fewer would leave too few of each length."""


class _Group(NamedTuple):
    """Samples of a batch that have one rounded length."""

    places: torch.Tensor
    """(n,) in the batch."""
    rows: torch.Tensor
    """(n, numbers)"""
    layout: Layout


class _Parts:
    """Everything below a line, for each rounded length: one set of threads runs them all."""

    def __init__(self, cut: Cut, preparation: Preparation, precision: Precision, device: str) -> None:
        assert isinstance(preparation, TextPreparation)
        self._cut, self._preparation, self._precision, self._device = cut, preparation, precision, device
        self.pad = preparation.pad
        self._made: dict[int, FrozenPart] = {}

    def of(self, length: int) -> FrozenPart:
        """Return the part that takes samples of one length."""
        if length not in self._made:
            known = next(iter(self._made.items()), None)
            self._made[length] = frozen_part(
                self._cut,
                replace(self._preparation, length=length),
                precision=self._precision,
                device=self._device,
                end=None if known is None else _with_length(known[1].end, known[0], length),
                crew=None if known is None else known[1].crew,
            )
        return self._made[length]


def _with_length(layout: Layout, was: int, now: int) -> TensorLayout | None:
    """Return the layout of other samples, from that of samples of one length; None at ``input``."""
    if not isinstance(layout, TensorLayout):
        return None
    shapes = tuple((now, *shape[1:]) if shape[0] == was and len(shape) > 1 else shape for shape in layout.shapes)
    return replace(layout, shapes=shapes)


class RaggedBoundary:
    """A ``Boundary`` of samples of any length."""

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
        store: FeatureStore | None = None,
        cut: Cut | None = None,
    ) -> None:
        """Prepare to compute; see ``Boundary`` for the arguments.

        Raises:
            ModelError: No such rung, or what crosses it cannot be kept.
        """
        self._samples, self._backbone, self._model, self._views = samples, backbone, model, views
        self._precision, self._device = precision, device
        self._store = store or FeatureStore()
        self._cut = cut or cut_at(model, rung, signature=backbone.signature)
        self._parts = _Parts(self._cut, backbone.preparation, precision, device)
        self._pad = self._parts.pad
        self._lengths = np.zeros(len(samples.digests), np.int64)
        self._inner: dict[int, Boundary] = {}

    def forecast(self, *parts: Part) -> BoundaryForecast:
        """Forecast what ``ensure`` would have to make; see ``Boundary.forecast``. Rows are of ``bytes_per_row`` in the
        mean.

        Raises:
            DataError, StorageError: As ``text_lengths.rounded_lengths``.
        """
        rows = np.unique(np.concatenate([np.asarray(rows, np.int64) for rows, _ in parts]))
        of_each = [self._of(length).forecast((own, [None])) for length, own in self._by_length(rows)]
        to_compute = sum(each.to_compute for each in of_each)
        return BoundaryForecast(
            stored=sum(each.stored for each in of_each),
            to_compute=to_compute,
            bytes_per_row=-(-sum(each.bytes for each in of_each) // max(to_compute, 1)),
            free_bytes=free_bytes(self._store.root),
        )

    def ensure(
        self, rows: Sequence[int] | NDArray[np.int64], views: Iterable[int | None], progress: Progress | None = None
    ) -> BoundaryReport:
        """Make what is not stored yet of these samples; see ``Boundary.ensure``.

        Raises:
            DataError, ModelError, StorageError: As ``Boundary.ensure``.
        """
        started = time.perf_counter()
        rows = np.asarray(rows, np.int64)
        forecast = self.forecast((rows, views))
        if forecast.to_compute:
            check_room(forecast.bytes, self._store, self._cut.rung, "Use activations that are not kept")
            check_untouched(self._cut.prefix, self._backbone, self._cut.rung)
        reports: list[BoundaryReport] = []
        for length, own in self._by_length(rows):
            done = sum(report.computed for report in reports)
            reports.append(self._of(length).ensure(own, [None], _beginning_at(done, forecast.to_compute, progress)))
        origins = dict.fromkeys(report.made_from for report in reports if report.computed)
        return BoundaryReport(
            computed=sum(report.computed for report in reports),
            reused=sum(report.reused for report in reports),
            made_from=" and ".join(origins) or "store",
            bytes=sum(report.bytes for report in reports),
            seconds=time.perf_counter() - started,
        )

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each batch, the tensors (B, L, ...) that cross the line; see ``Boundary.stream``.

        Raises:
            KeyError: A row that ``ensure`` was not asked for.
            DataError, StorageError: As ``text_lengths.rounded_lengths``.
        """
        if not batches:
            return
        rows = np.unique(np.concatenate([rows for rows, _ in batches]))
        found = {length: self._of(length).found(None) for length, _ in self._by_length(rows)}
        device = torch.device(self._device)

        def read(batch: tuple[NDArray[np.int64], int | None]) -> list[_Group]:
            lengths = self._lengths[batch[0]]
            groups = []
            for length in np.unique(lengths).tolist():
                places = np.flatnonzero(lengths == length)
                values = in_memory(found[length].read(batch[0][places]), device)
                groups.append(_Group(torch.from_numpy(places), values, self._of(length).layout))
            return groups

        reading = executor().pipelined(batches, read, lambda groups: groups[0], batch_size=1, workers=READERS)
        with closing(reading):
            for _, groups in reading:
                yield _together(groups, device, self._pad)

    def _by_length(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """Divide rows (n,) by their rounded lengths, from the shortest on."""
        unknown = np.unique(rows[self._lengths[rows] == 0])
        if len(unknown):
            found = rounded_lengths(self._samples, self._backbone.preparation, unknown, self._store)
            self._lengths[unknown] = found
        lengths = self._lengths[rows]
        return [(int(length), rows[lengths == length]) for length in np.unique(lengths)]

    def _of(self, length: int) -> Boundary:
        """Return the boundary of samples of one rounded length."""
        if length not in self._inner:
            self._inner[length] = Boundary(
                self._samples,
                _cut_to(self._backbone, length),
                self._model,
                self._cut.rung,
                self._views,
                precision=self._precision,
                device=self._device,
                store=self._store,
                cut=self._cut,
                part=self._parts.of(length),
                checked=True,
            )
        return self._inner[length]


class RaggedActivations:
    """``FreshActivations`` of samples of any length. The tensors are bit for bit those of ``RaggedBoundary``."""

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
        self._cut = cut or cut_at(model, rung, signature=backbone.signature)
        check_untouched(self._cut.prefix, backbone, self._cut.rung)
        self._prepared, self._device = PreparedViews(samples, backbone.preparation, views), device
        self._parts = _Parts(self._cut, backbone.preparation, precision, device)
        self._pad = self._parts.pad

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each batch, the tensors (B, L, ...) that cross the line; see ``FreshActivations.stream``.

        Raises:
            DataError: A sample cannot be read any more, or has changed; names the file.
        """
        if not batches:
            return
        rows, lengths = np.concatenate([rows for rows, _ in batches]), [len(rows) for rows, _ in batches]

        def decode(position: int) -> torch.Tensor:
            return self._prepared.read(int(rows[position]), [None])

        ahead = max(-(-max(lengths) // BATCH) * BATCH, _AHEAD)
        parts = executor().pipelined(range(len(rows)), decode, self._run, batch_size=ahead)
        ready: list[tuple[int, torch.Tensor]] = []
        with closing(parts):
            for length in lengths:
                while len(ready) < length:
                    ready += next(parts)[1]
                batch, ready = ready[:length], ready[length:]
                yield self._whole(batch)

    def _run(self, prepared: list[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
        """Return the rounded length of each sample, and its row (1, numbers)."""
        ids = torch.cat(prepared)
        rounded = [rounded_length(int(n), ids.shape[1]) for n in lengths_of(ids.numpy(), self._pad)]
        made: list[tuple[int, torch.Tensor]] = [(0, ids[:0])] * len(ids)
        for length in sorted(set(rounded)):
            places, part = [i for i, own in enumerate(rounded) if own == length], self._parts.of(length)
            for start in range(0, len(places), part.at_once):
                some = places[start : start + part.at_once]
                for place, row in zip(some, torch.split(part.run(ids[some, :length]), 1), strict=True):
                    made[place] = length, row
        return made

    def _whole(self, batch: Sequence[tuple[int, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        groups = []
        for length in sorted({length for length, _ in batch}):
            places = [i for i, (own, _) in enumerate(batch) if own == length]
            rows = torch.cat([batch[i][1] for i in places])
            groups.append(_Group(torch.tensor(places), rows, self._parts.of(length).end))
        return _together(groups, torch.device(self._device), self._pad)


def _cut_to(backbone: Backbone, length: int) -> Backbone:
    """Return a backbone whose samples have one length."""
    shorter = copy.copy(backbone)
    assert isinstance(backbone.preparation, TextPreparation)
    shorter.preparation = replace(backbone.preparation, length=length)
    return shorter


def _beginning_at(done: int, total: int, progress: Progress | None) -> Progress | None:
    """Return what hears of a part of the work, of which so much was done before."""
    if progress is None:
        return None
    tell: Callable[[int, int], Any] = progress
    return lambda now, _: tell(done + now, total)


def _together(groups: Sequence[_Group], device: torch.device, pad: int) -> tuple[torch.Tensor, ...]:
    """Put the tensors of a batch together, in its order, and fill them up: with ``pad`` if they hold ids, else with 0.

    Of a tensor (n, L, ...) the second dimension is filled up to the longest; one that is (n, D) has lost its positions.
    """
    n = sum(len(group.places) for group in groups)
    made = [
        (group.places.to(device), group.layout.tensors(group.rows.to(device, non_blocking=True))) for group in groups
    ]
    whole = []
    for parts in zip(*(tensors for _, tensors in made), strict=True):
        like = parts[-1]
        is_ids = not like.is_floating_point()
        tail = (
            like.shape[1:] if like.ndim == 2 and not is_ids else (max(part.shape[1] for part in parts), *like.shape[2:])
        )
        filled = like.new_full((n, *tail), pad if is_ids else 0)
        for (places, _), part in zip(made, parts, strict=True):
            filled[places, : part.shape[1]] = part
        whole.append(filled)
    return tuple(whole)
