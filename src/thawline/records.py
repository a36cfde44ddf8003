"""The frozen records that one room hands to the next.

Spec = asked, Plan = decided, Report = measured, Bundle = saved. Shapes: N samples, C classes, D feature dimensions.
Importing this module loads neither numpy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from thawline.errors import ModelError
from thawline.naming import written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.training_records import TrainingReport

    Payload = bytes | NDArray[Any] | str
    """One sample as it is stored: the bytes of a file, pixels (H, W) or (H, W, 3), or a text. Pixels are uint8, or of
    a type that ``ValueScale`` names."""

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
Precision = Literal["f32", "bf16", "int8"]
"""What layers compute in."""
Target = Literal["class", "labels", "number"]
"""What is learned of each sample: its one class, which of several labels it has, or one or more numbers."""
TargetAsked = Literal["auto", "class", "labels", "number"]
"""``auto``: one class, or several labels where cells are lists beyond doubt."""


class Source(Protocol):
    """Where the samples of a data set lie. Safe to call from several threads."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Payload:
        """Return sample ``index`` as stored; raises UndecodableError where it cannot be read any more."""
        ...


@dataclass(frozen=True, slots=True)
class ValueScale:
    """How numbers that are deeper than 8 bits become grey levels: one line through black and white."""

    values: str
    """Their type: uint16, int16, uint32, int32 or float."""
    black: float
    white: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was found and could not be used."""

    file: str
    reason: str

    def __post_init__(self) -> None:
        """Hold the name as every file and terminal can."""
        object.__setattr__(self, "file", written(self.file))


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Which samples of a data set are copies of others."""

    sought: Literal["near", "exact", "off"]
    """Which copies count: all, those of identical content, or none."""
    firm: NDArray[np.int64]
    """(N,) ``Dataset.groups`` as they would be without near copies: declared or identical."""
    family: NDArray[np.int64]
    """(N,) equal numbers for near copies, which are so pairwise; a number of its own for any other content."""
    alike: NDArray[np.int64]
    """(N,) equal numbers for samples that are too many, and too much alike, to be copies; -1 for all others."""

    def of(self, rows: NDArray[np.int64]) -> Copies:
        """Return what is known of some rows."""
        return Copies(self.sought, self.firm[rows], self.family[rows], self.alike[rows])


OUTPUTS: Mapping[Target, tuple[str, str]] = {
    "class": ("class", "classes"),
    "labels": ("label", "labels"),
    "number": ("number", "numbers"),
}
"""What a model puts out for each target: one, and several of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What is to be learned of each sample, if that is not its one class."""

    kind: Literal["labels", "number"]
    names: tuple[str, ...]
    """(C,) of the labels, or of the columns of numbers."""
    values: NDArray[Any]
    """(N, C): bool, whether a sample has a label; or float64, the numbers."""

    def of(self, rows: NDArray[np.int64]) -> Targets:
        """Return those of some rows."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled samples, every one of which has been decoded once and found readable."""

    name: str
    """Short name, from the folder or file."""
    files: tuple[str, ...]
    """(N,) what the user calls each sample: path below the folder, ``table.csv`` cell, or ``train.parquet#17``."""
    labels: NDArray[np.int64]
    """(N,) index into ``classes``."""
    classes: tuple[str, ...]
    """What a split keeps the shares of: the classes or, with ``targets``, strata that are made of these."""
    source: Source
    digests: tuple[str, ...]
    """(N,) SHA-256 (hex) of each sample's content; equal content, equal digest, whatever its name."""
    sketches: NDArray[np.uint8]
    """(N, ...) uint8, what each sample looks like from afar: near copies are judged by it, and the baseline without a
    backbone learns from it. Of pictures: (N, 16, 16, 3) RGB, the whole picture squashed."""
    groups: NDArray[np.int64]
    """(N,) samples with equal numbers must stay on one side of a split (declared, identical or nearly identical)."""
    given: NDArray[np.str_] | None = None
    """(N,) ``train``, ``val`` or ``test`` where the data came already split."""
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    """Sentences that the user should read before believing any number."""
    root: Path | None = None
    seconds: float = 0.0
    """Time that opening took."""
    opened: Mapping[str, Any] | None = None
    """Keyword arguments, fit for JSON, with which ``open_data`` opens it again; None where no path leads to it."""
    kind: str = "image"
    """The kind of input that the samples are, a name in ``inputs.KINDS``."""
    scales: tuple[ValueScale, ...] = ()
    """By which samples deeper than 8 bits are read: judged over all of them, at most one for each type of number."""
    copies: Copies | None = None
    """What was found out about copies; None if nobody looked."""
    drawn: int = 0
    """How many of the samples that were found were drawn and opened, where that was not all; 0 where it was."""
    targets: Targets | None = None
    """What is learned; None where that is the class of each sample."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def target(self) -> Target:
        """What is learned of each sample."""
        return "class" if self.targets is None else self.targets.kind

    @property
    def truth(self) -> NDArray[Any]:
        """What is to be predicted: classes (N,) int64, labels (N, C) bool, or numbers (N, C) float64.

        The type of the array says which of these it is, to everything that learns from it or judges by it.
        """
        return self.labels if self.targets is None else self.targets.values

    @property
    def outputs(self) -> tuple[str, ...]:
        """(C,) names of what a model puts out: a probability of each class or label, or each number."""
        return self.classes if self.targets is None else self.targets.names

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {self._summary()})"

    def _repr_html_(self) -> str:
        """Show classes and their counts, for notebooks."""
        from thawline.showing import card, table_html

        columns, counts = self._counts()
        rows = [(name, *(int(n[label]) for n in counts)) for label, name in enumerate(self.classes)]
        strata = "class" if self.targets is None else "stratum"
        return card(f"Data set {self.name}", (self._summary(), *self.warnings), table_html((strata, *columns), rows))

    def _summary(self) -> str:
        from thawline.showing import counted, few

        classes = f"{counted(len(self.outputs), *OUTPUTS[self.target])} ({few(self.outputs)})"
        skipped = f", {counted(len(self.skipped), 'file')} skipped" if self.skipped else ""
        return f"{counted(len(self), 'sample')}, {classes}{skipped}"

    def _counts(self) -> tuple[tuple[str, ...], tuple[NDArray[np.int64], ...]]:
        """Names of the sets that the data came with, or of one set of all samples; (C,) counts in each."""
        import numpy as np

        all_rows = np.ones(len(self), bool)
        sets = {"samples": all_rows} if self.given is None else {part: self.given == part for part in PARTS}
        n = len(self.classes)
        return tuple(sets), tuple(np.bincount(self.labels[rows], minlength=n) for rows in sets.values())


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of a data set; the three sets are disjoint in rows, and in groups where they were drawn.

    Sets that the data brought are disjoint in content and in declared groups, but may hold near copies of each other.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    origin: str
    """One sentence: given by the data, or drawn with which fractions and seed."""
    dropped: NDArray[np.int64]
    """Rows left out because a given split would have had their content or group on both sides."""

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{n:,} {name}' for name, n in self._sizes())}; {self.origin})"

    def _repr_html_(self) -> str:
        """Show the sizes of the sets, for notebooks."""
        from thawline.showing import card, table_html

        return card("Split", (self.origin,), table_html(("set", "samples"), self._sizes()))

    def _sizes(self) -> list[tuple[str, int]]:
        sizes = [("training", len(self.train)), ("validation", len(self.val)), ("test", len(self.test))]
        return [*sizes, ("dropped", len(self.dropped))] if len(self.dropped) else sizes


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and type of one prepared sample, as engines take it in batches (B, *shape)."""

    shape: tuple[int, ...]
    dtype: Literal["uint8", "int32"]
    """Name of the NumPy type."""
    pad: int | None = None
    """Number that fills the end of a sample that is shorter than ``shape``; None where none is."""

    @property
    def bytes(self) -> int:
        """Memory that one sample takes."""
        return math.prod(self.shape) * {"uint8": 1, "int32": 4}[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreparation:
    """How an image becomes the backbone's input; everything here changes numbers, so everything enters the key.

    The picture is turned upright (EXIF), made RGB of 8 bits, resized with antialiasing so that its shorter side
    (``crop_mode='center'``) or both sides (``'squash'``) are ``resize_px``, cropped in the centre, divided by 255 and
    normalised per channel.
    """

    input_px: tuple[int, int]
    """Height and width that the backbone sees."""
    resize_px: int
    """Length before the crop of the shorter side or, with ``squash``, of both."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    crop_mode: Literal["center", "squash"] = "center"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scales: tuple[ValueScale, ...] = ()
    """By which pictures deeper than 8 bits are read; a type without one is read by its full range."""
    kind: ClassVar[Literal["image"]] = "image"
    """The input kind it is for; decides no number, so it is no field."""

    def described(self) -> dict[str, Any]:
        """Return every field, fit for JSON; without scales, what it was before there were any, so that keys stay."""
        plain = asdict(self)
        return plain if self.scales else {name: value for name, value in plain.items() if name != "scales"}

    @property
    def in_graphs(self) -> ImagePreparation:
        """What is done to pictures once they have 8 bits: all that a network and its graphs know of."""
        return replace(self, scales=())

    @property
    def spec(self) -> ArraySpec:
        """A prepared picture: uint8 (H, W, 3)."""
        return ArraySpec((*self.input_px, 3), "uint8")

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Of a normalised picture, as the first layer takes it: (3, H, W)."""
        return (3, *self.input_px)


LongText = Literal["head", "head-tail", "windows"]
"""What becomes of a text with more tokens than the backbone takes: its beginning is read, or its beginning and its end,
or all of it in windows whose features are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPreparation:
    """How a text becomes the backbone's input; everything here but a path changes numbers, so it enters the key.

    ``prompt`` is put before the text, the tokenizer makes tokens of both, too many of them are dealt with as ``long``
    says, the tokenizer's special tokens are put around them, and ``pad`` fills up to ``length``.
    """

    tokenizer_sha256: str
    """Of the content of ``tokenizer.json``."""
    tokenizer_file: Path | None = field(default=None, compare=False)
    """Where it lies now; decides nothing."""
    length: int
    """Most tokens that the backbone sees, special tokens among them."""
    vocabulary: int
    """Tokens that the backbone has embeddings of: every id is below it."""
    pad: int
    """Id of the token that stands for nothing."""
    long: LongText = "head"
    prompt: str = ""
    lowercase: bool = False
    """Whether texts are made lower case before the tokenizer, which does not do so by itself."""
    scales: ClassVar[tuple[ValueScale, ...]] = ()
    """Texts have none."""
    kind: ClassVar[Literal["text"]] = "text"
    """The input kind it is for; decides no number, so it is no field."""

    def described(self) -> dict[str, Any]:
        """Return every field that decides numbers, fit for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "tokenizer_file"}

    @property
    def in_graphs(self) -> TextPreparation:
        """All that a network and its graphs know of: how texts become tokens is no concern of theirs."""
        return replace(self, tokenizer_sha256="", long="head", prompt="", lowercase=False)

    @property
    def spec(self) -> ArraySpec:
        """A prepared text: ids of tokens, int32 (length,), filled up at the end."""
        return ArraySpec((self.length,), "int32", self.pad)

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Of a text as the first layer takes it: (length,), or shorter."""
        return (self.length,)


Preparation = ImagePreparation | TextPreparation
"""How a sample as stored becomes what a backbone takes; one record for each input kind."""


def of_pictures(preparation: Preparation) -> ImagePreparation:
    """Return the preparation of a model that takes pictures.

    Raises:
        ModelError: It is for another kind of input.
    """
    if not isinstance(preparation, ImagePreparation):
        raise ModelError(f"the preparation must be one of pictures, as the model takes them; got {preparation.kind}.")
    return preparation


def of_texts(preparation: Preparation) -> TextPreparation:
    """Return the preparation of a model that takes texts.

    Raises:
        ModelError: It is for another kind of input.
    """
    if not isinstance(preparation, TextPreparation):
        raise ModelError(f"the preparation must be one of texts, as the model takes them; got {preparation.kind}.")
    return preparation


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the frozen backbone says about each sample, in data-set order."""

    values: NDArray[np.float32]
    """(N, D)"""
    rung: str
    """``pooled`` (the backbone's own pooled output), the layer they were read from, or several with commas."""
    precision: Precision
    """What the backbone was run in."""
    engine: str
    """What ran it."""
    why: str
    """Why this engine."""
    key: str
    """Digest of everything but the samples that decides the numbers."""
    computed: int
    """Samples that were run now."""
    reused: int
    """The others: found in the store, or equal in content to one that was run."""
    seconds: float
    widths: tuple[int, ...] = ()
    """Columns of each layer, where several stand side by side; else empty."""

    def __repr__(self) -> str:
        n, width = self.values.shape
        ran = f"{self.computed:,} computed, {self.reused:,} reused"
        return f"Features({n:,} x {width:,} at {self.rung!r}, {self.engine} {self.precision}, {ran})"


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number with its doubt."""

    name: str
    value: float
    ci95: tuple[float, float]
    """95 % interval: Wilson for proportions, percentile bootstrap otherwise."""
    n: int
    """Samples it was measured on."""

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % {self.ci95[0]:.3f} to {self.ci95[1]:.3f}, n={self.n})"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How one classifier did on one set of samples."""

    metrics: Mapping[str, Score]
    """accuracy, balanced_accuracy, macro_f1, log_loss and, from six classes on, top5_accuracy; of labels and numbers as
    ``evaluation`` says."""
    per_class: tuple[Mapping[str, float], ...]
    """For each class: precision, recall, f1, n; likewise for each label or number."""
    confusion: NDArray[np.int64]
    """(C, C) counts; row = true class, column = predicted class. (0, 0) of labels and numbers."""
    headline: str = "accuracy"
    """Name of the metric that stands for all of them."""

    def __getitem__(self, name: str) -> Score:
        return self.metrics[name]

    def __repr__(self) -> str:
        return f"Scores({self.headline} {self.main}, {len(self.per_class):,} classes)"

    @property
    def main(self) -> Score:
        """The metric that stands for all of them."""
        return self.metrics[self.headline]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a simpler method reaches on the same split, and what that method was."""

    name: str
    """Key in ``--json``: majority, knn, pixels."""
    title: str
    """For people: ``logistic regression on 16 x 16 pixels``."""
    scores: Scores
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSearch:
    """How strongly a solved head is regularised, and which strengths lost."""

    kind: str
    """``logistic``, ``ridge`` or ``svm``."""
    chosen: float
    path: tuple[Mapping[str, float], ...]
    """One entry for each strength that was tried."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain object, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> HeadSearch:
        """Rebuild what ``to_json`` gave."""
        return cls(**{**plain, "path": tuple(plain["path"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of training: what was thawed, what it cost, what it reached."""

    name: str
    trainable: int
    """Parameters that learned."""
    frozen: int
    """Parameters that did not."""
    score: float | None
    """Score by which the stage was judged, on data it did not fit; None where nothing could be held out."""
    score_name: str
    seconds: float
    details: HeadSearch | TrainingReport | None = None
    """A head that was solved has a search; a stage of gradient descent has a training report."""

    @property
    def training(self) -> TrainingReport | None:
        """The report of gradient descent; None for a solved head."""
        return None if isinstance(self.details, HeadSearch) else self.details

    @property
    def kept(self) -> bool:
        """Whether the net that ships went through this stage."""
        return self.training is None or self.training.kept

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``metrics.json``, ``--json`` and checkpoints hold."""
        return asdict(self) | {"details": {} if self.details is None else self.details.to_json()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> StageReport:
        """Rebuild what ``to_json`` gave, also after it went through a file."""
        from thawline.training_records import TrainingReport

        details = plain["details"]
        kind = TrainingReport if "thaw" in details else HeadSearch
        return cls(**{**plain, "details": kind.from_json(details) if details else None})
