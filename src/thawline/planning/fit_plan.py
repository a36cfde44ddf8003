"""The plan of a fit: what was decided, as a record and as ``plan.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thawline.errors import UsageError, nearest
from thawline.training.settings import StagePlan, TrainPlan

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MAX_HIDDEN, MAX_WIDTH = 8, 65_536
"""Hidden layers of an mlp head, and units in each."""


class Candidate(BaseModel):
    """One way that was measured before the plan was made; a fit does not read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="What was tried.")
    thaw: str = Field(description="Thaw setting.")
    layer: str = Field(description="Where features are read.")
    head: str = Field(description="The classifier.")
    score: float = Field(description="Accuracy on samples that it did not learn from.")
    ci95: tuple[float, float] = Field(description="95 % interval of that accuracy (Wilson, corrected for folds).")
    log_loss: float = Field(description="On the same samples; the choice goes by it.")
    n: int = Field(ge=0, description="Samples that it was judged on.")
    behind: tuple[float, float] | None = Field(
        None, description="Log loss above the chosen one's on the samples both were judged on, and its standard error."
    )
    seconds: float = Field(description="Forecast: what a fit with it takes on this machine.")
    bytes: int = Field(ge=0, description="Forecast: what it keeps in the cache on disk, beside the features.")
    memory: int = Field(0, ge=0, description="Forecast: bytes of memory that the process holds at its peak.")
    why: str = Field(description="Why it was chosen, or what it lost by.")


class FitPlan(BaseModel):
    """Everything that decides what a fit computes; equal plans on equal data give equal bits on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="The backbone, as `thawline models` names it.")
    weights_sha256: str = Field("", description="Digest of weights and architecture; a fit refuses another one.")
    model_settings: dict[str, Any] = Field(
        default_factory=dict, description="What overrides the description that the weights bring with them."
    )
    thaw: str = Field(
        "none",
        description="Where the thaw line stands: none, all, progressive, last:N, first-frozen:K, stage:NAME, "
        "from:LAYER, 30%, regex:PATTERN.",
    )
    otherwise: str = Field(
        "",
        description="Where the head on the frozen model reads that ships if training is no better on the validation "
        "part; empty = what was trained ships.",
    )
    from_scratch: bool = Field(False, description="Train the architecture from random weights.")
    layer: str = Field("pooled", description="Where features are read: pooled, or the name of a layer.")
    head: Literal["logistic", "ridge", "svm", "mlp"] = Field(
        "logistic", description="The new classifier: logistic, ridge, svm or mlp. Where something thaws, its start."
    )
    hidden: tuple[int, ...] = Field((), description="Widths of the hidden layers of an mlp head.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of inputs that each layer of an mlp head drops.")
    fractions: tuple[float, float, float] = Field(
        (0.70, 0.15, 0.15), description="Shares for training, validation and test, where the data bring no split."
    )
    opened: int = Field(
        0, ge=0, description="Samples that are opened, and looked through for copies: drawn from all; 0 = all."
    )
    samples: int = Field(0, ge=0, description="Samples of these that are read, of all parts together; 0 = all.")
    seed: int = Field(0, ge=0, lt=2**63, description="Decides the split, the folds, the training and the bootstrap.")
    engine: Literal["auto", "openvino", "torch"] = Field("auto", description="What runs the frozen part.")
    precision: Literal["auto", "f32", "bf16"] = Field("auto", description="Arithmetic of the backbone.")
    device: str = Field("auto", description="auto, cpu, cuda, mps.")
    reasons: tuple[str, ...] = Field((), description="Why, in words.")
    verdict: str = Field("", description="What was measured and decided, in one sentence.")
    training: TrainPlan | None = Field(None, description="How what is above the line is trained.")
    stages: tuple[StagePlan, ...] = Field((), description="Stages of training, in order.")
    candidates: tuple[Candidate, ...] = Field((), description="What was measured; a fit does not read it.")

    def __repr__(self) -> str:
        where = f"head={self.head!r} at {self.layer!r}" if self.thaw == "none" else f"head={self.head!r}"
        n = len(self.candidates)
        measured = f", {n} candidate{'s' if n > 1 else ''} measured" if n else ""
        return f"FitPlan(model={self.model!r}, thaw={self.thaw!r}, {where}, seed={self.seed}{measured})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Show the decision and what was measured for it, for notebooks."""
        from thawline.showing import card, table_html

        decision = [("model", self.model), ("thaw", self.thaw), ("layer", self.layer), ("head", self.head)]
        tables = [table_html(("decided", ""), decision)]
        if self.candidates:
            columns = ("candidate", "accuracy", "95 % interval", "n", "log loss", "fit s", "why")
            rows = [
                (
                    one.name,
                    f"{one.score:.3f}",
                    f"{one.ci95[0]:.3f} to {one.ci95[1]:.3f}",
                    one.n,
                    f"{one.log_loss:.3f}",
                    f"{one.seconds:,.1f}",
                    one.why,
                )
                for one in self.candidates
            ]
            tables.append(table_html(columns, rows))
        return card("Plan", filter(None, (self.verdict, *self.reasons)), *tables)

    @property
    def trains(self) -> bool:
        """Whether anything is learned by gradient, rather than solved."""
        return self.thaw != "none" or self.head == "mlp"

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data`` that open the samples it was made for."""
        return {"most": self.opened, "seed": self.seed} if self.opened else {}

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
    def _check_together(self) -> FitPlan:
        if self.head != "mlp" and (self.hidden or self.dropout):
            raise ValueError(f"hidden and dropout must come with head mlp; got head {self.head}")
        if self.from_scratch and self.thaw != "all":
            raise ValueError(f"from_scratch must go with thaw all, as nothing is pre-trained; got thaw {self.thaw}")
        return self


def check_plan(settings: dict[str, Any], where: str) -> FitPlan:
    """Build a plan from settings by name; UsageError lists every problem together."""
    with _as_usage_error(where):
        return FitPlan.model_validate(settings)


@contextmanager
def _as_usage_error(where: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors())
        raise UsageError(f"plan must hold settings that can be; {problems} ({where}).") from error


def _problem(detail: ErrorDetails) -> str:
    name = ".".join(map(str, detail["loc"])) or "together"
    if detail["type"] == "extra_forbidden":
        known = [*FitPlan.model_fields, *TrainPlan.model_fields, *StagePlan.model_fields]
        return f"{name}: no such setting.{nearest(str(detail['loc'][-1]), known)}"
    given = "" if isinstance(detail["input"], dict | BaseModel) else f", got {detail['input']!r}"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}{given}"


_LISTS = ("stages", "candidates")
"""Fields that are written as lists of tables."""


def write_plan(plan: FitPlan, path: Path) -> None:
    """Write ``plan.toml`` with one comment per setting."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("A Thawline plan. Edit it and replay it: thawline fit DATA --plan plan.toml"))
    for name, described in FitPlan.model_fields.items():
        value = getattr(plan, name)
        if value is None or (name in _LISTS and not value):
            continue
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(described.description or ""))
        if isinstance(value, BaseModel):
            document.add(name, _table(value))
        elif name in _LISTS:
            document.add(name, _tables(value))
        else:
            document.add(name, _inline(value))
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _table(settings: BaseModel, *, explained: bool = True) -> Any:
    """A table with one comment per setting."""
    import tomlkit

    table = tomlkit.table()
    for name, described in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if explained:
            table.add(tomlkit.comment(described.description or ""))
        table.add(name, _inline(value))
    return table


def _tables(entries: tuple[BaseModel, ...]) -> Any:
    import tomlkit

    array = tomlkit.aot()
    for number, entry in enumerate(entries):
        array.append(_table(entry, explained=number == 0))
    return array


def _inline(value: Any) -> Any:
    """A table within the line, so that each setting stays under its comment."""
    import tomlkit

    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    for key, inner in value.items():
        table.append(key, _inline(inner))
    return table


def read_plan(path: Path) -> FitPlan:
    """Read ``plan.toml``.

    Raises:
        UsageError: Not there, not TOML, or with settings that cannot be.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"plan must be a readable TOML file; {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"plan must be a readable TOML file; {path}: {error}.") from error
    return check_plan(settings, str(path))
