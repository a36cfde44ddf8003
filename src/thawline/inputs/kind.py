"""What every kind of input promises. Each kind is one module with these functions, found by ``inputs.kind_of``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from thawline.inputs.image.views import Augmentation
    from thawline.inputs.near import NearCopies
    from thawline.inputs.settled import Beyond, Settled
    from thawline.inputs.simple import Simple, SimpleFeatures
    from thawline.records import Payload, Preparation, ValueScale

    Sketches = NDArray[np.uint8]
    """(N, *sketch_shape)"""


class InputKind(Protocol):
    """How samples of one kind are looked at, compared, shown and prepared."""

    @property
    def SKETCH_SHAPE(self) -> tuple[int, ...]:
        """Of one sketch, which is uint8."""
        ...

    @property
    def NOUN(self) -> str:
        """What people call one sample: ``picture``, ``text``."""
        ...

    @property
    def SAME(self) -> str:
        """What near copies are, for people: ``the same picture, saved again or shrunk``."""
        ...

    @property
    def SIMPLE(self) -> Simple:
        """What the baseline without a backbone learns from."""
        ...

    def look(self, payload: Payload) -> tuple[NDArray[np.uint8], bytes]:
        """Read a sample to its last byte; return its sketch, ``SKETCH_SHAPE``, and what else ``settled`` must know.

        The second is empty for all but rare samples. It is stored with the sketch.

        Raises:
            UndecodableError: The reason, in words, without the name of the sample.
        """
        ...

    def settled(
        self, extras: Mapping[int, bytes], sketches: Sketches, judged_by: NDArray[np.bool_], files: Sequence[str]
    ) -> Settled:
        """Decide what can only be decided over a whole data set.

        Args:
            extras: Row -> what ``look`` found there beside the sketch.
            judged_by: (N,) whether a sample may decide: those of a given test set may not.
        """
        ...

    def near(self, sketches: Sketches, labels: NDArray[np.int64] | None = None) -> NearCopies:
        """Find near copies among samples of different content; memory is O(N).

        Args:
            sketches: (N, *SKETCH_SHAPE)
            labels: (N,) classes; what holds most of a class is not one sample copied.
        """
        ...

    def simple_features(
        self,
        sketches: Sketches,
        read: Callable[[int], Payload],
        learned: NDArray[np.int64],
        asked: NDArray[np.int64],
        n_classes: int,
    ) -> SimpleFeatures:
        """Return what the baseline without a backbone learns from.

        Args:
            sketches: (N, *SKETCH_SHAPE)
            read: From a row to the sample as it is stored.
            learned: (n,) rows to learn from; features may be fitted to them, and to nothing else.
            asked: (m,) rows that the baseline is asked about.
            n_classes: Told apart by what learns from the features.
        """
        ...

    def remarks(self, sketches: Sketches, files: Sequence[str]) -> list[str]:
        """Return sentences about samples that look as if they had been saved wrongly."""
        ...

    def show(self, payload: Payload, side_px: int, scales: Sequence[ValueScale] = ()) -> bytes | str:
        """Return what shows a sample to people: a PNG within a square of ``side_px``, or one line of text.

        Args:
            scales: Those of the data set.

        Raises:
            UndecodableError: The sample cannot be decoded.
        """
        ...

    def prepare(self, payload: Payload, preparation: Preparation, beyond: Beyond | None = None) -> NDArray[Any]:
        """Return one sample as ``preparation.spec`` says.

        Args:
            beyond: Hears of it, if it may not fit the preparation.

        Raises:
            UndecodableError: The sample cannot be decoded.
        """
        ...

    def beyond(self) -> Beyond:
        """Return what hears of samples that may not fit a preparation."""
        ...

    def views(
        self, payload: Payload, preparation: Preparation, augmentation: Augmentation, seeds: Sequence[int | None]
    ) -> list[NDArray[Any]]:
        """Return augmented views of one sample, one for each seed; None stands for the sample as ``prepare`` gives it.

        Raises:
            UndecodableError: The sample cannot be decoded.
        """
        ...

    def to_tensors(self, preparation: Preparation, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from prepared samples (B, *spec.shape) to what the first layer takes, (B, *tensor_shape).

        The function is a fixed sequence of torch operations, so that it can be traced into a graph.
        """
        ...

    def stand_ins(self, n: int, preparation: Preparation) -> NDArray[Any]:
        """Return ``n`` made-up samples, prepared, on which timings and conversions are judged."""
        ...


def digest_of(payload: Payload) -> str:
    """SHA-256 (hex) of a file's bytes, of an array's shape and content, or of a text in UTF-8."""
    if isinstance(payload, bytes):
        return hashlib.sha256(payload).hexdigest()
    if isinstance(payload, str):
        return hashlib.sha256(b"text\0" + payload.encode("utf-8", "surrogatepass")).hexdigest()
    import numpy as np

    shape = "x".join(map(str, payload.shape))
    return hashlib.sha256(
        f"{payload.dtype.name} {shape}\0".encode() + np.ascontiguousarray(payload).tobytes()
    ).hexdigest()
