"""Say how good a classifier is, how sure that is, and whether it was worth the trouble.

Takes what is true with what was predicted (N, C), and for baselines the features and thumbnails of the same split;
gives scores with 95 % intervals, three simpler methods beside them and a verdict in words. Refuses empty input and
probabilities that are none; imports no torch.
"""

from thawline.evaluation.baselines import MeasuredBaseline as MeasuredBaseline
from thawline.evaluation.baselines import baselines as baselines
from thawline.evaluation.difference import paired_difference as paired_difference
from thawline.evaluation.intervals import wilson as wilson
from thawline.evaluation.scoring import score as score
from thawline.evaluation.scoring import to_json as to_json
from thawline.evaluation.targets import Rows as Rows
from thawline.evaluation.targets import evaluator_for as evaluator_for
from thawline.evaluation.verdict import only_class as only_class
from thawline.evaluation.verdict import verdict as verdict

__all__ = [
    "MeasuredBaseline",
    "Rows",
    "baselines",
    "evaluator_for",
    "only_class",
    "paired_difference",
    "score",
    "to_json",
    "verdict",
    "wilson",
]
