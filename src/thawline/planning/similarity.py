"""Measure how like the source the data are: four measures, each with its own null, none of which decides alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from thawline.backbones.names import POOLED
from thawline.errors import UsageError
from thawline.inputs import kind_of
from thawline.planning.depth_profile import DepthProfile
from thawline.planning.distances import Distance
from thawline.planning.norm_shift import NormShift, norm_shift
from thawline.planning.observing import draw_pictures, observe
from thawline.planning.reference_moments import ReferenceMoments, frechet, read_moments
from thawline.planning.source_head import SourceConfidence, SourceHead, read_source_head, source_confidence

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset

Likeness = Literal["similar", "unclear", "different"]

N_PICTURES, FEWEST_PICTURES = 64, 8
SHIFT_SIMILAR, SHIFT_DIFFERENT = 0.1, 0.4
"""Batch-norm shift, in source variances: means that are off by 0.3, and by 0.6, standard deviations."""
REFERENCE_SIMILAR, REFERENCE_DIFFERENT = 0.5, 1.0
"""Distance to the source's moments, in source variances: at 1 the data are as far from the source as its own pictures
are from their mean."""
GAP_SIMILAR, GAP_DIFFERENT = 0.1, 0.1
"""Share of the last depth's errors that an earlier depth saves: similar if surely less, different if at least that much
and surely some."""
LITTLE = 0.02
"""An earlier depth that saves less error than this does not matter, however few the errors are."""
EARLY_SHIFT = 3.0
"""A shift counts as early if the first third of the layers shifts more than so many times as much as the last third.

All thresholds are rules of thumb, set by what the numbers mean and not fitted to data.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityReport:
    """Four measures, the reading of each, and their reading together."""

    reading: Likeness
    """``unclear`` unless at least two measures agree and more do than disagree."""
    readings: Mapping[str, Likeness]
    """Of each measure that could be taken: norm_shift, depth_profile, reference."""
    norm_shift: NormShift | None
    depth_profile: DepthProfile | None
    source_confidence: SourceConfidence | None
    """Shown only: high confidence far from the source is common."""
    reference: Mapping[str, Distance] | None
    """Rung -> distance to the moments of source pictures."""
    missing: Mapping[str, str]
    """Measure -> why there is none."""
    n_pictures: int
    """Pictures that the backbone was shown."""
    seconds: float
    words: str
    noun: str = "picture"
    """What a sample is called."""

    @property
    def shifts_early(self) -> bool:
        """Whether the first layers shift far more than the last: the pictures differ in how they look."""
        shift = self.norm_shift
        return shift is not None and shift.early.excess > max(EARLY_SHIFT * shift.late.excess, SHIFT_SIMILAR)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for ``--json``."""
        reference = self.reference or {}
        return {
            "reading": self.reading,
            "readings": dict(self.readings),
            "norm_shift": self.norm_shift and self.norm_shift.to_json(),
            "depth_profile": self.depth_profile and self.depth_profile.to_json(),
            "source_confidence": self.source_confidence and self.source_confidence.to_json(),
            "reference": {rung: distance.to_json() for rung, distance in reference.items()} or None,
            "missing": dict(self.missing),
            "n_pictures": self.n_pictures,
            "shifts_early": self.shifts_early,
            "seconds": self.seconds,
            "words": self.words,
        }


def measure_similarity(
    backbone: Backbone,
    data: Dataset,
    rows: ArrayLike | None = None,
    *,
    profile: DepthProfile | None = None,
    n_pictures: int = N_PICTURES,
    seed: int = 0,
) -> SimilarityReport:
    """Show training pictures to the frozen backbone, and compare with what it knows of its source.

    Args:
        backbone: Nothing in it changes.
        data: Where the pictures are.
        rows: Training rows that may be looked at; all by default.
        profile: Of closed-form probes at several depths, if they were fitted.
        n_pictures: At most that many, one of each group.
        seed: Decides which pictures, and the halves of every null.
    Raises:
        UsageError: Fewer than eight pictures asked for.
        DataError: A sample cannot be read any more, or has changed, since the data was opened.
        ModelError: The backbone cannot be run, or the moments beside its weights are damaged.
    """
    started = time.perf_counter()
    if n_pictures < FEWEST_PICTURES:
        raise UsageError(f"n_pictures must be at least {FEWEST_PICTURES}; got {n_pictures}.")
    noun = kind_of(data.kind).NOUN
    chosen = np.arange(len(data)) if rows is None else np.asarray(rows)
    pictures = draw_pictures(data, chosen, backbone, n_pictures, seed=seed)
    measures: dict[str, Any] = {"norm_shift": None, "source_confidence": None, "reference": None}
    missing: dict[str, str] = {}
    if profile is None:
        missing["depth_profile"] = "no probes were fitted on several depths, or nothing could be left out"
    if len(pictures) < FEWEST_PICTURES:
        few = f"{len(pictures)} independent {noun}s are too few; {FEWEST_PICTURES} are needed"
        missing |= dict.fromkeys(measures, few)
    else:
        head, moments = read_source_head(backbone), read_moments(backbone)
        rungs = [] if isinstance(moments, str) else [rung for rung in moments.rungs if rung != POOLED]
        seen = observe(backbone, pictures, [*rungs, POOLED])
        measures["norm_shift"] = norm_shift(seen.norms, seed=seed) if seen.norms else None
        if not seen.norms:
            missing["norm_shift"] = "the backbone has no batch norm, so it keeps no statistics of its source"
        pooled = seen.features[POOLED]
        if isinstance(head, SourceHead) and head.weight.shape[1] == pooled.shape[1]:
            measures["source_confidence"] = source_confidence(head.logits(pooled), seed=seed)
        else:
            wide = "the classifier in the weights does not stand on the pooled features"
            missing["source_confidence"] = head if isinstance(head, str) else wide
        if isinstance(moments, ReferenceMoments):
            measures["reference"] = {
                rung: frechet(seen.features[rung], own, seed=seed) for rung, own in moments.rungs.items()
            }
        else:
            missing["reference"] = moments
    report = read_similarity(depth_profile=profile, missing=missing, n_pictures=len(pictures), noun=noun, **measures)
    return replace(report, seconds=time.perf_counter() - started)


def read_similarity(
    *,
    norm_shift: NormShift | None = None,
    depth_profile: DepthProfile | None = None,
    source_confidence: SourceConfidence | None = None,
    reference: Mapping[str, Distance] | None = None,
    missing: Mapping[str, str] | None = None,
    n_pictures: int = 0,
    noun: str = "picture",
) -> SimilarityReport:
    """Read each measure by itself, then all of them together, and put it into words."""
    readings: dict[str, Likeness] = {}
    if norm_shift is not None:
        readings["norm_shift"] = _between(norm_shift.overall.excess, SHIFT_SIMILAR, SHIFT_DIFFERENT)
    if depth_profile is not None:
        readings["depth_profile"] = _read_gap(depth_profile)
    if reference:
        readings["reference"] = _between(_mean_excess(reference), REFERENCE_SIMILAR, REFERENCE_DIFFERENT)
    report = SimilarityReport(
        reading=_together(readings),
        readings=readings,
        norm_shift=norm_shift,
        depth_profile=depth_profile,
        source_confidence=source_confidence,
        reference=reference,
        missing=missing or {},
        n_pictures=n_pictures,
        seconds=0.0,
        words="",
        noun=noun,
    )
    return replace(report, words=_words(report))


def _between(value: float, similar: float, different: float) -> Likeness:
    return "similar" if value <= similar else "different" if value >= different else "unclear"


def _read_gap(profile: DepthProfile) -> Likeness:
    low, high = profile.gap_ci95
    if profile.gap >= GAP_DIFFERENT and low > 0:
        return "different"
    return "similar" if high < GAP_SIMILAR or profile.saved_ci95[1] < LITTLE else "unclear"


def _together(readings: Mapping[str, Likeness]) -> Likeness:
    """Return what at least two measures say, if more say it than say the opposite."""
    similar, different = (list(readings.values()).count(reading) for reading in ("similar", "different"))
    if max(similar, different) < 2 or similar == different:
        return "unclear"
    return "similar" if similar > different else "different"


def _mean_excess(reference: Mapping[str, Distance]) -> float:
    return float(np.mean([distance.excess for distance in reference.values()]))


def _words(report: SimilarityReport) -> str:
    opening = {
        "similar": f"The {report.noun}s look like those that the backbone learned from.",
        "different": f"The {report.noun}s look different from those that the backbone learned from.",
        "unclear": f"It is unclear whether the {report.noun}s look like those that the backbone learned from.",
    }[report.reading]
    found = []
    if (shift := report.norm_shift) is not None:
        found.append(
            f"inside the backbone, channels are {shift.overall.excess:.2f} variances off its stored statistics "
            f"(early {shift.early.excess:.2f}, late {shift.late.excess:.2f}; 0 on its source): "
            f"{report.readings['norm_shift']}"
        )
    if report.reference:
        found.append(
            f"its features are {_mean_excess(report.reference):.2f} source variances off those of source "
            f"{report.noun}s (0 on its source): {report.readings['reference']}"
        )
    if (profile := report.depth_profile) is not None:
        low, high = (100 * share for share in profile.saved_ci95)
        found.append(
            f"a linear head on an earlier depth errs {100 * profile.saved:.1f} points less ({low:.1f} to {high:.1f}) "
            f"than on the last depth, where it errs on {100 * profile.errors[-1]:.1f} %: "
            f"{report.readings['depth_profile']}"
        )
    if (confidence := report.source_confidence) is not None:
        found.append(
            f"the backbone's own {confidence.n_classes:,} classes get {100 * confidence.max_softmax:.0f} % confidence "
            f"(energy {confidence.energy:.1f}), which says little without source {report.noun}s to compare with"
        )
    if not found:
        return f"{opening} Nothing could be measured."
    listed = "; ".join(found)
    return f"{opening} {listed[0].upper()}{listed[1:]}. These are rules of thumb: two must agree, none decides."
