"""Features on disk, found again by content.

Takes rows of numbers, the key of what computed them, and the digest of the sample that each row belongs to. Gives the
rows back for the same key and digest. Refuses damaged rows, which count as absent, and never mixes two models.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.store.keys import FeatureKey as FeatureKey
    from thawline.store.room import CacheEntry as CacheEntry
    from thawline.store.sizes import format_bytes as format_bytes
    from thawline.store.sizes import parse_bytes as parse_bytes
    from thawline.store.store import FeatureStore as FeatureStore

_HOME = {
    "CacheEntry": "thawline.store.room",
    "FeatureKey": "thawline.store.keys",
    "FeatureStore": "thawline.store.store",
    "format_bytes": "thawline.store.sizes",
    "parse_bytes": "thawline.store.sizes",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
