"""Read every sample once: its content (SHA-256), whether it decodes, and how it looks from far away."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thawline.data.scan_store import Look, ScanStore
from thawline.data.sources import Stamp, stamp_of
from thawline.errors import UndecodableError
from thawline.inputs import kind_of
from thawline.inputs.kind import InputKind, digest_of
from thawline.listening import Progress
from thawline.scale import executor
from thawline.scale.processors import allowed_processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Source

_CHUNK = 32
_MAX_WORKERS = 16
_LARGE_BYTES = 8 * 2**20
_large_one_at_a_time = Lock()
"""Bounds memory: files this large may decode to hundreds of megabytes, so only one of them is decoded at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The digests and sketches of samples that were read once."""

    digests: tuple[str, ...]
    """(N,) SHA-256 (hex); empty if the sample cannot be read."""
    sketches: NDArray[np.uint8]
    """(N, *SKETCH_SHAPE) of the kind of input; zero if the sample cannot be read."""
    failures: dict[int, str]
    """Row -> why it cannot be read."""
    extras: dict[int, bytes] = field(default_factory=dict)
    """Row -> what its kind of input must know beside the sketch; few samples have it."""


class _Result(NamedTuple):
    row: int
    stamp: Stamp | None
    look: Look | None
    failure: str = ""


def scan(
    source: Source, *, kind: str = "image", store: ScanStore | None = None, progress: Progress | None = None
) -> Scan:
    """Read, hash and decode each sample, several at a time, except those that ``store`` remembers unchanged.

    Payloads are dropped as soon as they are looked at, so memory is bounded by the number of threads.
    """
    n = len(source)
    samples = kind_of(kind)
    digests, sketches = [""] * n, np.zeros((n, *samples.SKETCH_SHAPE), dtype=np.uint8)
    failures: dict[int, str] = {}
    extras: dict[int, bytes] = {}
    wide = int(np.prod(samples.SKETCH_SHAPE))

    def keep(row: int, look: Look) -> None:
        digests[row] = look.digest
        sketches[row] = np.frombuffer(look.sketch, dtype=np.uint8, count=wide).reshape(samples.SKETCH_SHAPE)
        if len(look.sketch) > wide:
            extras[row] = look.sketch[wide:]

    stamps = [_of_kind(stamp_of(source, row), kind) for row in range(n)]
    known = store.recall([stamp for stamp in stamps if stamp is not None]) if store is not None else {}
    unknown = []
    for row, stamp in enumerate(stamps):
        if stamp is not None and stamp in known:
            keep(row, known[stamp])
        else:
            unknown.append(row)
    done = n - len(unknown)
    if progress is not None:
        progress(done, n)
    chunks = [unknown[start : start + _CHUNK] for start in range(0, len(unknown), _CHUNK)]
    looks = executor().pipelined(
        chunks,
        lambda rows: [_look_at(samples, source, row, stamps[row]) for row in rows],
        lambda results: results[0],
        batch_size=1,
        workers=min(allowed_processors(), _MAX_WORKERS),
    )
    try:
        for _, results in looks:
            for row, stamp, look, failure in results:
                if look is None:
                    failures[row] = failure
                else:
                    keep(row, look)
                    if store is not None and stamp is not None:
                        store.remember(stamp, look)
            done += len(results)
            if progress is not None:
                progress(done, n)
    finally:
        looks.close()  # after Ctrl-C, do not read on to the end
        if store is not None:
            store.flush()
    return Scan(tuple(digests), sketches, failures, extras)


def _of_kind(stamp: Stamp | None, kind: str) -> Stamp | None:
    """Return a stamp under which a file that was read as something else is not found."""
    return stamp if stamp is None or kind == "image" else stamp._replace(key=f"{kind}:{stamp.key}")


def _look_at(kind: InputKind, source: Source, row: int, stamp: Stamp | None) -> _Result:
    try:
        payload = source.read(row)
        large = len(payload) > _LARGE_BYTES
        with _large_one_at_a_time if large else nullcontext():
            sketch, extra = kind.look(payload)
        return _Result(row, stamp, Look(digest_of(payload), sketch.tobytes() + extra))
    except UndecodableError as error:
        return _Result(row, stamp, None, str(error))
