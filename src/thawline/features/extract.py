"""From samples to features: look up what is stored, run the rest, store it while running."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from thawline.data.decode import prepare
from thawline.data.scan import digest_of
from thawline.errors import DataError, ModelError, UndecodableError, UsageError
from thawline.features.building import (
    Graphs,
    NotConvertibleError,
    build_engine,
    conversion_revision,
    count_multiply_adds,
)
from thawline.features.engines import Engine, EngineChoice, engine_choices
from thawline.features.forecast import Offer, choose
from thawline.features.keys import FeatureKey, preprocessing_sha256
from thawline.features.store import FeatureStore
from thawline.records import Features, Source
from thawline.scale import executor

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Payload, Preprocessing

logger = logging.getLogger(__name__)

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
        rung: ``pooled``, or a layer of the backbone, whose output is then averaged over positions; or several with
            commas, whose features then stand side by side.
        engine: ``auto`` (what ends first, by a forecast), ``openvino`` (processors) or ``torch``.
        precision: ``auto``, ``f32`` or ``bf16``.
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        batch_size: Samples in one run of the network; does not change the numbers.
        store: Where rows are found and kept; by default the one in the cache folder.
        progress: Told (samples run so far, samples to run).
    Returns:
        values float32 (N, D) in the order of the samples. When everything is stored, or the backbone has been converted
        for OpenVINO, torch is not imported.
    Raises:
        DataError: A sample can no longer be read, or has changed, since the data was opened; names it.
        ModelError: The backbone gives NaN or infinity; names the first sample.
        StorageError: The cache cannot be written; what was computed before is kept.
        UsageError: An option cannot be.
    """
    found = extract_rungs(
        samples,
        backbone,
        layers_in(rung),
        engine=engine,
        precision=precision,
        device=device,
        batch_size=batch_size,
        store=store,
        progress=progress,
    )
    if len(found) == 1:
        return found[0]
    return replace(
        found[0],
        values=np.concatenate([one.values for one in found], axis=1),
        rung=rung,
        key=hashlib.sha256(" ".join(one.key for one in found).encode()).hexdigest(),
        widths=tuple(one.values.shape[1] for one in found),
    )


def layers_in(rung: str) -> tuple[str, ...]:
    """The layers in a setting that may name several, with commas."""
    return tuple(name.strip() for name in rung.split(","))


def extract_rungs(
    samples: Samples,
    backbone: Backbone,
    rungs: Sequence[str],
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 32,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> tuple[Features, ...]:
    """Extract the features at several rungs in one pass; everything else is as in ``extract_features``.

    Args:
        rungs: All different.
    Returns:
        One for each rung, in their order.
    """
    started = time.perf_counter()
    store = store or FeatureStore()
    filled = fill_store(
        samples,
        backbone,
        rungs,
        engine=engine,
        precision=precision,
        device=device,
        batch_size=batch_size,
        store=store,
        progress=progress,
    )
    return tuple(
        Features(
            values=store.gather(key, samples.digests),
            rung=rung,
            precision=key.precision,
            engine=filled.engine,
            why=filled.why,
            key=key.digest(),
            computed=filled.computed,
            reused=len(samples.digests) - filled.computed,
            seconds=time.perf_counter() - started,
        )
        for rung, key in zip(rungs, filled.keys, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What ``fill_store`` did."""

    keys: tuple[FeatureKey, ...]
    """Under which the rows of each rung are stored."""
    engine: str
    why: str
    computed: int
    """Samples that were run."""


def fill_store(
    samples: Samples,
    backbone: Backbone,
    rungs: Sequence[str],
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 32,
    store: FeatureStore,
    progress: Progress | None = None,
) -> Filled:
    """Compute and store what is not stored yet. Memory stays flat, however many samples there are.

    Everything is as in ``extract_rungs``.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1; got {batch_size}.")
    if len(set(rungs)) < len(rungs) or not rungs:
        raise UsageError(f"rungs must be at least one, and all different; got {', '.join(rungs) or 'none'}.")
    choices = engine_choices(engine, precision, device, memory=store.root)
    first = first_of_each(samples.digests)
    distinct = list(first)
    candidates = [_Candidate.of(choice, backbone, tuple(rungs), store, distinct) for choice in choices]
    candidate, built, why = _chosen(candidates, backbone, tuple(rungs), store)
    if built is not None:
        run = _Run(samples, backbone.preprocessing, candidate.keys, built, store, batch_size, progress)
        run.over([first[distinct[i]] for i in candidate.missing])
    return Filled(keys=candidate.keys, engine=candidate.choice.engine, why=why, computed=len(candidate.missing))


def feature_key(backbone: Backbone, rung: str, choice: EngineChoice, rungs: Sequence[str] = ()) -> FeatureKey:
    """Everything but the samples that decides the numbers.

    Args:
        rungs: Those that are read in one pass, where they are several: together they are converted to other graphs.
    """
    how = ""
    if choice.engine == "openvino":
        together = tuple(rungs) or (rung,)
        how = f" {conversion_revision(backbone, together)}" + (f" with {', '.join(rungs)}" if len(rungs) > 1 else "")
    return FeatureKey(
        weights_sha256=backbone.weights_sha256,
        preprocessing_sha256=preprocessing_sha256(backbone.preprocessing),
        rung=rung,
        precision=choice.precision,
        engine=choice.identity + how,
        model=backbone.name,
    )


def first_of_each(digests: Sequence[str]) -> dict[str, int]:
    """Digest -> the first row that has it, in order of rows."""
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        first.setdefault(digest, i)
    return first


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """What one engine would find stored."""

    choice: EngineChoice
    keys: tuple[FeatureKey, ...]
    """One for each rung."""
    missing: NDArray[np.int64]
    """Which of the distinct samples lack a row at some rung."""

    @classmethod
    def of(
        cls, choice: EngineChoice, backbone: Backbone, rungs: tuple[str, ...], store: FeatureStore, digests: list[str]
    ) -> _Candidate:
        keys = tuple(feature_key(backbone, rung, choice, rungs) for rung in rungs)
        found = np.logical_and.reduce([store.lookup(key, digests).found for key in keys])
        return cls(choice, keys, np.flatnonzero(~found))


def _chosen(
    candidates: Sequence[_Candidate], backbone: Backbone, rungs: tuple[str, ...], store: FeatureStore
) -> tuple[_Candidate, Engine | None, str]:
    """(what to run, the engine where something has to be run, why it is this one)"""
    graphs = Graphs(store.root, backbone, rungs)
    offers = {}
    for c in candidates:
        ready = c.choice.engine == "torch" or graphs.are_there(c.choice.precision)
        recorded = c.choice.engine == "openvino" and graphs.topology is not None
        offers[Offer(c.choice, len(c.missing), ready=ready, recorded=recorded)] = c
    offer, why = choose(list(offers), lambda: count_multiply_adds(backbone))
    logger.info("%s computes the features: %s.", offer.choice.engine, why)
    if not offer.missing:
        return offers[offer], None, why
    try:
        return offers[offer], build_engine(offer.choice, backbone, rungs, graphs), why
    except NotConvertibleError as error:
        rest = [candidate for candidate in candidates if candidate is not offers[offer]]
        if not rest:
            raise
        logger.warning("%s It runs with torch now.", error)
        return rest[0], build_engine(rest[0].choice, backbone, rungs, graphs), "it cannot be converted for OpenVINO"


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One pass of the backbone over the samples that are not stored."""

    samples: Samples
    preprocessing: Preprocessing
    keys: tuple[FeatureKey, ...]
    engine: Engine
    store: FeatureStore
    batch_size: int
    progress: Progress | None

    def over(self, positions: Sequence[int]) -> None:
        """Run these samples and store their rows on the way. Memory stays flat, however many there are."""
        for key in self.keys:
            self.store.prepare(key)
        self._report(0, len(positions))
        done = 0
        with closing(self._batches(positions)) as batches, Writer(self.store) as writer:
            for batch, values in batches:
                digests = [self.samples.digests[i] for i in batch]
                rungs = np.split(values, np.cumsum(self.engine.widths)[:-1], axis=1)
                for key, rows in zip(self.keys, rungs, strict=True):
                    finite = np.asarray(np.isfinite(rows).all(axis=1))
                    refuse_non_finite(finite, [self.samples.files[i] for i in batch], key)
                    writer.add(key, digests, np.ascontiguousarray(rows))
                done += len(batch)
                self._report(done, len(positions))

    def _batches(self, positions: Sequence[int]) -> Generator[tuple[Sequence[int], NDArray[np.float32]]]:
        """(positions, rows) of each batch, in order.

        Where batches can be run side by side, each is decoded and run by one thread: both keep one processor busy, so
        that neither waits for the other whatever they cost. Else threads decode ahead of the one that runs.
        """
        if self.engine.workers == 1:
            yield from executor().pipelined(positions, self._prepare, self._infer, batch_size=self.batch_size)
            return
        size = min(self.batch_size, self.engine.at_once or self.batch_size)  # so that all threads end together
        batches = [positions[start : start + size] for start in range(0, len(positions), size)]
        side_by_side = executor().pipelined(
            batches, self._decode_and_infer, lambda rows: rows[0], batch_size=1, workers=self.engine.workers
        )
        with closing(side_by_side):
            for (batch,), rows in side_by_side:
                yield batch, rows

    def _decode_and_infer(self, positions: Sequence[int]) -> NDArray[np.float32]:
        return self._infer([self._prepare(position) for position in positions])

    def _infer(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.engine.run(np.stack(pictures))

    def _prepare(self, position: int) -> NDArray[np.uint8]:
        return read_sample(self.samples, position, lambda payload: prepare(payload, self.preprocessing))

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
