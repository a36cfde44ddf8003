"""How each metric is called and written for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from thawline.records import Score, Target


class Words(NamedTuple):
    """What a metric is called, and what it says."""

    title: str
    why: str
    is_share: bool = True
    """Whether it is written as per cent in reports."""
    note: str = ""
    """What a table of one metric a line adds to its name."""


WORDS = {
    "accuracy": Words("accuracy", "The share of test samples given the right class."),
    "balanced_accuracy": Words("balanced accuracy", "The same, with every class counting equally."),
    "macro_f1": Words("macro F1", "Misses and false alarms together, every class or label counting equally."),
    "top5_accuracy": Words("top-5 accuracy", "The right class is among the first five guesses."),
    "log_loss": Words("log loss", "How wrong the probabilities are; 0 is perfect.", False, " (nats, lower is better)"),
    "micro_f1": Words("micro F1", "Misses and false alarms together, over all labels of all samples."),
    "mean_average_precision": Words("mean average precision", "How well each label ranks its own samples first."),
    "subset_accuracy": Words("subset accuracy", "The share of samples whose labels are all right."),
    "hamming_loss": Words("Hamming loss", "The share of labels that are wrong.", note=" (lower is better)"),
    "micro_f1_best": Words("micro F1, best thresholds", "With the threshold of each label that was best on others."),
    "macro_f1_best": Words("macro F1, best thresholds", "The same, every label counting equally."),
    "r2": Words("R2", "The share of the variance that is explained; always saying the mean has 0.", False),
    "rmse": Words("RMSE", "Root of the mean squared error, in the unit of the numbers.", False, " (lower is better)"),
    "mae": Words("MAE", "Mean absolute error, in the unit of the numbers.", False, " (lower is better)"),
    "spearman": Words("Spearman", "Correlation of ranks: whether larger numbers are predicted larger.", False),
}
SHOWN: Mapping[Target, tuple[str, ...]] = {
    "class": ("accuracy", "macro_f1", "log_loss"),
    "labels": ("micro_f1", "macro_f1", "mean_average_precision", "log_loss"),
    "number": ("r2", "rmse", "mae", "spearman"),
}
"""Target -> metrics that a table of methods shows, the one that stands for all first."""

JUDGED_BY: Mapping[Target, str] = {"class": "accuracy", "labels": "all right", "number": "R2"}
"""Target -> what stages and candidates show beside their loss, in a narrow column."""
PER_OUTPUT: Mapping[Target, tuple[str, tuple[str, ...]]] = {
    "class": ("class", ("recall", "precision", "f1")),
    "labels": ("label", ("recall", "precision", "f1")),
    "number": ("number", ("r2", "rmse", "mae", "spearman")),
}
"""Target -> what an output is called, and what is said of each."""


def words_of(name: str) -> Words:
    """Return the words of a metric; one that a newer release wrote is called as it is."""
    return WORDS.get(name, Words(name.replace("_", " "), "", False))


def written(name: str, value: float) -> str:
    """Write a value as reports do: ``87.5 %``, ``0.312``, or ``1,234`` in the unit of the data."""
    if words_of(name).is_share:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def interval(name: str, score: Score | Mapping[str, Any]) -> str:
    """Write the interval of a metric: ``81.2 to 92.0 %``."""
    low, high = score.ci95 if isinstance(score, Score) else score["ci95"]
    first = written(name, low).removesuffix(" %")
    return f"{first} to {written(name, high)}"
