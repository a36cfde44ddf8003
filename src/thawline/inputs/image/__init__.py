"""Pictures.

Takes the bytes of a picture file, or pixels uint8 (H, W) or (H, W, 3). Gives a sketch of 16 x 16 pixels, and pixels
uint8 (H, W, 3) as a backbone takes them, plain or as augmented views. Refuses files that are no pictures, or would
exhaust memory.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.inputs.image.decode import open_image as open_image
    from thawline.inputs.image.decode import prepare as prepare
    from thawline.inputs.image.views import Augmentation as Augmentation
    from thawline.inputs.image.views import Views as Views
    from thawline.inputs.image.views import prepare_views as prepare_views

_HOME = {
    "Augmentation": "thawline.inputs.image.views",
    "Views": "thawline.inputs.image.views",
    "open_image": "thawline.inputs.image.decode",
    "prepare": "thawline.inputs.image.decode",
    "prepare_views": "thawline.inputs.image.views",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
