"""From samples to features: look up what is stored, run the rest, store it while running."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from thawline.data.decode import prepare
from thawline.data.scan import digest_of
from thawline.errors import DataError, ModelError, UndecodableError, UsageError
from thawline.features.engines import EngineChoice, build_engine, choose_engine
from thawline.features.keys import FeatureKey, preprocessing_sha256
from thawline.features.store import FeatureStore
from thawline.records import Features, Source
from thawline.scale import executor

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Payload

Prepared = TypeVar("Prepared")

FLUSH_BYTES = 32 * 2**20
FLUSH_S = 10.0
"""Computed rows wait at most this long, or until they are this large: an interruption loses no more."""

Progress = Callable[[int, int], None]
"""Called with (samples run so far, samples to run): before the first batch and after each; never when all is stored."""


class Samples(Protocol):
    """Pictures without labels; a Dataset is one."""

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def source(self) -> Source: ...

    @property
    def digests(self) -> tuple[str, ...]: ...


def extract_features(
    samples: Samples,
    backbone: Backbone,
    *,
    rung: str = "pooled",
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 32,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> Features:
    """Run the frozen backbone once per distinct sample that is not stored yet.

    Args:
        samples: A data set, or pictures without labels.
        rung: ``pooled``, or a layer of the backbone, whose output is then averaged over positions.
        engine: ``auto`` or ``torch``.
        precision: ``auto``, ``f32`` or ``bf16``.
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        batch_size: Samples in one run of the network; does not change the numbers.
        store: Where rows are found and kept; by default the one in the cache folder.
        progress: Told (samples run so far, samples to run).
    Returns:
        values float32 (N, D) in the order of the samples. When everything is stored, torch is not imported.
    Raises:
        DataError: A sample can no longer be read, or has changed, since the data was opened; names it.
        ModelError: The backbone gives NaN or infinity; names the first sample.
        StorageError: The cache cannot be written; what was computed before is kept.
        UsageError: An option cannot be.
    """
    started = time.perf_counter()
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1; got {batch_size}.")
    store = store or FeatureStore()
    choice = choose_engine(engine, precision, device, memory=store.root)
    key = feature_key(backbone, rung, choice)
    first = first_of_each(samples.digests)
    distinct = list(first)
    rows = store.lookup(key, distinct)
    missing = np.flatnonzero(~rows.found)
    run = _Run(samples, backbone, key, choice, store, batch_size, progress)
    fresh = run.over([first[distinct[i]] for i in missing])
    values = rows.complete(fresh)
    if len(distinct) < len(samples.digests):
        place = {digest: i for i, digest in enumerate(distinct)}
        values = values[[place[digest] for digest in samples.digests]]
    reused = len(samples.digests) - len(missing)
    return Features(
        values=values,
        rung=rung,
        precision=choice.precision,
        key=key.digest(),
        computed=len(missing),
        reused=reused,
        seconds=time.perf_counter() - started,
    )


def feature_key(backbone: Backbone, rung: str, choice: EngineChoice) -> FeatureKey:
    """Everything but the samples that decides the numbers."""
    return FeatureKey(
        weights_sha256=backbone.weights_sha256,
        preprocessing_sha256=preprocessing_sha256(backbone.preprocessing),
        rung=rung,
        precision=choice.precision,
        engine=choice.identity,
        model=backbone.name,
    )


def first_of_each(digests: Sequence[str]) -> dict[str, int]:
    """Digest -> the first row that has it, in order of rows."""
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        first.setdefault(digest, i)
    return first


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One pass of the backbone over the samples that are not stored."""

    samples: Samples
    backbone: Backbone
    key: FeatureKey
    choice: EngineChoice
    store: FeatureStore
    batch_size: int
    progress: Progress | None

    def over(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Run these samples, store their rows on the way, and return them, (n, D)."""
        if not positions:
            return np.empty((0, 0), np.float32)
        engine = build_engine(self.choice, self.backbone, self.key.rung)  # refuses an unknown layer: before any writing
        self.store.prepare(self.key)
        self._report(0, len(positions))
        fresh = np.empty((0, 0), np.float32)
        done = 0
        batches = executor().pipelined(
            positions, self._prepare, lambda images: engine.run(np.stack(images)), batch_size=self.batch_size
        )
        with closing(batches), Writer(self.store) as writer:
            for batch, values in batches:
                finite = np.asarray(np.isfinite(values).all(axis=1))
                refuse_non_finite(finite, [self.samples.files[i] for i in batch], self.key)
                writer.add(self.key, [self.samples.digests[i] for i in batch], values)
                if not done:
                    fresh = np.empty((len(positions), values.shape[1]), np.float32)
                fresh[done : done + len(batch)] = values
                done += len(batch)
                self._report(done, len(positions))
        return fresh

    def _prepare(self, position: int) -> NDArray[np.uint8]:
        return read_sample(self.samples, position, lambda payload: prepare(payload, self.backbone.preprocessing))

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def read_sample(samples: Samples, row: int, prepare: Callable[[Payload], Prepared]) -> Prepared:
    """Read one sample and prepare it.

    Raises:
        DataError: It cannot be read or decoded any more, or has changed, since the data was opened; names the file.
    """
    file = samples.files[row]
    try:
        payload = samples.source.read(row)
        prepared = prepare(payload)
    except UndecodableError as error:
        raise DataError(f"{file} cannot be read now: {error}. Open the data again, or leave it out.") from error
    if digest_of(payload) != samples.digests[row]:  # its numbers would be stored as those of the old content
        raise DataError(f"{file} has changed since the data was opened. Open the data again.")
    return prepared


def refuse_non_finite(finite: NDArray[np.bool_], files: Sequence[str], key: FeatureKey) -> None:
    """Refuse the first file whose row is not finite.

    Args:
        finite: (B,) whether all numbers of a row are.
        files: (B,) what the samples are called.
    Raises:
        ModelError: A row is not finite.
    """
    if not finite.all():
        file = files[int(np.argmin(finite))]
        advice = "Try --precision f32." if key.precision == "bf16" else "Its weights may be damaged."
        raise ModelError(f"{key.model} gives NaN or infinity at {key.layer!r} for {file}. {advice}")


class Writer:
    """Hands rows to the store every few seconds and at the end, whatever ends it."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._start_anew()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, key: FeatureKey, digests: Sequence[str], values: NDArray[Any]) -> None:
        """Take rows (n, ...) of one key, in its number format."""
        held_digests, held_values = self._held.setdefault(key, ([], []))
        held_digests.extend(digests)
        held_values.append(values)
        self._bytes += values.nbytes
        if self._bytes >= FLUSH_BYTES or time.monotonic() - self._since >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Store what was taken."""
        held = self._held
        self._start_anew()
        for key, (digests, values) in held.items():
            self._store.append(key, digests, np.concatenate(values))

    def _start_anew(self) -> None:
        self._held: dict[FeatureKey, tuple[list[str], list[NDArray[Any]]]] = {}
        self._bytes = 0
        self._since = time.monotonic()
