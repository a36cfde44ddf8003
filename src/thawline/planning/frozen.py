"""Features of the frozen model for the samples of a decision, and what computing them took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.afford import Affordable
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground


class FrozenFeatures:
    """Extracts features, and keeps count of samples and seconds."""

    def __init__(self, ground: Ground, backbone: Backbone, asked: FitPlan, watcher: Watcher, read: Affordable) -> None:
        """Begin to count.

        Args:
            asked: Says which engine runs the backbone, where, and in which precision.
            read: What was computed at the layer of ``asked`` before.
        """
        self._data, self._rows, self._backbone, self._watcher = ground.data, ground.field.rows, backbone, watcher
        self._how: dict[str, Any] = {
            "engine": asked.engine,
            "precision": asked.precision,
            "device": asked.device,
        }
        self.computed = {asked.layer: read.computed}
        """Layers -> samples whose features were computed."""
        self.seconds, self.picture_s = read.seconds, read.seconds / max(read.computed, 1)

    def at(self, layer: str) -> NDArray[np.float32]:
        """(N, D) of one layer."""
        from thawline.features import extract_features

        features = extract_features(self._data, self._backbone, rung=layer, **self._how, progress=self._bar("features"))
        self.computed[layer] += features.computed
        self.seconds += features.seconds
        if features.computed:
            self.picture_s = features.seconds / features.computed
        return features.values

    def side_by_side(self, layers: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """(n, D) of several layers for the samples that arms compete on, and the columns that each has in it.

        Those of the test set are computed by the fit, if it reads these layers at all.
        """
        from thawline.data import subset
        from thawline.features import extract_rungs

        found = extract_rungs(
            subset(self._data, self._rows),
            self._backbone,
            layers,
            **self._how,
            progress=self._bar("features of all depths"),
        )
        self.computed[",".join(layers)] = found[0].computed
        self.seconds += found[0].seconds
        return np.concatenate([one.values for one in found], axis=1), [one.values.shape[1] for one in found]

    def _bar(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self._watcher.progress(phase, done, total)
