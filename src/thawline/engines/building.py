"""Build the engine that was chosen; what is slow to import is imported here, when it is needed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.engines.choices import CONVERSION_REVISION, Engine, EngineChoice
from thawline.engines.converting.topology import Topology, recorded
from thawline.engines.graph_store import GraphKey, GraphStore
from thawline.engines.graphs import N_STAND_INS, StoredGraphs
from thawline.inputs import kind_of
from thawline.records import Precision
from thawline.scale.allocator import keep_freed_memory
from thawline.scale.releases import release
from thawline.store.keys import preparation_sha256

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.engines.graphs import Converted
    from thawline.engines.openvino_engine import OpenVINOEngine


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedBackbone:
    """A backbone up to some rungs, as converted for OpenVINO: found, or made and kept."""

    root: Path
    """Folder of the cache."""
    backbone: Backbone
    rungs: tuple[str, ...]

    @property
    def topology(self) -> Topology | None:
        """The recorded graph that the weights only have to be filled into; None where torch must convert."""
        return recorded(self.backbone, self.rungs)

    def are_there(self, precision: Precision) -> bool:
        """Whether they are stored, whole."""
        return GraphStore(self.root).find(self._key(precision)) is not None

    def opened(self, precision: Precision) -> StoredGraphs:
        """Find them, or convert the backbone and keep what comes out.

        Raises:
            NotConvertibleError: OpenVINO cannot take the architecture.
            ModelError: The backbone cannot be built, or has no such rung.
            StorageError: The cache cannot be written.
        """
        return self._opened(precision)[0]

    def engine(self, precision: Precision) -> Engine:
        """What runs them. Where another thread is making it, or has, that one is waited for and taken.

        Raises:
            As ``opened``; and ModelError where OpenVINO refuses the graphs.
        """
        with _lock_of(self._key(precision).digest()) as made:
            return made.pop() if made else self._engine(precision)

    def make_engine(self, precision: Precision) -> None:
        """Make what ``engine`` will give to whoever asks next.

        Raises:
            As ``engine``.
        """
        with _lock_of(self._key(precision).digest()) as made:
            if not made:
                made.append(self._engine(precision))

    def give_back(self, engine: Engine, precision: Precision) -> None:
        """Leave an engine that ``engine`` gave to whoever asks next."""
        with _lock_of(self._key(precision).digest()) as made:
            if not made:
                made.append(engine)

    def _engine(self, precision: Precision) -> OpenVINOEngine:
        from thawline.engines.openvino_engine import OpenVINOEngine

        stored, converted = self._opened(precision)
        return OpenVINOEngine(stored, precision, compiled=None if converted is None else converted.compiled)

    def _opened(self, precision: Precision) -> tuple[StoredGraphs, Converted | None]:
        """The graphs, and what came of converting them if that was done here."""
        store, key = GraphStore(self.root), self._key(precision)
        if (found := store.find(key)) is not None:
            return found, None
        keep_freed_memory()
        converted = self._filled(precision) or self._converted(precision)
        return store.keep(key, converted, self.backbone.name), converted

    def _filled(self, precision: Precision) -> Converted | None:
        """The recorded graph with its weights; None where there is none."""
        topology = self.topology
        if topology is None:
            return None
        from thawline.engines.converting.refining import Reference, in_bfloat16, in_float32

        model = topology.graph(self.backbone)
        if precision == "f32":
            return in_float32(model)
        preparation = self.backbone.preparation
        pictures = kind_of(preparation.kind).stand_ins(N_STAND_INS, preparation)
        return in_bfloat16(Reference.of(model, pictures), first_share=topology.first_share)

    def _converted(self, precision: Precision) -> Converted:
        from thawline.engines.converting.conversion import convert

        self.backbone.reader(self.rungs)  # refuses an unknown layer, before the converter meets it
        return convert(self.backbone, self.rungs, precision)

    def _key(self, precision: Precision) -> GraphKey:
        return GraphKey(
            weights_sha256=self.backbone.weights_sha256,
            preparation_sha256=preparation_sha256(self.backbone.preparation),
            rungs=self.rungs,
            precision=precision,
            converter=f"openvino {release('openvino')} {conversion_revision(self.backbone, self.rungs)}",
        )


def conversion_revision(backbone: Backbone, rungs: tuple[str, ...]) -> str:
    """How a backbone is converted, as far as that decides numbers: by torch, or from a recorded graph."""
    topology = recorded(backbone, rungs)
    return f"r{CONVERSION_REVISION}" + (f" recorded {topology.revision}" if topology else "")


_made: dict[str, tuple[threading.Lock, list[Engine]]] = {}
"""Digest of a key -> who works on it, and an engine that was made for whoever asks next."""


@contextlib.contextmanager
def _lock_of(key: str) -> Iterator[list[Engine]]:
    lock, made = _made.setdefault(key, (threading.Lock(), []))
    with lock:
        yield made


def build_engine(choice: EngineChoice, graphs: ConvertedBackbone) -> Engine:
    """Build what was chosen.

    Raises:
        NotConvertibleError: OpenVINO cannot take the architecture.
        ModelError: The backbone cannot be built, or has no such rung.
        UsageError: The device is not there.
    """
    if choice.engine == "openvino":
        return graphs.engine(choice.precision)
    from thawline.engines.torch_engine import TorchEngine

    return TorchEngine(graphs.backbone, graphs.rungs, precision=choice.precision, device=choice.device)


def count_multiply_adds(backbone: Backbone) -> int:
    """Multiply-adds of one picture: recorded, or counted without numbers, which loads torch and the architecture."""
    topology = recorded(backbone, ("pooled",))
    if topology is not None:
        return topology.multiply_adds
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = backbone.blueprint()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(backbone.signature.examples(module, 1))
    return int(counter.get_total_flops()) // 2
