"""The frozen records of gradient descent: what a listener hears, and what a stage reports.

They stand beside ``records`` because a run that trains nothing need not load them. Importing this module loads neither
numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One evaluation while a stage trains: what a listener hears."""

    stage: str
    stage_number: int
    """From 1."""
    n_stages: int
    epoch: float
    """Passes over the training set so far, in this stage."""
    step: int
    n_steps: int
    """Of this stage."""
    train_loss: float
    """Mean over the samples since the previous evaluation."""
    val_loss: float | None
    val_accuracy: float | None
    """Both None without a validation set."""
    samples_per_s: float
    seconds_left: float
    """Until the end of the stage."""
    lr: float


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation as the history of its stage keeps it."""

    step: int
    epoch: float
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsReport:
    """Where the inputs of a stage came from: features, fresh activations or the boundary cache."""

    kind: str
    """``features``, ``fresh`` or ``boundary``; only the last one has the fields below."""
    computed: int | None = None
    """Rows that were computed now."""
    reused: int | None = None
    """Rows that were found in the cache."""
    bytes: int | None = None
    made_from: str | None = None
    """``pictures``, or the layer whose stored activations the new ones were computed from."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What the net of a stage reached on the validation set, after a temperature."""

    loss_ci95: tuple[float, float]
    """Normal interval of the mean log loss, which is the score of the stage."""
    accuracy: float
    accuracy_ci95: tuple[float, float]
    """Wilson interval."""
    n: int
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What gradient descent did in one stage."""

    thaw: str
    """Thaw setting of the stage."""
    rung: str
    """The layer that the thaw line stands above."""
    epochs: float
    """Passes over the samples that were made; fewer than planned where a budget ended the stage."""
    steps: int
    best_step: int
    """After this step the net had the weights that the stage ended with."""
    kept: bool
    """False where the stage was rolled back."""
    views: int
    """Augmented views of each sample in the boundary cache; 0 = fresh ones each epoch."""
    cache: InputsReport
    history: tuple[Point, ...]
    validation: ValidationReport | None
    """None where nothing could be held out."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain object, fit for JSON; without what does not apply, and the validation's numbers in line."""
        plain = asdict(self)
        plain["cache"] = {name: value for name, value in plain["cache"].items() if value is not None}
        validation = plain.pop("validation") or {}
        return plain | {_VALIDATION_KEYS[name]: value for name, value in validation.items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> TrainingReport:
        """Rebuild what ``to_json`` gave."""
        own = {name: value for name, value in plain.items() if name not in _VALIDATION_KEYS.values()}
        validation = {name: plain[key] for name, key in _VALIDATION_KEYS.items() if key in plain}
        for name in ("loss_ci95", "accuracy_ci95"):
            if name in validation:
                validation[name] = tuple(validation[name])  # JSON has lists only
        own["cache"] = InputsReport(**plain["cache"])
        own["history"] = tuple(Point(**point) for point in plain["history"])
        return cls(**own, validation=ValidationReport(**validation) if validation else None)


_VALIDATION_KEYS = {
    "loss_ci95": "val_loss_ci95",
    "accuracy": "val_accuracy",
    "accuracy_ci95": "val_ci95",
    "n": "val_n",
    "temperature": "temperature",
}
"""Field of ``ValidationReport`` -> its key in ``metrics.json``, where it stands among the details of its stage."""
