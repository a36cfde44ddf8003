"""How much data there is, how like the source, and what the guides make of the two. Shown; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.depth_profile import DepthProfile
    from thawline.planning.ground import Ground
    from thawline.planning.scenarios import Scenario
    from thawline.planning.similarity import SimilarityReport
    from thawline.planning.size import SizeReport


@dataclass(frozen=True, slots=True)
class Evidence:
    """Size, likeness, and the cell of the guides' map that the two lead to."""

    size: SizeReport
    similarity: SimilarityReport
    scenario: Scenario

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for ``--json``."""
        return {
            "size": self.size.to_json(),
            "similarity": self.similarity.to_json(),
            "scenario": self.scenario.to_json(),
        }


def measure_evidence(
    ground: Ground, backbone: Backbone, pooled: NDArray[np.float32], profile: DepthProfile | None, watcher: Watcher
) -> Evidence:
    """Measure how much data there is and how like the source.

    Args:
        pooled: (N, D) features of the last layer.
        profile: Of probes at several depths, if they could be judged.
    """
    from thawline.planning.scenarios import scenario
    from thawline.planning.similarity import measure_similarity
    from thawline.planning.size import measure_size

    phase, field = "measuring size and likeness", ground.field
    watcher.progress(phase, 0, 2)
    size = measure_size(pooled[field.rows], field.labels, field.n_classes, groups=field.groups, seed=ground.seed)
    watcher.progress(phase, 1, 2)
    likeness = measure_similarity(backbone, ground.data, field.rows, profile=profile, seed=ground.seed)
    watcher.progress(phase, 2, 2)
    return Evidence(size, likeness, scenario(size, likeness))
