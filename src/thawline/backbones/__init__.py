"""Pre-trained models.

Takes a model's name, ``embedded/NAME``, ``timm/NAME`` or ``timm/NAME@FILE``, and settings that override what its
weights say of themselves. Gives a Backbone: the model without its head, frozen, with the exact preparation it was
trained with, known by digest and built only when something must be run. Refuses weights that are not safetensors, are
not the promised bytes, or do not fit the architecture tensor for tensor, and a hub that does not answer.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.backbones.backbone import Backbone as Backbone
    from thawline.backbones.catalogue import list_models as list_models
    from thawline.backbones.load_receipt import LoadReceipt as LoadReceipt
    from thawline.backbones.names import DEFAULT_MODEL as DEFAULT_MODEL
    from thawline.backbones.names import POOLED as POOLED
    from thawline.backbones.names import default_model as default_model
    from thawline.backbones.opening import open_backbone as open_backbone
    from thawline.backbones.providers.entry import CatalogueEntry as CatalogueEntry
    from thawline.backbones.receipt import Receipt as Receipt
    from thawline.backbones.watch import FreezeWatch as FreezeWatch

_HOME = {
    "DEFAULT_MODEL": "thawline.backbones.names",
    "POOLED": "thawline.backbones.names",
    "Backbone": "thawline.backbones.backbone",
    "CatalogueEntry": "thawline.backbones.providers.entry",
    "FreezeWatch": "thawline.backbones.watch",
    "LoadReceipt": "thawline.backbones.load_receipt",
    "Receipt": "thawline.backbones.receipt",
    "default_model": "thawline.backbones.names",
    "list_models": "thawline.backbones.catalogue",
    "open_backbone": "thawline.backbones.opening",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
