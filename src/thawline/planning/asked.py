"""What a plan is asked to be: every setting that can be asked for, typed and checked together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from thawline.errors import UsageError, nearest
from thawline.planning.budget import Budget
from thawline.training.settings import Settings, StagePlan, TrainAsk, TrainPlan

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_HIDDEN, MAX_WIDTH = 8, 65_536
"""Hidden layers of an mlp head, and units in each."""


class Askable(Settings):
    """Settings that a user may ask for and that a plan holds as they were asked."""

    thaw: str = Field(
        "none",
        description="Where the thaw line stands: none, all, progressive, last:N, first-frozen:K, stage:NAME, "
        "from:LAYER, 30%, regex:PATTERN, last-keras:N, first-frozen-keras:K.",
    )
    otherwise: str = Field(
        "",
        description="Layer whose frozen head ships if training does not beat it on the validation set; "
        "empty = what was trained ships.",
    )
    from_scratch: bool = Field(False, description="Train the architecture from random weights.")
    layer: str = Field(
        "pooled",
        description="Where features are read: pooled, or the name of a layer; behind a colon max, flatten or grid:N "
        "may follow.",
    )
    head: Literal["logistic", "ridge", "svm", "mlp"] = Field(
        "logistic", description="The new classifier: logistic, ridge, svm or mlp. Training starts from it."
    )
    hidden: tuple[int, ...] = Field((), description="Widths of the hidden layers of an mlp head.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of inputs that each layer of an mlp head drops.")
    fractions: tuple[float, float, float] = Field(
        (0.70, 0.15, 0.15), description="Shares for training, validation and test, if the data bring no split."
    )
    baselines: tuple[Literal["guides"], ...] = Field(
        (), description="Networks without a pre-trained model that are trained for comparison: guides, or none."
    )
    samples: int = Field(0, ge=0, description="Samples that are read, of those opened; 0 = all.")
    seed: int = Field(0, ge=0, lt=2**63, description="Decides the split, the folds, the training and the bootstrap.")
    engine: Literal["auto", "openvino", "torch"] = Field("auto", description="What runs the frozen part.")
    precision: Literal["auto", "f32", "bf16", "int8"] = Field(
        "auto", description="Arithmetic of the backbone; int8 for a frozen text encoder only."
    )
    device: str = Field("auto", description="auto, cpu, cuda, mps.")

    @field_validator("thaw", mode="before")
    @classmethod
    def _tidy_thaw(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @field_validator("fractions")
    @classmethod
    def _check_fractions(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or value[0] == 0 or value[2] == 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("must be three shares that sum to 1, those of training and test above 0")
        return value

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= width <= MAX_WIDTH for width in value) or len(value) > MAX_HIDDEN:
            raise ValueError(f"must be at most {MAX_HIDDEN} widths from 1 to {MAX_WIDTH:,}, such as 256,128")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Askable:
        if self.head != "mlp" and (self.hidden or self.dropout):
            raise ValueError(f"hidden and dropout must come with head mlp; got head {self.head}")
        if self.from_scratch and self.thaw not in ("all", AUTO):
            raise ValueError(f"from_scratch must go with thaw all, as nothing is pre-trained; got thaw {self.thaw}")
        if self.precision == "int8" and self.thaw != "none":
            raise ValueError(
                f"precision int8 must go with thaw none, as it is for a frozen encoder; got thaw {self.thaw}"
            )
        return self


AUTO = "auto"
"""Thaw setting that leaves the decision to what is measured."""


class Asked(Askable):
    """What a plan is to be made of. The run that follows decides the rest, and can be stopped while it does."""

    thaw: str = Field(AUTO, description="As in a plan, or auto: decide by measuring.")
    training: TrainAsk = Field(
        default_factory=lambda: TrainAsk.model_validate({}), description="Settings of training; the plan sets the rest."
    )
    own: tuple[Literal["mean", "std"], ...] = Field(
        (), description="What pictures are normalised by that is measured on the training set: mean, std, or both."
    )
    budget: Budget | None = Field(None, description="What measuring and the fit that follows may take together.")

    @classmethod
    def of(cls, **settings: Any) -> Asked:
        """Check settings by name.

        Raises:
            UsageError: Lists every setting that cannot be.
        """
        with as_usage_error(cls, "the settings given"):
            return cls.model_validate(settings)

    @field_validator("thaw", mode="before")
    @classmethod
    def _thaw_or_auto(cls, value: object) -> object:
        return AUTO if value is None or value == "" else value

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked of the plan itself, by name."""
        return self.model_dump(exclude_unset=True, exclude={"training", "budget", "own"})

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data`` that open no more than the budget allows."""
        within = None if self.budget is None else self.budget.for_opening()
        return {} if within is None else {"within": within, "seed": self.seed}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; the clock of a budget starts anew when it is read."""
        written = self.model_dump(mode="json", exclude_unset=True, exclude={"budget"})
        training = written.pop("training", {})
        budget = None if self.budget is None else [self.budget.seconds, self.budget.bytes]
        return {"settings": written, "training": training, "budget": budget}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Asked:
        """Read what ``to_json`` gave."""
        budget = None if written["budget"] is None else Budget(*written["budget"])
        return cls.of(**written["settings"], training=written["training"], budget=budget)


@contextmanager
def as_usage_error(of: type[Settings], where: str) -> Iterator[None]:
    """Turn what pydantic found into one UsageError that lists every problem.

    Args:
        of: What was checked; unknown settings are compared with its fields.
        where: Where the settings came from.
    """
    try:
        yield
    except ValidationError as error:
        known = [*of.model_fields, *TrainPlan.model_fields, *StagePlan.model_fields]
        problems = "; ".join(_problem(detail, known) for detail in error.errors())
        raise UsageError(f"plan must hold settings that can be; {problems} ({where}).") from error


def _problem(detail: ErrorDetails, known: list[str]) -> str:
    name = ".".join(map(str, detail["loc"])) or "together"
    if detail["type"] == "extra_forbidden":
        return f"{name}: no such setting.{nearest(str(detail['loc'][-1]), known)}"
    given = "" if isinstance(detail["input"], dict | BaseModel) else f", got {detail['input']!r}"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}{given}"
