"""Pre-trained models.

Takes a model's name, ``embedded/NAME``, ``timm/NAME`` or ``timm/NAME@FILE``, and settings that override what its
weights say of themselves. Gives a Backbone: the model without its head, frozen, with the exact preprocessing it was
trained with, known by digest and built only when something must be run. Refuses weights that are not safetensors, are
not the promised bytes, or do not fit the architecture tensor for tensor, and a hub that does not answer.
"""

from thawline.backbones.backbone import POOLED, Backbone
from thawline.backbones.catalogue import CatalogueEntry, list_models
from thawline.backbones.embedded import DEFAULT_MODEL
from thawline.backbones.opening import open_backbone
from thawline.backbones.receipt import Receipt

__all__ = ["DEFAULT_MODEL", "POOLED", "Backbone", "CatalogueEntry", "Receipt", "list_models", "open_backbone"]
