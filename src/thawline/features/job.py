"""The samples to run through a frozen backbone, as a record that any process can carry out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.engines.batches import refuse_non_finite, run_batches, run_whole
from thawline.engines.building import ConvertedBackbone, build_engine
from thawline.engines.choices import Engine, EngineChoice
from thawline.errors import DataError, ModelError
from thawline.features.prepared import PreparedSamples, Samples
from thawline.listening import Progress
from thawline.store.keys import FeatureKey
from thawline.store.store import FeatureStore
from thawline.store.writer import Writer

if TYPE_CHECKING:
    from thawline.backbones import Backbone


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What a job names, opened in this process."""

    samples: Samples
    backbone: Backbone
    prepared: PreparedSamples
    store: FeatureStore

    @classmethod
    def of(cls, samples: Samples, backbone: Backbone, store: FeatureStore) -> Opened:
        """Take what is open already."""
        return cls(samples, backbone, PreparedSamples(samples, backbone.preparation), store)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionJob:
    """Run some samples through a frozen backbone and store the rows.

    Every field is a plain value, so the record can be sent to another process. Samples are named by content: they are
    found again whatever their order.
    """

    data: Mapping[str, Any] | None
    """Arguments of ``open_data``; None if the samples are in memory only."""
    model: str
    """Its name; the path of its weights, if any, is absolute."""
    settings: Mapping[str, Any]
    """Arguments of ``open_backbone`` beside the name."""
    keys: tuple[FeatureKey, ...]
    """Under which the rows of each rung are stored."""
    choice: EngineChoice
    digests: tuple[str, ...]
    """(n,) SHA-256 of the samples to run."""
    batch_size: int
    cache: Path
    """Folder of the cache that takes the rows."""
    keep_engine: bool
    """Leave the engine to the next job of the process."""

    def open(self) -> Opened:
        """Open data, backbone and store.

        Raises:
            DataError: The samples are in the memory of another process.
            ModelError: The name now leads to other weights.
        """
        from thawline.backbones import open_backbone
        from thawline.data import open_data

        if self.data is None:
            raise DataError(
                "These samples are in the memory of one process. Run the job there, or write them to files."
            )
        backbone = open_backbone(self.model, **self.settings)
        if backbone.weights_sha256 != self.keys[0].weights_sha256:
            raise ModelError(f"{self.model} has other weights than when the job was made. Make the job again.")
        samples = open_data(**self.data)
        return Opened.of(samples, backbone.prepared_for(samples), FeatureStore(self.cache))

    def run(self, opened: Opened, progress: Progress | None = None) -> None:
        """Run the samples and store their rows batch by batch. Memory does not grow with the number of samples.

        Raises:
            NotConvertibleError: OpenVINO cannot run the architecture; nothing was stored.
            DataError, ModelError, StorageError: As ``extract_features``.
        """
        first = first_of_each(opened.samples.digests)
        rows = [first[digest] for digest in self.digests]
        graphs = ConvertedBackbone(self.cache, opened.backbone, tuple(key.rung for key in self.keys))
        with opened.prepared.preparing_ahead(rows):
            engine = build_engine(self.choice, graphs)
        _Run(self, opened, engine, progress).over(rows)
        if self.keep_engine and self.choice.engine == "openvino":
            graphs.give_back(engine, self.choice.precision)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One pass of an engine over samples."""

    job: ExtractionJob
    opened: Opened
    engine: Engine
    progress: Progress | None

    def over(self, positions: Sequence[int]) -> None:
        samples, store, keys = self.opened.samples, self.opened.store, self.job.keys
        for key in keys:
            store.prepare(key)
        self._report(0, len(positions))
        done = 0
        batches = run_batches(
            self.engine, positions, self.opened.prepared.of, self._infer, batch_size=self.job.batch_size
        )
        with closing(batches), Writer(store) as writer:
            for batch, values in batches:
                digests = [samples.digests[i] for i in batch]
                rungs = np.split(values, np.cumsum(self.engine.widths)[:-1], axis=1)
                for key, rows in zip(keys, rungs, strict=True):
                    finite = np.asarray(np.isfinite(rows).all(axis=1))
                    refuse_non_finite(finite, [samples.files[i] for i in batch], key.model, key.layer, key.precision)
                    writer.add(key, digests, np.ascontiguousarray(rows))
                done += len(batch)
                self._report(done, len(positions))

    def _infer(self, _positions: Sequence[int], pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return run_whole(self.engine, pictures)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def first_of_each(digests: Sequence[str]) -> dict[str, int]:
    """Digest -> the first row that has it, in order of rows."""
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        first.setdefault(digest, i)
    return first
