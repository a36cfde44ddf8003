"""Measure heads on features of the frozen model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.backbones.lines import depth_rungs
from thawline.features.simple import simple_features
from thawline.inputs import kind_of
from thawline.planning.arms import Arm, judge_head, usual_head
from thawline.planning.standing import Standing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones.ladder import Ladder
    from thawline.listening import Watcher
    from thawline.planning.depth_profile import DepthProfile
    from thawline.planning.frozen import FrozenFeatures
    from thawline.planning.ground import Ground

_USUALLY = 6
"""Heads that are measured in most cases, for the progress bar."""


class HeadArms:
    """Judges heads and adds them to the standing."""

    def __init__(self, ground: Ground, features: FrozenFeatures, standing: Standing, watcher: Watcher) -> None:
        """Judge on one ground."""
        self._ground, self._field = ground, ground.field
        self._features, self._standing, self._watcher = features, standing, watcher

    def judge(self, name: str, values: NDArray[np.float32], layer: str, **options: Any) -> Arm:
        """Judge one head.

        Args:
            values: (n, D) features of the samples of the field.
            layer: Where they were read.
            options: As ``judge_head`` takes them.
        """
        arm = judge_head(self._field, values, name=name, layer=layer, seed=self._ground.seed, **options)
        arms = self._standing.arms
        arms.append(arm)
        self._watcher.progress("measuring heads", len(arms), max(len(arms), _USUALLY))
        return arm

    def at_depths(self, ladder: Ladder) -> Callable[[], DepthProfile | None]:
        """Judge heads on the best single depth and on all depths together; returns what compares the depths."""
        from thawline.heads import judge_depths
        from thawline.planning.depth_profile import depth_profile

        field, names = self._field, depth_rungs(ladder)
        values, widths = self._features.side_by_side(names)
        of_depths = np.split(values, np.cumsum(widths)[:-1], axis=1)
        usual = usual_head(field.truth)
        paths = judge_depths(of_depths, field.truth, field.n_classes, groups=field.groups)
        losses = [np.inf if path.log_loss is None else path.log_loss for path in paths]
        best = int(np.argmin(losses))
        if names[best] != "pooled":
            start = int(np.sum(widths[:best]))
            self.judge(f"{names[best]}, {usual}", values[:, start : start + widths[best]], names[best])
        self.judge(f"all depths, {usual}", values, ",".join(names), widths=widths)
        if field.targets is not None:
            return lambda: None
        return partial(depth_profile, paths, field.labels, names, groups=field.groups, seed=self._ground.seed)

    def for_comparison(self, pooled: NDArray[np.float32]) -> None:
        """Judge what is never chosen: what the data offer without any pre-trained model, and other kinds of head.

        Args:
            pooled: (N, D) features of the last layer, of all samples.
        """
        data, rows = self._ground.data, self._field.rows
        simple = kind_of(data.kind).SIMPLE
        self.judge(
            f"no backbone: {simple.sees}, {usual_head(self._field.truth)}",
            simple_features(data, rows).learned,
            simple.name,
        )
        if self._field.targets is not None:
            return
        for name, head in (("ridge", "ridge"), ("svm", "svm"), ("five neighbours", "knn")):
            self.judge(f"last layer, {name}", pooled[rows], "pooled", head=head)
