"""Fit a new head on features, in seconds: classes, labels or numbers.

Takes features (N, D), what is to be predicted and, if known, groups of samples that must stay together. Gives a head,
the strength that cross-validation or leave-one-out chose for it, and every strength that lost. Refuses features that
are not finite, labels that are no classes, and training sets with fewer than two classes; imports no torch.
"""

from thawline.heads.depths import FittedDepths as FittedDepths
from thawline.heads.depths import fit_depths as fit_depths
from thawline.heads.depths import judge_depths as judge_depths
from thawline.heads.fitting import FittedHead as FittedHead
from thawline.heads.fitting import HeadKind as HeadKind
from thawline.heads.fitting import fit_head as fit_head
from thawline.heads.fitting import held_out_logits as held_out_logits
from thawline.heads.fitting import refit_head as refit_head
from thawline.heads.head import Head as Head
from thawline.heads.head import LinearHead as LinearHead
from thawline.heads.head import NeighboursHead as NeighboursHead
from thawline.heads.loading import head_from_tensors as head_from_tensors
from thawline.heads.mlp import MLPHead as MLPHead
from thawline.heads.tasks import Task as Task
from thawline.heads.tasks import task_for as task_for
from thawline.heads.tasks import task_of as task_of

__all__ = [
    "FittedDepths",
    "FittedHead",
    "Head",
    "HeadKind",
    "LinearHead",
    "MLPHead",
    "NeighboursHead",
    "Task",
    "fit_depths",
    "fit_head",
    "head_from_tensors",
    "held_out_logits",
    "judge_depths",
    "refit_head",
    "task_for",
    "task_of",
]
