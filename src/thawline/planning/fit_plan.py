"""The plan of a fit: what was decided, as a record and as ``plan.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thawline.errors import UsageError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from thawline.backbones import Backbone
    from thawline.records import Dataset

THAW_SETTINGS = ("auto", "none")


class FitPlan(BaseModel):
    """Everything that decides what a fit computes; equal plans on equal data give equal bits on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="The backbone, as `thawline models` names it.")
    weights_sha256: str = Field("", description="Digest of weights and architecture; a fit refuses another one.")
    model_settings: dict[str, Any] = Field(
        default_factory=dict, description="What overrides the description that the weights bring with them."
    )
    thaw: Literal["none"] = Field(
        "none", description="Where the thaw line stands: none = the whole backbone is frozen."
    )
    layer: str = Field("pooled", description="Where features are read: pooled, or the name of a layer.")
    head: Literal["logistic", "ridge"] = Field("logistic", description="The new classifier: logistic or ridge.")
    fractions: tuple[float, float, float] = Field(
        (0.70, 0.15, 0.15), description="Shares for training, validation and test, where the data bring no split."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Decides the split, the folds and the bootstrap.")
    engine: Literal["auto", "torch"] = Field("auto", description="What runs the frozen part.")
    precision: Literal["auto", "f32", "bf16"] = Field("auto", description="Arithmetic of the frozen part.")
    device: str = Field("auto", description="auto, cpu, cuda, mps.")
    reasons: tuple[str, ...] = Field((), description="Why, in words.")

    @field_validator("thaw", mode="before")
    @classmethod
    def _resolve_thaw(cls, value: object) -> object:
        if value not in THAW_SETTINGS:
            raise ValueError("must be auto or none: this version trains a new head, above the whole frozen backbone")
        return "none"

    @field_validator("fractions")
    @classmethod
    def _check_fractions(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or value[0] == 0 or value[2] == 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("must be three shares that sum to 1, those of training and test above 0")
        return value


def plan(data: Dataset, backbone: Backbone, **asked: Any) -> FitPlan:
    """Decide how to fit ``data`` with ``backbone``.

    This version places the thaw line above the whole backbone: features are computed once, frozen, and a new head is
    solved on them. What is asked for by name wins.

    Args:
        data: As ``open_data`` gives it.
        backbone: As ``open_backbone`` gives it.
        asked: Any field of FitPlan.
    Raises:
        UsageError: Settings that cannot be, all of them.
    """
    reasons = [
        f"{len(data):,} samples in {len(data.classes)} classes: a linear head on frozen features is solved exactly, "
        "its strength of regularisation chosen by cross-validation on the training part.",
    ]
    if asked.get("layer", "pooled") != "pooled":
        reasons.append(f"Features are read at {asked['layer']}, as asked.")
    settled = {
        "model": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "model_settings": backbone.settings,
        "reasons": reasons,
    } | asked
    return check_plan(settled, "the settings given")


def check_plan(settings: dict[str, Any], where: str) -> FitPlan:
    """Build a plan from settings by name; UsageError lists every problem together."""
    try:
        return FitPlan.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors())
        raise UsageError(f"plan must hold settings that can be; {problems} ({where}).") from error


def _problem(detail: ErrorDetails) -> str:
    name = ".".join(map(str, detail["loc"])) or "plan"
    if detail["type"] == "extra_forbidden":
        return f"{name}: no such setting.{nearest(name, FitPlan.model_fields)}"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}"


def write_plan(plan: FitPlan, path: Path) -> None:
    """Write ``plan.toml`` with one comment per setting."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("A Thawline plan. Edit it and replay it: thawline fit DATA --plan plan.toml"))
    for name, field in FitPlan.model_fields.items():
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(field.description or ""))
        document.add(name, _inline(getattr(plan, name)))
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


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
