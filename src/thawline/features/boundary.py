"""The boundary cache: activations at the thaw line, computed once for each view of each sample and kept on disk.

Training then runs only the layers above the line. ``FreshActivations`` has the same ``stream`` and keeps
nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from thawline.backbones.cut import Cut, segment
from thawline.backbones.cut import cut as cut_at
from thawline.backbones.names import INPUT
from thawline.engines.batches import refuse_non_finite
from thawline.engines.choices import EngineChoice
from thawline.errors import StorageError
from thawline.features.activations import (
    BATCH,
    Batches,
    FreshActivations,
    FrozenPart,
    PreparedViews,
    check_untouched,
    frozen_part,
    pass_rows_of,
)
from thawline.features.boundary_sources import FromLine, FromSamples, Origin, Wanted, pays
from thawline.features.folding import REVISION as FOLDED
from thawline.features.job import first_of_each
from thawline.features.layout import Layout, from_store, stored_format
from thawline.features.prepared import Samples
from thawline.inputs.image.views import Views
from thawline.listening import Progress
from thawline.records import Precision
from thawline.scale import executor
from thawline.store.index import Rows
from thawline.store.keys import LINE, FeatureKey, augmented_sha256, preparation_sha256
from thawline.store.sizes import format_bytes
from thawline.store.store import FeatureStore
from thawline.store.writer import Writer

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone

__all__ = ["Boundary", "BoundaryForecast", "BoundaryReport", "FreshActivations"]

_PREPARED = {"image": "pixels", "text": "tokens"}
"""What rows at ``input`` are: no engine made them."""
WORTH_A_TRIAL = 8 * BATCH
"""Fewer rows than this are made from the samples: the trial of a lower line would cost what it could save."""
READERS = 2
"""Threads that read ahead, one batch each."""

Part = tuple[Sequence[int] | NDArray[np.int64], Iterable["int | None"]]
"""(rows of the samples, views): every one of these views of every one of these samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryForecast:
    """The room on disk that a boundary will take."""

    stored: int
    """Rows (one for each view of each distinct sample) that are there already."""
    to_compute: int
    """Rows that are not."""
    bytes_per_row: int
    free_bytes: int
    """Free room on the disk of the cache."""

    @property
    def bytes(self) -> int:
        """Bytes to be written."""
        return self.to_compute * self.bytes_per_row

    @property
    def fits(self) -> bool:
        return self.bytes <= self.free_bytes

    def __str__(self) -> str:
        return (
            f"Boundary cache: {self.to_compute:,} rows of {format_bytes(self.bytes_per_row)} to compute, "
            f"{format_bytes(self.bytes)} with {format_bytes(self.free_bytes)} free; {self.stored:,} rows are stored."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryReport:
    """What ``ensure`` made, and what that cost."""

    computed: int
    """Rows that were run now."""
    reused: int
    """The others: found in the store, or equal in content to one that was run."""
    made_from: str
    """``pictures``, ``texts``, the lower rung whose stored rows were carried on (or several of these), or ``store``."""
    bytes: int
    """That the distinct rows take on disk."""
    seconds: float


class Boundary:
    """Activations at a thaw line, on disk, for any view of any sample of a data set.

    Rows are found by content: neither names nor order of the samples matter.
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
        store: FeatureStore | None = None,
        cut: Cut | None = None,
        part: FrozenPart | None = None,
        checked: bool = False,
    ) -> None:
        """Prepare to compute; nothing is run yet.

        Args:
            samples: A data set, or pictures without labels.
            backbone: What the activations are stored as those of.
            model: The backbone's module or a copy of it, channels-last, on the device. Above the line it may have been
                trained; below it must be as it was loaded, which is checked before anything is stored.
            rung: Where the line stands.
            views: What the numbers of views stand for.
            precision: ``f32`` or ``bf16``, in which the layers compute and the rows are kept. At ``input`` the pixels
                are kept, in either.
            device: ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
            store: Where rows are found and kept; by default the one in the cache folder.
            cut: The model, cut at this rung; by default it is cut, which sets what learns.
            part: The layers below the line, if the caller has made them ready to run.
            checked: Whether the caller has checked the layers below the line.
        Raises:
            ModelError: No such rung, or what crosses it cannot be kept.
        """
        preparation = backbone.preparation
        self._samples, self._backbone, self._model, self._views = samples, backbone, model, views
        self._precision, self._device = precision, device
        self._store = store or FeatureStore()
        self._cut = cut or cut_at(model, rung, signature=backbone.signature)
        self._part = part or frozen_part(self._cut, preparation, precision=precision, device=device)
        self._checked = checked
        self._prepared = PreparedViews(samples, preparation, views)
        self._found: dict[int | None, Rows] = {}

    @property
    def bytes_per_row(self) -> int:
        """Size on disk of one view of one sample."""
        return self._part.end.row_bytes

    def forecast(self, *parts: Part) -> BoundaryForecast:
        """Forecast what ``ensure`` would have to make for all these sets together; nothing runs.

        Raises:
            StorageError: The cache folder cannot be read.
        """
        wanted = [self._wanted(rows, views) for rows, views in parts]
        missing = sum(len(part) for part in wanted)
        return BoundaryForecast(
            stored=sum(part.mask.size for part in wanted) - missing,
            to_compute=missing,
            bytes_per_row=self.bytes_per_row,
            free_bytes=free_bytes(self._store.root),
        )

    def ensure(
        self, rows: Sequence[int] | NDArray[np.int64], views: Iterable[int | None], progress: Progress | None = None
    ) -> BoundaryReport:
        """Make what is not stored yet of these views of these samples.

        An interruption loses a few seconds of work; the next call continues from there, to the same bits. If the same
        samples are stored at a lower line without rounding, and a trial shows it to be quicker, only the layers
        between the two lines run.

        Args:
            progress: Told (rows run so far, rows to run); not called when all is stored.
        Raises:
            DataError: A sample can no longer be read, or has changed; names the file.
            ModelError: NaN or infinity crosses the line, or the layers below it have been trained.
            StorageError: The disk has no room, or the cache cannot be written; what was computed before is kept.
        """
        started = time.perf_counter()
        rows, views = np.asarray(rows, np.int64), tuple(dict.fromkeys(views))
        wanted = self._wanted(rows, views)
        origins = "store"
        if len(wanted):
            check_room(len(wanted) * self.bytes_per_row, self._store, self._cut.rung, "Use fewer views or fresh ones")
            if not self._checked:
                check_untouched(self._cut.prefix, self._backbone, self._cut.rung)
            origins = self._make(wanted, progress)
            if len(self._wanted(rows, views)):
                raise StorageError(
                    f"The feature cache does not give back what was just written to it ({self._store.root}). "
                    "Set THAWLINE_CACHE to a folder on another disk."
                )
        return BoundaryReport(
            computed=len(wanted),
            reused=len(rows) * len(views) - len(wanted),
            made_from=origins,
            bytes=wanted.mask.size * self.bytes_per_row,
            seconds=time.perf_counter() - started,
        )

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each batch, the tensors (B, ...) that cross the line, on the device.

        The next batches are read from disk by other threads while one is used. Memory stays flat, however many
        batches there are. Wrap it in ``contextlib.closing`` where it may not be read to its end.

        Raises:
            KeyError: A row that ``ensure`` was not asked for.
            StorageError: The rows were cleared meanwhile.
        """
        found = {view: self.found(view) for view in {view for _, view in batches}}

        def read(batch: tuple[NDArray[np.int64], int | None]) -> torch.Tensor:
            rows, view = batch
            return in_memory(found[view].read(rows), self._part.device)

        reading = executor().pipelined(batches, read, lambda rows: rows[0], batch_size=1, workers=READERS)
        with closing(reading):
            for _, rows in reading:
                yield self._part.end.tensors(rows.to(self._part.device, non_blocking=True))

    @property
    def layout(self) -> Layout:
        """How a row lies."""
        return self._part.end

    def found(self, view: int | None) -> Rows:
        """Return where the rows of a view of all samples lie, those that are stored."""
        return self._found[view] if view in self._found else self._look_up(view)

    def _key(self, view: int | None, rung: str | None = None) -> FeatureKey:
        """Everything but the sample that decides a row, at this line or another; at ``input`` no model decides."""
        rung = rung or self._cut.rung
        at_input = rung == INPUT
        prepared = preparation_sha256(self._backbone.preparation)
        if view is not None:
            prepared = augmented_sha256(prepared, self._views.augmentation.digest())
        return FeatureKey(
            weights_sha256="" if at_input else self._backbone.weights_sha256,
            preparation_sha256=prepared,
            rung=LINE + rung,
            precision="f32" if at_input else self._precision,
            engine=_PREPARED[self._backbone.preparation.kind] if at_input else _identity(self._device, self._precision),
            view_seed=self._views.seed_of(view),
            dtype=self._backbone.preparation.spec.dtype if at_input else stored_format(self._precision),
            model=self._backbone.name,
        )

    def _look_up(self, view: int | None) -> Rows:
        self._found[view] = rows = self._store.lookup(self._key(view), self._samples.digests)
        return rows

    def _wanted(self, rows: Sequence[int] | NDArray[np.int64], views: Iterable[int | None]) -> Wanted:
        """List the rows that are not stored; of equal samples, the first stands for all."""
        views = tuple(dict.fromkeys(views))
        places = first_of_each([self._samples.digests[row] for row in rows]).values()
        distinct = np.asarray(rows, np.int64)[list(places)]
        stored = [self._look_up(view).found[distinct] for view in views]
        mask = ~np.stack(stored, axis=1) if views else np.zeros((len(distinct), 0), np.bool_)
        return Wanted(distinct, views, mask)

    def _make(self, wanted: Wanted, progress: Progress | None) -> str:
        """Make rows, store them batch by batch, and return what they were made from."""
        tell = progress or (lambda done, total: None)
        origins = self._origins(wanted)
        keys = {view: self._key(view) for view in wanted.views}
        for key in keys.values():
            self._store.prepare(key)
        done, total = 0, len(wanted)
        tell(done, total)
        with Writer(self._store) as writer:
            for origin, share in origins:
                with closing(origin.make(share)) as made:
                    for pairs, values in made:
                        files = [self._samples.files[row] for row, _ in pairs]
                        key = keys[pairs[0][1]]
                        refuse_non_finite(_finite(values), files, key.model, key.layer, key.precision)
                        for (row, view), value in zip(pairs, values, strict=True):
                            writer.add(keys[view], [self._samples.digests[row]], value[None])
                        done += len(pairs)
                        tell(done, total)
        return " and ".join(origin.name for origin, _ in origins)

    def _origins(self, wanted: Wanted) -> list[tuple[Origin, Wanted]]:
        """Choose the origin of each row: the nearest stored line below that pays, else the samples."""
        samples = FromSamples(self._prepared, self._part)
        origins: list[tuple[Origin, Wanted]] = []
        for rung in reversed(self._cut.rungs_below if len(wanted) >= WORTH_A_TRIAL else ()):
            if (line := self._line(rung, wanted)) is not None:
                share = wanted.stored(line.found)
                if len(share) >= WORTH_A_TRIAL and pays(line, samples, share.first(self._part.at_once)):
                    origins.append((line, share))
                    wanted = wanted.without(share)
        return origins + ([(samples, wanted)] if len(wanted) else [])

    def _line(self, rung: str, wanted: Wanted) -> FromLine | None:
        """Return a stored line below this one; None if there is none, or if its rows were rounded."""
        keys = {view: self._key(view, rung) for view in wanted.views}
        keys = {view: key for view, key in keys.items() if self._store.holds(key)}
        if not keys:
            return None
        start = self._part.start
        start = start if rung == INPUT else self._stretch(INPUT, start, rung).end
        if not start.is_lossless:
            return None
        found = {view: self._store.lookup(key, self._samples.digests) for view, key in keys.items()}
        return FromLine(rung, self._stretch(rung, start, self._cut.rung), found)

    def _stretch(self, low: str, start: Layout, high: str) -> FrozenPart:
        layers = segment(self._model, low, high, signature=self._backbone.signature)
        rows = pass_rows_of(self._backbone.preparation, self._device)
        return FrozenPart(
            layers, start, high, precision=self._precision, device=self._device, pass_rows=rows, crew=self._part.crew
        )


def check_room(needed: int, store: FeatureStore, rung: str, instead: str) -> None:
    """Refuse to compute what the disk has no room for.

    Args:
        instead: What can be asked for with no views, or fewer.
    Raises:
        StorageError: Says how much is free, and what takes less.
    """
    free = free_bytes(store.root)
    if needed > free:
        raise StorageError(
            f"The disk needs room for {format_bytes(needed)} of activations at {rung!r}; {format_bytes(free)} are free "
            f"({store.root}). {instead} (views = 0), a higher thaw line, or set THAWLINE_CACHE to a folder on another "
            "disk."
        )


def in_memory(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy what the store gives to where it is aligned and can be sent to a device: rows (B, n)."""
    rows = from_store(values)
    return rows.pin_memory() if device.type == "cuda" else rows.clone()


def _identity(device: str, precision: Precision) -> str:
    """Name everything that decides how numbers are rounded: on a processor, layers are folded."""
    layers = f" folded {FOLDED}" if torch.device(device).type == "cpu" else ""
    return EngineChoice("torch", device, precision).identity + layers


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(B, n) as stored -> (B,) whether all numbers of a row are finite."""
    finite: NDArray[np.bool_] = from_store(values).isfinite().all(dim=1).numpy()
    return finite


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
