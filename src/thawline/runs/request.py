"""What a run was asked to do: enough to go on with it when it was stopped, without typing anything again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from thawline.errors import DataError, RunError
from thawline.planning import FitPlan
from thawline.records import Dataset
from thawline.scale.disk import written_whole
from thawline.version import __version__

if TYPE_CHECKING:
    from thawline.runs.folder import Draft

FORMAT = 2
"""Of ``request.json`` and of everything else that a draft holds."""


class DataMark(BaseModel):
    """What a run's numbers depend on in its data, as digests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    classes: tuple[str, ...]
    content: str
    """Of the samples' own digests, in order."""
    labels: str
    groups: str
    given: str
    """Of the split that the data brought, if any."""

    @classmethod
    def of(cls, data: Dataset) -> DataMark:
        return cls(
            n=len(data),
            classes=data.classes,
            content=_digest(data.digests),
            labels=_digest(data.labels.tolist()),
            groups=_digest(data.groups.tolist()),
            given=_digest(() if data.given is None else data.given.tolist()),
        )

    def difference(self, now: DataMark) -> str | None:
        """Say what differs, the most telling first; None if nothing does."""
        if self.n != now.n:
            return f"{self.n:,} samples then, {now.n:,} now"
        if self.classes != now.classes:
            return f"the classes were {', '.join(self.classes)}; they are {', '.join(now.classes)} now"
        words = {
            "content": "other pictures, or another order",
            "labels": "other labels",
            "groups": "other groups",
            "given": "another split into train, val and test",
        }
        for name, said in words.items():
            if getattr(self, name) != getattr(now, name):
                return f"{self.n:,} samples as before, with {said}"
        return None


class Request(BaseModel):
    """The content of ``request.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    thawline: str = __version__
    opened: dict[str, Any] | None
    """How the data were opened; None where that cannot be repeated."""
    data: DataMark
    model: str
    model_settings: dict[str, Any]
    """How the backbone was opened."""
    asked: dict[str, Any] | None
    """What the plan is to be made of, as ``Asked.to_json`` gives it; None where a plan was given."""
    plan: FitPlan | None
    """As in ``plan.toml``, which a kill may leave half written when it is written for the last time; None while it is
    being made."""
    weights: str | None
    """Absolute place of the weights, where the plan names them by a path."""
    force: bool
    """Whether a finished run may be replaced."""
    tensorboard: bool

    def check(self, data: Dataset) -> None:
        """Refuse data that are not what they were when the run began.

        Raises:
            DataError: Says what changed.
        """
        if difference := self.data.difference(DataMark.of(data)):
            raise DataError(
                f"data must be what they were when the run began; {data.name}: {difference}. Bring them back as they "
                "were, or begin again: `thawline fit` with --force."
            )


def write_request(draft: Draft, request: Request) -> None:
    """Write ``request.json`` at one stroke; from then on the run can be gone on with."""
    with written_whole(draft.request) as file:
        json.dump(request.model_dump(mode="json"), file, indent=2)


def read_request(draft: Draft) -> Request:
    """Read what a draft was asked to be.

    Raises:
        RunError: Nothing can be gone on with, or another version began it.
    """
    try:
        content = json.loads(draft.request.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise RunError(
                f"run must be gone on with by a version that reads format {FORMAT} of unfinished runs; {draft.target} "
                f"was begun by Thawline {content['thawline']} (format {content['format']}), this is {__version__}. "
                "Use that version, or begin again: `thawline fit` with --force."
            )
        return Request.model_validate(content)
    except FileNotFoundError as error:
        raise RunError(
            f"run must have begun its work to be gone on with; {draft.target} was stopped before. "
            f"Begin again: thawline fit DATA --run {draft.target}"
        ) from error
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise RunError(
            f"{draft.request} must be what Thawline wrote; it cannot be read. Begin again: `thawline fit` with --force."
        ) from error


def weights_path(model: str) -> str | None:
    """Absolute path in a model's name, ``timm/NAME@PATH``."""
    _, _, place = model.partition("@")
    return str(Path(place).expanduser().absolute()) if place else None


def _digest(items: Iterable[str | int]) -> str:
    return hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()
