"""What runs a frozen part of a backbone: OpenVINO or torch.

Takes a backbone and the layers to read. Gives an engine: batches of prepared samples in, features float32 (B, D) out.
Refuses devices that are not there, and backbones that cannot be converted.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.engines.choices import Engine as Engine
    from thawline.engines.choices import EngineChoice as EngineChoice
    from thawline.engines.choices import engine_choices as engine_choices
    from thawline.engines.choices import hardware as hardware
    from thawline.engines.graph_store import GraphStore as GraphStore

_HOME = {
    "Engine": "thawline.engines.choices",
    "EngineChoice": "thawline.engines.choices",
    "GraphStore": "thawline.engines.graph_store",
    "engine_choices": "thawline.engines.choices",
    "hardware": "thawline.engines.choices",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
