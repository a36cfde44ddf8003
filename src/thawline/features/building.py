"""Build the engine that was chosen; what is slow to import is imported here, when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.errors import ModelError
from thawline.features.engines import CONVERSION_REVISION, Engine, EngineChoice, release
from thawline.features.graph_store import GraphKey, GraphStore, StoredGraphs
from thawline.features.keys import Precision, preprocessing_sha256

if TYPE_CHECKING:
    from thawline.backbones import Backbone

_BATCH = 8
"""Pictures in one run of converted graphs, whose shape is fixed: activations of so few stay in the caches."""


class NotConvertibleError(ModelError):
    """OpenVINO cannot take this architecture; torch can run it."""


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """A backbone up to some rungs, as converted for OpenVINO: found, or made and kept."""

    root: Path
    """Folder of the cache."""
    backbone: Backbone
    rungs: tuple[str, ...]

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
        store, key = GraphStore(self.root), self._key(precision)
        if (found := store.find(key)) is not None:
            return found
        from thawline.features.conversion import convert

        self.backbone.reader(self.rungs)  # refuses an unknown layer, before the converter meets it
        return store.keep(
            key, convert(self.backbone, self.rungs, precision, batch_size=key.batch_size), self.backbone.name
        )

    def _key(self, precision: Precision) -> GraphKey:
        return GraphKey(
            weights_sha256=self.backbone.weights_sha256,
            preprocessing_sha256=preprocessing_sha256(self.backbone.preprocessing),
            rungs=self.rungs,
            precision=precision,
            converter=f"openvino {release('openvino')} r{CONVERSION_REVISION}",
            batch_size=_BATCH,
        )


def build_engine(choice: EngineChoice, backbone: Backbone, rungs: tuple[str, ...], graphs: Graphs) -> Engine:
    """Build what was chosen.

    Raises:
        NotConvertibleError: OpenVINO cannot take the architecture.
        ModelError: The backbone cannot be built, or has no such rung.
        UsageError: The device is not there.
    """
    if choice.engine == "openvino":
        from thawline.features.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(graphs.opened(choice.precision), choice.precision)
    from thawline.features.torch_engine import TorchEngine

    return TorchEngine(backbone, rungs, precision=choice.precision, device=choice.device)


def count_multiply_adds(backbone: Backbone) -> int:
    """Multiply-adds of one picture, counted without numbers; loads torch and the backbone's architecture."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = backbone.blueprint()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, *backbone.preprocessing.input_px, device="meta"))
    return int(counter.get_total_flops()) // 2
