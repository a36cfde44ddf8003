"""Samples as a backbone takes them: read, checked, prepared; the first of them ahead of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from thawline.errors import DataError, ThawlineError, UndecodableError
from thawline.inputs import kind_of
from thawline.inputs.kind import digest_of
from thawline.scale.threads import meanwhile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.records import Payload, Preparation, Source

Prepared = TypeVar("Prepared")

AHEAD_BYTES = 128 * 2**20
"""Prepared samples that are held ahead, at most."""


class Samples(Protocol):
    """Samples without labels; a Dataset is one."""

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def source(self) -> Source: ...

    @property
    def digests(self) -> tuple[str, ...]: ...


def read_sample(samples: Samples, row: int, prepare: Callable[[Payload], Prepared]) -> Prepared:
    """Read one sample and prepare it.

    Raises:
        DataError: It cannot be read or decoded any more, or has changed, since the data was opened; names the file.
    """
    file = samples.files[row]
    try:
        payload = samples.source.read(row)
        prepared = prepare(payload)
    except UndecodableError as error:
        raise DataError(f"{file} cannot be read now: {error}. Open the data again, or leave it out.") from error
    if digest_of(payload) != samples.digests[row]:  # its numbers would be stored as those of the old content
        raise DataError(f"{file} has changed since the data was opened. Open the data again.")
    return prepared


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSamples:
    """Samples prepared on demand or, while the engine is being built, ahead of it."""

    samples: Samples
    preparation: Preparation
    _ahead: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def of(self, row: int) -> NDArray[np.uint8]:
        """One sample as ``preparation.spec`` says; what was prepared ahead is given once.

        Raises:
            DataError: As ``read_sample``.
        """
        ahead = self._ahead.pop(row, None)
        return self._prepared(row) if ahead is None else ahead

    @contextmanager
    def preparing_ahead(self, rows: Sequence[int]) -> Iterator[None]:
        """Prepare the first of these rows in one other thread for as long as the block lasts.

        Use it around the building of an engine, which keeps one processor busy. A sample that cannot be read raises
        its error when ``of`` asks for it.
        """
        room = AHEAD_BYTES // self.preparation.spec.bytes

        def decode(over: Callable[[], bool]) -> None:
            for row in rows[:room]:
                if over():
                    return
                try:
                    self._ahead[row] = self._prepared(row)
                except ThawlineError:
                    return

        with meanwhile(decode, name="thawline-ahead"):
            yield

    def _prepared(self, row: int) -> NDArray[np.uint8]:
        prepare = kind_of(self.preparation.kind).prepare
        return read_sample(self.samples, row, lambda payload: prepare(payload, self.preparation))
