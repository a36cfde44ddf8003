"""The plan of a fit: what was decided, as a record and as ``plan.toml``."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thawline.errors import UsageError, nearest
from thawline.training.settings import StagePlan, TrainPlan

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from thawline.backbones import Backbone
    from thawline.planning.budget import Budget
    from thawline.planning.decide import Watcher
    from thawline.planning.explain import Evidence
    from thawline.records import Dataset

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is to be made of: decided by the run that follows, so that it can be stopped meanwhile."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of FitPlan, by name."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training, by name."""
    budget: Budget | None = None

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data`` that open no more than the budget allows."""
        within = None if self.budget is None else self.budget.for_opening()
        return {} if within is None else {"within": within, "seed": int(self.settings.get("seed", 0))}

    def plan(self, data: Dataset, backbone: Backbone, watcher: Watcher | None = None) -> Planned:
        """Make the plan."""
        return make_plan(
            data, backbone, training=dict(self.training), watcher=watcher, budget=self.budget, **self.settings
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; the clock of a budget starts anew when it is read."""
        budget = None if self.budget is None else [self.budget.seconds, self.budget.bytes]
        return {"settings": dict(self.settings), "training": dict(self.training), "budget": budget}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Asked:
        """Read what ``to_json`` gave."""
        from thawline.planning.budget import Budget

        budget = None if written["budget"] is None else Budget(*written["budget"])
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in written["settings"].items()}
        return cls(settings=settings, training=written["training"], budget=budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what making it took: a run that follows at once counts that as its own."""

    plan: FitPlan
    budget: Budget | None = None
    """What the fit that follows must be over in."""
    evidence: Evidence | None = None
    """How much data there is and how like the source, where that was measured."""
    computed: int = 0
    """Samples whose features at the layer of the plan were computed for it."""
    features_s: float = 0.0
    """Seconds that computing them took."""
    seconds: float = 0.0
    """All others that planning took."""


def plan(
    data: Dataset,
    backbone: Backbone,
    *,
    training: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    budget: str | None = None,
    **asked: Any,
) -> FitPlan:
    """Decide how to fit ``data`` with ``backbone``. What is asked for by name wins.

    With ``thaw="auto"``, the default, it is measured how much the data should retrain: heads on frozen features, then,
    while that promises more, short trials of thaw lines. Where a head, a layer or an MLP is asked for, that is the
    decision, and nothing is thawed.

    Args:
        data: As ``open_data`` gives it.
        backbone: As ``open_backbone`` gives it.
        training: Settings of training by name (fields of TrainPlan, and ``epochs`` and ``views`` of every stage).
        watcher: Hears of progress while something is measured.
        budget: What measuring and the fit that follows may take together: ``10min``, ``90s``, ``2GB``, ``10min,2GB``.
        asked: Any field of FitPlan.
    Raises:
        UsageError: Settings that cannot be, all of them.
    """
    from thawline.planning.budget import parse_budget

    spend = parse_budget(budget) if budget else None
    return make_plan(data, backbone, training=training, watcher=watcher, budget=spend, **asked).plan


def make_plan(
    data: Dataset,
    backbone: Backbone,
    *,
    training: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    explain: bool = False,
    budget: Budget | None = None,
    **asked: Any,
) -> Planned:
    """Do what ``plan`` does, and say what it took.

    Args:
        explain: Measure size and likeness to the source also where the first head leaves nothing to decide.
        budget: What measuring and the fit that follows may take together.
    """
    scratch = bool(asked.get("from_scratch"))
    automatic = str(asked.get("thaw") or "auto").strip() == "auto"
    if automatic:
        asked["thaw"] = "all" if scratch else "none"
    settled = {
        "model": backbone.name,
        "weights_sha256": "" if scratch else backbone.weights_sha256,
        "model_settings": backbone.settings,
    } | asked
    from thawline.planning.stage_plans import settle

    def complete(given: FitPlan, training: dict[str, Any] | None) -> FitPlan:
        with _as_usage_error("the settings of training"):
            return settle(given, data, backbone, training)

    bare = check_plan(settled | ({"opened": data.drawn} if data.drawn else {}), "the settings given")
    measures = automatic and not scratch and (bare.head, bare.layer) == ("logistic", "pooled")
    if not measures:
        whole = complete(bare, training)
        return Planned(plan=_with_reasons(whole, data, asked=True), budget=budget)
    from thawline.planning.afford import Reading, samples_within
    from thawline.planning.decide import Silent, decide
    from thawline.planning.sampling import sampled

    started = time.perf_counter()
    read = Reading()
    if budget is not None and not bare.samples:
        read = samples_within(data, backbone, bare, budget)
        bare = bare.model_copy(update={"samples": read.samples})
    data = sampled(data, bare)
    sampling_s = time.perf_counter() - started - read.seconds
    known: dict[str, FitPlan] = {}

    def planned(thaw: str) -> FitPlan:
        if thaw not in known:
            known[thaw] = complete(bare.model_copy(update={"thaw": thaw}), training)
        return known[thaw]

    if training:
        planned("all")  # settings that cannot be are refused before anything is measured
    decided = decide(data, backbone, bare, planned, watcher or Silent(), explain=explain, budget=budget, read=read)
    plan = _with_reasons(decided.plan, data, asked=False)
    return replace(decided, plan=plan, seconds=decided.seconds + sampling_s)


def _with_reasons(plan: FitPlan, data: Dataset, *, asked: bool) -> FitPlan:
    return plan.model_copy(update={"reasons": (*_reasons(plan, data, asked=asked), *plan.reasons)})


def _reasons(plan: FitPlan, data: Dataset, *, asked: bool) -> list[str]:
    size = f"{len(data):,} samples in {len(data.classes)} classes"
    if not plan.trains:
        reasons = [
            f"{size}: a linear head on frozen features is solved exactly, its strength of regularisation chosen by "
            "cross-validation on the training part."
        ]
    elif plan.from_scratch:
        reasons = [f"{size}: the architecture is trained from random weights, as asked."]
    elif plan.head == "mlp":
        reasons = [f"{size}: an MLP head is trained on frozen features, as asked."]
    else:
        reasons = [f"{size}: the head is solved on frozen features first, and training starts from it (LP-FT)."]
    if not asked:
        return reasons
    if plan.thaw != "none" and not plan.from_scratch:
        reasons.append(f"Thaw {plan.thaw}, as asked: {len(plan.stages)} stage{'s' if len(plan.stages) > 1 else ''}.")
    if plan.layer != "pooled":
        reasons.append(f"Features are read at {plan.layer}, as asked.")
    return reasons


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
