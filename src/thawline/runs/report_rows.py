"""What the report of a run says, as plain values, and the rows of its tables and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thawline.evaluation.intervals import wilson
from thawline.records import PARTS, Baseline, Part, Preparation, Score, Scores, Skipped, StageReport, Target
from thawline.showing import MAX_NAME, few

if TYPE_CHECKING:
    from thawline.backbones import LoadReceipt

MAX_STRENGTHS = 200
MAX_STAGES = 50


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test sample that was given a wrong class, and how sure the model was of it."""

    file: str
    true: str
    predicted: str
    probability: float
    """Of the predicted class."""
    shown: bytes | str | None = None
    """PNG, at most ``THUMBNAIL_PX`` on each side; or the beginning of a text."""


@dataclass(frozen=True, slots=True)
class Twin:
    """One of two samples that are shown side by side."""

    file: str
    label: str
    part: str
    """Set that it stands in: ``training set``; ``left out`` if in none."""
    shown: bytes | str | None = None
    """As in ``Mistake``."""


@dataclass(frozen=True, slots=True)
class CopiesShown:
    """How many samples are copies of others, and some pairs of them."""

    counts: Mapping[str, Any]
    """As ``metrics.json`` has them."""
    copies: tuple[tuple[Twin, Twin], ...] = ()
    """Near copies."""
    alike: tuple[tuple[Twin, Twin], ...] = ()
    """Samples that are nearly alike and were not taken for copies."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """Everything that the report says, as plain values."""

    title: str
    verdict: str
    """One sentence: was the pre-trained model worth it, against the best simpler method."""
    model: str
    thaw: str
    trainable: int
    """Parameters that learned, the head included."""
    frozen: int
    """Parameters that did not."""
    classes: tuple[str, ...]
    """Names of the classes, or of the labels or numbers."""
    counts: Mapping[Part, Sequence[int]]
    """Samples of each class in each set, or with each label; of numbers samples alone."""
    split_origin: str
    test: Scores
    receipt: str
    """``clean``, or the sentence that says what moved."""
    val: Scores | None = None
    target: Target = "class"
    sizes: Mapping[Part, int] = field(default_factory=dict)
    """Samples in each set, where ``counts`` do not add up to them."""
    preparation: Preparation | None = None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    head_path: tuple[Mapping[str, float], ...] = ()
    """Each strength that was tried: ``C`` or ``lambda``, ``log_loss`` and, if known, its standard error ``se``."""
    head_c: float | None = None
    """The C or lambda that was kept."""
    stages: tuple[StageReport, ...] = ()
    receipts: tuple[Mapping[str, Any], ...] = ()
    """One per stage, as ``receipt.json`` holds them."""
    loaded: LoadReceipt | None = None
    """What became of each tensor of the weights and of the backbone."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """``total`` and its parts."""
    computed: int = 0
    reused: int = 0
    copies: CopiesShown | None = None
    noun: str = "picture"
    """What a sample is called."""
    same: str = "the same picture, saved again or shrunk"
    """What near copies are."""
    mistakes: tuple[Mistake, ...] = ()
    """The most confident first."""
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
    """Commands to try next, and what each does."""


def copies_said(report: ReportData) -> str:
    """Say how many samples are copies of others: ``25 repeat the content of another; 19 are near copies``."""
    if report.copies is None:
        return ""
    counts = report.copies.counts
    across = counts["across_given_split"]
    words = {
        "identical": "repeat the content of another",
        "near": "are near copies of another" + (f", {across:,} across the split that the data bring" if across else ""),
        "alike": "are nearly alike, and not taken for copies",
    }
    said = [f"{counts[name]:,} {word}" for name, word in words.items() if counts[name]] or ["none found"]
    sought = {"exact": "near copies were not sought", "off": "they are not kept together, near ones were not sought"}
    return "; ".join([*said, *([sought[counts["sought"]]] if counts["sought"] in sought else [])])


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One line of the table of classes."""

    name: str
    counts: tuple[int, ...]
    """Samples in train, val, test."""
    recall: Score
    precision: float
    f1: float


@dataclass(frozen=True, slots=True)
class StageRow:
    """One line of the table of stages."""

    name: str
    line: str
    """The layer that the thaw line stands above; empty if no layer was thawed."""
    trainable: int
    effort: str
    """Epochs and views."""
    accuracy: Score | None
    """On the validation set."""
    loss: Score | None
    score: float | None
    score_name: str
    """The score that the stage was judged by, and its name."""
    outcome: str
    """``kept``, ``rolled back``, or empty if nothing was to be decided."""
    seconds: float


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """One line of the table of receipts."""

    stage: str
    frozen: int
    """Parameters and buffers that were compared bit for bit."""
    digest: str
    learned: int
    """Tensors that learned."""
    least_change: float | None
    """Smallest relative change of a tensor that learned."""
    least_gradient: float | None
    """Smallest, over these tensors, of the largest gradient norm."""
    moved_buffers: int


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One line of the table of loaded tensors: all that met one fate in one way."""

    fate: str
    how: str
    tensors: int
    numbers: int
    examples: str
    """A few of their names."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """One off-diagonal cell of the confusion matrix."""

    true: str
    predicted: str
    count: int
    of: int
    """Test samples of the true class."""


@dataclass(frozen=True, slots=True)
class Strength:
    """One value of C or lambda that was tried."""

    value: float
    log_loss: float
    standard_error: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """How the loss of one stage went."""

    stage: str
    start: float
    """Epochs of the stages before it."""
    points: tuple[tuple[float, float, float | None], ...]
    """(epochs so far, training loss, validation loss)"""
    kept: bool


def class_rows(report: ReportData) -> list[ClassRow]:
    """Return one row per class or label, the lowest recall first; those without test samples last. None of numbers."""
    rows: list[ClassRow] = []
    if report.target == "number":
        return rows
    for index, (name, values) in enumerate(zip(report.classes, report.test.per_class, strict=True)):
        if report.test.confusion.size:
            hits, n = int(report.test.confusion[index, index]), int(report.test.confusion[index].sum())
        else:  # of labels, several of which a sample may have
            n = int(values["n"])
            hits = round(values["recall"] * n)
        recall = Score("recall", hits / n if n else 0.0, wilson(hits, n) if n else (0.0, 1.0), n)
        counts = tuple(int(report.counts[part][index]) if part in report.counts else 0 for part in PARTS)
        rows.append(ClassRow(name, counts, recall, float(values["precision"]), float(values["f1"])))
    return sorted(rows, key=lambda row: (row.recall.n == 0, row.recall.value, row.f1))


def strengths(report: ReportData) -> tuple[list[Strength], str]:
    """Return the strengths that were tried, in ascending order, and the name of their parameter."""
    name = "C" if all("C" in step for step in report.head_path) else "lambda"
    steps = sorted(report.head_path[:MAX_STRENGTHS], key=lambda step: step[name])
    return [Strength(s[name], s["log_loss"], s.get("se"), s[name] == report.head_c) for s in steps], name


def stage_rows(report: ReportData) -> list[StageRow]:
    rows = []
    for stage in report.stages:
        training = stage.training
        effort = "" if training is None else f"{training.epochs:.3g} epochs"
        if training is not None and training.views:
            effort += f", {training.views} views"
        accuracy = loss = None
        if training is not None and (val := training.validation) is not None:
            accuracy = Score("accuracy", val.accuracy, val.accuracy_ci95, val.n)
            loss = None if stage.score is None else Score("log_loss", stage.score, val.loss_ci95, val.n)
        rows.append(
            StageRow(
                name=stage.name,
                line="" if training is None else training.rung,
                trainable=stage.trainable,
                effort=effort,
                accuracy=accuracy,
                loss=loss,
                score=stage.score,
                score_name=stage.score_name,
                outcome="" if training is None else "kept" if training.kept else "rolled back",
                seconds=stage.seconds,
            )
        )
    return rows


def receipt_rows(report: ReportData) -> list[ReceiptRow]:
    return [
        ReceiptRow(
            stage=receipt["stage"],
            frozen=receipt["frozen_parameters"] + receipt["frozen_buffers"],
            digest=receipt["frozen_sha256"],
            learned=len(receipt["thawed"]),
            least_change=min((tensor["change"] for tensor in receipt["moved"]), default=None),
            least_gradient=min((tensor["gradient"] for tensor in receipt["moved"]), default=None),
            moved_buffers=len(receipt["moved_buffers"]),
        )
        for receipt in report.receipts
    ]


def load_rows(report: ReportData) -> list[LoadRow]:
    """Return one row for each group of tensors that met one fate in one way."""
    return [
        LoadRow(
            fate=fate,
            how=how,
            tensors=len(tensors),
            numbers=sum(tensor.n for tensor in tensors),
            examples=few([tensor.name or tensor.sources[0] for tensor in tensors], 3, MAX_NAME),
        )
        for fate, how, tensors in (report.loaded.groups() if report.loaded else ())
    ]


def curves(report: ReportData) -> list[Curve]:
    """Return the loss of each stage over its epochs, stages one after the other."""
    found: list[Curve] = []
    start = 0.0
    for stage in report.stages[:MAX_STAGES]:
        history = () if stage.training is None else stage.training.history
        points = [(start + point.epoch, point.train_loss, point.val_loss) for point in history]
        if points:
            found.append(Curve(stage.name, start, tuple(points), stage.kept))
            start = points[-1][0]
    return found


def confusions(report: ReportData, limit: int = 20) -> list[Confusion]:
    """Return the most frequent mistakes: true class, predicted class, how often."""
    import numpy as np

    wrong = np.array(report.test.confusion)
    if not wrong.size:
        return []
    per_class = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        Confusion(report.classes[true], report.classes[guess], int(wrong[true, guess]), int(per_class[true]))
        for true, guess in cells
        if wrong[true, guess] > 0
    ]


def heat(report: ReportData) -> Iterator[tuple[str, list[tuple[int, int, bool]]]]:
    """Yield for each true class its name and, for each predicted class, (count, depth of colour, whether it is right).

    The depth, 0 to 100, is the square root of the share of the row: a rare mistake can still be seen.
    """
    for index, name in enumerate(report.classes):
        row = [int(count) for count in report.test.confusion[index]]
        n = max(sum(row), 1)
        yield name, [(count, round(100 * (count / n) ** 0.5), guess == index) for guess, count in enumerate(row)]
