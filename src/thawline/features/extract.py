"""From samples to features: look up what is stored, run the rest, store it while running."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.names import layers_in
from thawline.engines.building import ConvertedBackbone, choose_engine, conversion_revision, next_engine
from thawline.engines.choices import EngineChoice, engine_choices
from thawline.errors import NotConvertibleError, UsageError
from thawline.features.job import ExtractionJob, Opened, first_of_each
from thawline.features.prepared import Samples
from thawline.listening import Progress
from thawline.records import Features
from thawline.scale import executor
from thawline.scale.allocator import share_one_arena
from thawline.store.keys import FeatureKey, preparation_sha256
from thawline.store.store import FeatureStore

if TYPE_CHECKING:
    from thawline.backbones import Backbone


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
    keep_engine: bool = False,
) -> Features:
    """Run the frozen backbone once per distinct sample that is not stored yet.

    Args:
        samples: A data set, or pictures without labels.
        rung: ``pooled``, or a layer of the backbone, whose output is then averaged over positions; or several with
            commas, whose features then stand side by side.
        engine: ``auto`` (what ends first, by a forecast), ``openvino`` (processors) or ``torch``.
        precision: ``auto``, ``f32``, ``bf16``, or ``int8`` (texts by OpenVINO).
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        batch_size: Samples in one run of the network; does not change the numbers.
        store: Where rows are found and kept; by default the one in the cache folder.
        progress: Called with (samples run so far, samples to run) before the first batch and after each; never if all
            are stored.
        keep_engine: Keep the engine for the next call: compiling a converted one takes a tenth of a second or more.
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
        keep_engine=keep_engine,
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
    keep_engine: bool = False,
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
        keep_engine=keep_engine,
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
    """The result of ``fill_store``."""

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
    keep_engine: bool = False,
) -> Filled:
    """Compute and store what is not stored yet. Memory stays flat, however many samples there are.

    Everything is as in ``extract_rungs``.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1; got {batch_size}.")
    backbone = backbone.prepared_for(samples)
    choices = engine_choices(engine, precision, device, memory=store.root)
    graphs = ConvertedBackbone(store.root, backbone, tuple(rungs))
    candidates = _candidates(samples, graphs, choices, store)
    choice, why = choose_engine(graphs, {choice: len(found.missing) for choice, found in candidates.items()})
    candidate = candidates[choice]
    if len(candidate.missing):
        share_one_arena()
        opened = Opened.of(samples, backbone, store)
        try:
            executor().run(_job(candidate, opened, batch_size, keep_engine), opened, progress=progress)
        except NotConvertibleError as error:
            candidate = candidates[next_engine(choice, choices, error)]
            why = "it cannot be converted for OpenVINO"
            executor().run(_job(candidate, opened, batch_size, keep_engine), opened, progress=progress)
    return Filled(keys=candidate.keys, engine=candidate.choice.engine, why=why, computed=len(candidate.missing))


def missing_samples(
    samples: Samples,
    backbone: Backbone,
    rungs: Sequence[str] = ("pooled",),
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    store: FeatureStore | None = None,
) -> tuple[NDArray[np.int64], str]:
    """Forecast what ``extract_rungs`` would do; nothing runs.

    Returns:
        Rows of the samples that would be run, in order, the first of each content; and the engine that would run them.
        For fewer samples it might be another one, unless it is asked for by name.
    """
    store = store or FeatureStore()
    backbone = backbone.prepared_for(samples)
    choices = engine_choices(engine, precision, device, memory=store.root)
    graphs = ConvertedBackbone(store.root, backbone, tuple(rungs))
    candidates = _candidates(samples, graphs, choices, store)
    choice, _ = choose_engine(graphs, {choice: len(found.missing) for choice, found in candidates.items()})
    return candidates[choice].missing, choice.engine


def feature_key(backbone: Backbone, rung: str, choice: EngineChoice, rungs: Sequence[str] = ()) -> FeatureKey:
    """Return the key of the features at a rung: everything but the samples that decides their numbers.

    Args:
        rungs: All that one pass reads, if several: together they are converted to other graphs.
    """
    how = ""
    if choice.engine == "openvino":
        together = tuple(rungs) or (rung,)
        how = f" {conversion_revision(backbone, together)}" + (f" with {', '.join(rungs)}" if len(rungs) > 1 else "")
    return FeatureKey(
        weights_sha256=backbone.weights_sha256,
        preparation_sha256=preparation_sha256(backbone.preparation),
        rung=rung,
        precision=choice.precision,
        engine=choice.identity + how,
        model=backbone.name,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """The samples that one engine would find in the store."""

    choice: EngineChoice
    keys: tuple[FeatureKey, ...]
    """One for each rung."""
    missing: NDArray[np.int64]
    """Rows of the samples, the first of each content, that are not stored at every rung."""


def _candidates(
    samples: Samples, graphs: ConvertedBackbone, choices: Sequence[EngineChoice], store: FeatureStore
) -> dict[EngineChoice, _Candidate]:
    rungs = graphs.rungs
    if len(set(rungs)) < len(rungs) or not rungs:
        raise UsageError(f"rungs must be at least one, and all different; got {', '.join(rungs) or 'none'}.")
    first = first_of_each(samples.digests)
    digests, rows = list(first), np.array(list(first.values()), np.int64)
    found = {}
    for choice in choices:
        keys = tuple(feature_key(graphs.backbone, rung, choice, rungs) for rung in rungs)
        stored = np.logical_and.reduce([store.lookup(key, digests).found for key in keys])
        found[choice] = _Candidate(choice, keys, rows[~stored])
    return found


def _job(candidate: _Candidate, opened: Opened, batch_size: int, keep_engine: bool) -> ExtractionJob:
    model, at, place = opened.backbone.name.partition("@")
    return ExtractionJob(
        data=getattr(opened.samples, "opened", None),
        model=f"{model}@{Path(place).expanduser().absolute()}" if at else model,
        settings=opened.backbone.settings,
        keys=candidate.keys,
        choice=candidate.choice,
        digests=tuple(opened.samples.digests[row] for row in candidate.missing),
        batch_size=batch_size,
        cache=opened.store.root,
        keep_engine=keep_engine,
    )
