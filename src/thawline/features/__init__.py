"""Frozen features.

Takes samples and a frozen backbone. Finds in the store on disk the features of samples that ran before, and runs only
the rest. Gives Features: float32 (N, D) in data-set order, with what was computed and what
reused; or, for a line inside the backbone, a Boundary: whatever crosses it, streamed from disk. Refuses values that are
not finite, samples that can no longer be read, and stored rows that do not match their checksum: those are computed
again.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.features.boundary import Boundary as Boundary
    from thawline.features.boundary import BoundaryForecast as BoundaryForecast
    from thawline.features.boundary import BoundaryReport as BoundaryReport
    from thawline.features.boundary import FreshActivations as FreshActivations
    from thawline.features.extract import extract_features as extract_features
    from thawline.features.extract import extract_rungs as extract_rungs
    from thawline.features.transformer import ThawlineFeatures as ThawlineFeatures

_HOME = {
    "Boundary": "thawline.features.boundary",
    "BoundaryForecast": "thawline.features.boundary",
    "BoundaryReport": "thawline.features.boundary",
    "FreshActivations": "thawline.features.boundary",
    "ThawlineFeatures": "thawline.features.transformer",
    "extract_features": "thawline.features.extract",
    "extract_rungs": "thawline.features.extract",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
