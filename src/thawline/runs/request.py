"""What a run was asked to do: enough to resume it after it was stopped, without typing anything again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thawline.errors import DataError, RunError
from thawline.naming import canonical
from thawline.planning import FitPlan
from thawline.records import Dataset
from thawline.scale.disk import written_whole
from thawline.training.settings import Settings
from thawline.version import __version__

if TYPE_CHECKING:
    from thawline.runs.folder import Draft

FORMAT = 2
"""Version of ``request.json`` and of everything else in a draft."""


class DataMark(Settings):
    """Digests of everything in the data that decides a run's numbers."""

    n: int
    classes: tuple[str, ...]
    content: str
    """Digest of the samples' own digests, in order."""
    labels: str
    groups: str
    given: str
    """Digest of the split that the data brought; of nothing if they brought none."""

    @classmethod
    def of(cls, data: Dataset) -> DataMark:
        return cls(
            n=len(data),
            classes=data.outputs,
            content=_digest(data.digests),
            labels=_digest(data.truth.tolist()),
            groups=_digest(data.groups.tolist()),
            given=_digest(() if data.given is None else data.given.tolist()),
        )

    def difference(self, now: DataMark) -> str | None:
        """Say what differs, the most telling difference first; None if nothing does."""
        if self.n != now.n:
            return f"there were {self.n:,} samples, now there are {now.n:,}"
        if tuple(map(canonical, self.classes)) != tuple(map(canonical, now.classes)):
            return f"the classes were {', '.join(self.classes)}, now they are {', '.join(now.classes)}"
        words = {
            "content": "the samples or their order have changed",
            "labels": "the labels have changed",
            "groups": "the groups have changed",
            "given": "the split into train, val and test has changed",
        }
        for name, said in words.items():
            if getattr(self, name) != getattr(now, name):
                return said
        return None


class Request(Settings):
    """The content of ``request.json``."""

    format: int = FORMAT
    thawline: str = __version__
    opened: dict[str, Any] | None
    """How the data were opened; None if nothing on disk leads to them."""
    data: DataMark
    model: str
    model_settings: dict[str, Any]
    """Settings with which the backbone was opened."""
    asked: dict[str, Any] | None
    """What the plan is made from, as ``Asked.to_json`` gives it; None if a plan was given."""
    plan: FitPlan | None
    """The same as in ``plan.toml``, which a kill may leave half written; None while the plan is being made."""
    weights: str | None
    """Absolute path of the weights; None if the plan names them by no path."""
    force: bool
    """Whether a finished run may be replaced."""
    tensorboard: bool

    def check(self, data: Dataset) -> None:
        """Refuse data that have changed since the run began.

        Raises:
            DataError: Says what changed.
        """
        if difference := self.data.difference(DataMark.of(data)):
            raise DataError(
                f"Cannot resume: the data have changed since this run began ({data.name}: {difference}). "
                "Restore the data, or start again with `thawline fit` and --force."
            )


def write_request(draft: Draft, request: Request) -> None:
    """Write ``request.json`` in one step; from then on the run can be resumed."""
    with written_whole(draft.request) as file:
        json.dump(request.model_dump(mode="json"), file, indent=2)


def read_request(draft: Draft) -> Request:
    """Read what a draft was asked to be.

    Raises:
        RunError: There is nothing to resume, or another version of Thawline began the run.
    """
    try:
        content = json.loads(draft.request.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise RunError(
                f"Cannot resume {draft.target}: Thawline {content['thawline']} began it in format {content['format']}, "
                f"and this version ({__version__}) reads format {FORMAT}. Install that version, or start again with "
                "`thawline fit` and --force."
            )
        return Request.model_validate(content)
    except FileNotFoundError as error:
        raise RunError(
            f"Cannot resume {draft.target}: it was stopped before its work began. "
            f"Start it again: thawline fit DATA --run {draft.target}"
        ) from error
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise RunError(
            f"Cannot resume: {draft.request} is damaged. Start again with `thawline fit` and --force."
        ) from error


def weights_path(model: str) -> str | None:
    """Return the path in a model's name, ``timm/NAME@PATH``, made absolute; None if there is none."""
    _, _, place = model.partition("@")
    return str(Path(place).expanduser().absolute()) if place else None


def _digest(items: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()
