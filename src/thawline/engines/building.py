"""Build the engine that was chosen. Libraries that are slow to import are imported when they are needed."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.engines.choices import CONVERSION_REVISION, Engine, EngineChoice
from thawline.engines.converting.topology import Topology, recorded
from thawline.engines.forecast import Offer, choose
from thawline.engines.graph_store import GraphStore
from thawline.engines.graphs import N_STAND_INS, GraphKey, StoredGraphs
from thawline.errors import ModelError, NotConvertibleError, StorageError, UsageError
from thawline.inputs import kind_of
from thawline.records import Precision
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.releases import release
from thawline.store.keys import preparation_sha256

if TYPE_CHECKING:
    import openvino as ov

    from thawline.backbones import Backbone
    from thawline.engines.graphs import Converted
    from thawline.engines.openvino_engine import OpenVINOEngine


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedBackbone:
    """A backbone up to some rungs as graphs for OpenVINO: found in the cache, or converted and kept there."""

    root: Path
    """Folder of the cache."""
    backbone: Backbone
    rungs: tuple[str, ...]
    must_keep: bool = True
    """False uses an engine also if its graphs cannot be kept, because the cache cannot be written."""

    @property
    def topology(self) -> Topology | None:
        """The recorded graph that fits the weights; None if torch must convert."""
        return recorded(self.backbone, self.rungs)

    def are_there(self, precision: Precision) -> bool:
        """Tell whether the cache holds the graphs, whole."""
        return self.found(precision) is not None

    def found(self, precision: Precision) -> StoredGraphs | None:
        """Find the graphs in the cache; None if they are not there."""
        return GraphStore(self.root).find(self._key(precision))

    def opened(self, precision: Precision) -> StoredGraphs:
        """Find the graphs, or convert the backbone and keep what comes out.

        Raises:
            NotConvertibleError: OpenVINO cannot take the architecture.
            ModelError: The backbone cannot be built, or has no such rung.
            StorageError: The cache cannot be written.
        """
        store, key = GraphStore(self.root), self._key(precision)
        return store.find(key) or store.keep(key, self._converted(precision), self.backbone.name)

    def engine(self, precision: Precision) -> Engine:
        """Return an engine that runs the graphs: the one that another thread has made or is making, else a new one.

        Raises:
            As ``opened``; and ModelError if OpenVINO refuses the graphs.
        """
        with _lock_of(self._key(precision).digest()) as made:
            return made.pop() if made else self._engine(precision)

    def make_engine(self, precision: Precision) -> None:
        """Make the engine that ``engine`` gives to the next caller.

        Raises:
            As ``engine``.
        """
        with _lock_of(self._key(precision).digest()) as made:
            if not made:
                made.append(self._engine(precision))

    def give_back(self, engine: Engine, precision: Precision) -> None:
        """Leave an engine that ``engine`` gave to the next caller."""
        with _lock_of(self._key(precision).digest()) as made:
            if not made:
                made.append(engine)

    def _engine(self, precision: Precision) -> OpenVINOEngine:
        from thawline.engines.openvino_engine import OpenVINOEngine

        store, key = GraphStore(self.root), self._key(precision)
        if (found := store.find(key)) is not None:
            try:
                return OpenVINOEngine(found, precision)
            except ModelError as error:
                raise ModelError(f"{error} Remove that folder, or use --engine torch.") from error
        converted = self._converted(precision)
        try:
            store.keep(key, converted, self.backbone.name)
        except StorageError as error:
            if self.must_keep:
                raise
            logger.info("The converted model is used, though it cannot be kept: %s", error)
        return OpenVINOEngine(converted, precision)

    def _converted(self, precision: Precision) -> Converted:
        if precision == "int8" and self.backbone.preparation.spec.pad is None:
            raise UsageError(
                f"precision int8 is for text encoders; {self.backbone.title} takes pictures. "
                "Use --precision f32 or bf16, or leave it out."
            )
        keep_freed_memory()
        return self._given(precision) or self._filled(precision) or self._by_torch(precision)

    @property
    def is_given(self) -> bool:
        """Whether the backbone's own file is a graph."""
        return self.backbone.frozen_only

    def _given(self, precision: Precision) -> Converted | None:
        """Take the graph that the backbone's file holds; None if it holds none."""
        if not self.is_given:
            return None
        from thawline.engines.converting.given import given_graph

        if self.rungs != ("pooled",):
            raise ModelError(
                f"{self.backbone.title} gives features at 'pooled' alone; got {', '.join(self.rungs)}. "
                "Name the tensor to read: --model-arg features=TENSOR."
            )
        return self._refined(given_graph(self.backbone), precision)

    def _filled(self, precision: Precision) -> Converted | None:
        """Fill the recorded graph with the weights; None if there is none."""
        topology = self.topology
        if topology is None:
            return None
        return self._refined(topology.graph(self.backbone), precision, topology.first_share)

    def _refined(self, model: ov.Model, precision: Precision, first_share: float = 0.0) -> Converted:
        from thawline.engines.converting.refining import Reference, in_bfloat16, in_float32

        if precision == "f32":
            return in_float32(model)
        preparation = self.backbone.preparation
        pictures = kind_of(preparation.kind).stand_ins(N_STAND_INS, preparation)
        return in_bfloat16(Reference.of(model, pictures), first_share=first_share)

    def _by_torch(self, precision: Precision) -> Converted:
        from thawline.engines.converting.conversion import convert

        self.backbone.reader(self.rungs)  # refuses an unknown layer before the converter meets it
        return convert(self.backbone, self.rungs, precision)

    def _key(self, precision: Precision) -> GraphKey:
        return GraphKey(
            weights_sha256=self.backbone.weights_sha256,
            preparation_sha256=preparation_sha256(self.backbone.preparation.in_graphs),
            rungs=self.rungs,
            precision=precision,
            converter=f"openvino {release('openvino')} {conversion_revision(self.backbone, self.rungs)}",
        )


def conversion_revision(backbone: Backbone, rungs: tuple[str, ...]) -> str:
    """Name how a backbone is converted, as far as that decides numbers: by torch, or from a recorded graph."""
    topology = recorded(backbone, rungs)
    return f"r{CONVERSION_REVISION}" + (f" recorded {topology.revision}" if topology else "")


_made: dict[str, tuple[threading.Lock, list[Engine]]] = {}
"""Digest of a key -> the lock of the thread that works on it, and an engine made for the next caller."""


@contextlib.contextmanager
def _lock_of(key: str) -> Iterator[list[Engine]]:
    lock, made = _made.setdefault(key, (threading.Lock(), []))
    with lock:
        yield made


def choose_engine(graphs: ConvertedBackbone, missing: Mapping[EngineChoice, int]) -> tuple[EngineChoice, str]:
    """Choose by a forecast the engine that ends first, and say why.

    Args:
        missing: Each engine that could run here -> how many samples it would run.
    """
    offers = []
    for choice, n in missing.items():
        by_openvino = choice.engine == "openvino"
        ready = not by_openvino or graphs.are_there(choice.precision)
        offers.append(
            Offer(choice, n, ready=ready, recorded=by_openvino and (graphs.is_given or graphs.topology is not None))
        )
    offer, why = choose(offers, lambda: count_multiply_adds(graphs.backbone))
    logger.info("%s computes the features: %s.", offer.choice.engine, why)
    return offer.choice, why


def next_engine(refused: EngineChoice, choices: Sequence[EngineChoice], error: NotConvertibleError) -> EngineChoice:
    """Return the engine that stands in for OpenVINO if it cannot take the architecture; raise the error without one."""
    rest = [choice for choice in choices if choice != refused]
    if not rest:
        raise error
    logger.warning("%s It runs with torch now.", error)
    return rest[0]


def build_engine(choice: EngineChoice, graphs: ConvertedBackbone) -> Engine:
    """Build the chosen engine.

    Raises:
        NotConvertibleError: OpenVINO cannot take the architecture.
        ModelError: The backbone cannot be built, or has no such rung.
        UsageError: This machine has no such device.
    """
    if choice.engine == "openvino":
        return graphs.engine(choice.precision)
    from thawline.engines.torch_engine import TorchEngine

    return TorchEngine(graphs.backbone, graphs.rungs, precision=choice.precision, device=choice.device)


def count_multiply_adds(backbone: Backbone) -> int:
    """Count the multiply-adds of one picture: recorded, or on torch's meta device, which loads the architecture."""
    topology = recorded(backbone, ("pooled",))
    if topology is not None:
        return topology.multiply_adds
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = backbone.blueprint()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(backbone.signature.examples(module, 1))
    return int(counter.get_total_flops()) // 2
