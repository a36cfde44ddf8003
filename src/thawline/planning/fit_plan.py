"""The plan of a fit, as a record and as ``plan.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from thawline.errors import UsageError
from thawline.naming import in_quotes
from thawline.planning.asked import Askable, as_usage_error
from thawline.records import Target
from thawline.training.settings import Settings, StagePlan, TrainPlan


class Candidate(Settings):
    """One way that was measured before the plan was made; a fit does not read it."""

    name: str = Field(description="What was tried.")
    thaw: str = Field(description="Thaw setting.")
    objective: Literal["", "cross-entropy", "contrastive"] = Field(
        "", description="What the thawed layers learn from; empty if nothing is thawed."
    )
    layer: str = Field(description="Where features are read.")
    head: str = Field(description="The classifier.")
    score: float = Field(
        description="Accuracy on samples that the candidate did not learn from; of labels the share of samples with "
        "all labels right; of numbers R2."
    )
    ci95: tuple[float, float] = Field(
        description="95 % interval of that accuracy (Wilson, of R2 a normal one; corrected for folds)."
    )
    log_loss: float = Field(
        description="Log loss on the same samples, which decides the choice; of labels their mean; of numbers the "
        "squared error as a share of the variance."
    )
    n: int = Field(ge=0, description="Samples that the candidate was judged on.")
    behind: tuple[float, float] | None = Field(
        None, description="Log loss above the chosen one's on the samples both were judged on, and its standard error."
    )
    seconds: float = Field(description="Forecast: seconds of a fit with it on this machine.")
    bytes: int = Field(
        ge=0, description="Forecast: bytes that the fit keeps in the cache on disk, beside the features."
    )
    memory: int = Field(0, ge=0, description="Forecast: bytes of memory that the process holds at its peak.")
    why: str = Field(description="Chosen, or what it lost by.")


class FitPlan(Askable):
    """Everything that decides what a fit computes: equal plans on equal data give equal bits on one machine."""

    model: str = Field(description="The backbone, as `thawline models` names it.")
    weights_sha256: str = Field("", description="Digest of weights and architecture; a fit refuses another one.")
    model_settings: dict[str, Any] = Field(
        default_factory=dict, description="What overrides the description that the weights bring with them."
    )
    target: Target = Field(
        "class", description="What is learned of each sample: class (one), labels (any number of them) or number."
    )
    opened: int = Field(
        0, ge=0, description="Samples that are drawn from all, opened and searched for copies; 0 = all."
    )
    reasons: tuple[str, ...] = Field((), description="Why, in words.")
    verdict: str = Field("", description="What was measured and decided, in one sentence.")
    training: TrainPlan | None = Field(None, description="How the layers above the thaw line are trained.")
    stages: tuple[StagePlan, ...] = Field((), description="Stages of training, in order.")
    candidates: tuple[Candidate, ...] = Field((), description="What was measured; a fit does not read it.")

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, given: Any) -> Any:
        """Let stages that an earlier release wrote go on for as many epochs as it trained again on all samples."""
        training, stages = (given.get("training"), given.get("stages")) if isinstance(given, dict) else (None, None)
        if not isinstance(training, dict) or "average_power" in training or not training.get("refit", False):
            return given
        if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
            return given
        return given | {"stages": [{"joint_epochs": stage.get("epochs", 0)} | stage for stage in stages]}

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

    @property
    def fine_tunes_once(self) -> bool:
        """Whether a pre-trained backbone is fine-tuned from a solved head, in one stage."""
        return self.thaw not in ("none", "progressive") and self.head != "mlp" and not self.from_scratch

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data`` that open the samples that the plan was made for."""
        return {"most": self.opened, "seed": self.seed} if self.opened else {}


def check_plan(settings: dict[str, Any], where: str) -> FitPlan:
    """Make a plan from settings by name; UsageError lists every problem together."""
    with as_usage_error(FitPlan, where):
        return FitPlan.model_validate(settings)


_FIRST = ("model", "weights_sha256", "model_settings")
"""Fields that stand at the top of the file."""
_LISTS = ("stages", "candidates")
"""Fields that are written as lists of tables."""


def write_plan(plan: FitPlan, path: Path) -> None:
    """Write ``plan.toml`` with one comment per setting."""
    path.write_text(plan_text(plan), encoding="utf-8")


def plan_text(plan: FitPlan) -> str:
    """Return what ``plan.toml`` holds."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("A Thawline plan. Edit it and replay it: thawline fit DATA --plan plan.toml"))
    for name in (*_FIRST, *(name for name in FitPlan.model_fields if name not in _FIRST)):
        described, value = FitPlan.model_fields[name], getattr(plan, name)
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
    return in_quotes(tomlkit.dumps(document))


def _table(settings: BaseModel, *, explained: bool = True) -> Any:
    """Return a table with one comment per setting."""
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
    """Return a value for one line, a table inline, so that each setting stays under its comment."""
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
        UsageError: The file is missing or not TOML, or has settings that cannot be.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"plan must be a readable TOML file; {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"plan must be a readable TOML file; {path}: {error}.") from error
    return check_plan(settings, str(path))
