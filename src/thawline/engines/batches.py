"""Feed an engine: samples are prepared and run in batches, side by side if the engine can."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from thawline.errors import ModelError
from thawline.scale import executor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.engines.choices import Engine
    from thawline.records import Precision

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


def run_batches(
    engine: Engine,
    positions: Sequence[int],
    prepare: Callable[[int], Prepared],
    run: Callable[[Sequence[int], list[Prepared]], Result],
    *,
    batch_size: int,
) -> Generator[tuple[Sequence[int], Result]]:
    """Yield (positions, what ``run`` gave) for each batch, in order. Memory does not grow with their number.

    If batches can run side by side, one thread prepares and runs each: preparing and running then never wait for each
    other. There are two such threads for each batch that can run, so that one has work while the other wakes up or
    waits for the interpreter. Otherwise threads prepare ahead of the one that runs.

    Args:
        prepare: Prepares one sample; called from several threads.
        run: Runs a batch of prepared samples on the engine.
        batch_size: Samples in one batch, at most.
    """
    batch_size = max(batch_size, engine.together)
    if engine.workers == 1:
        ahead = executor().pipelined(
            positions, lambda i: (i, prepare(i)), lambda pairs: run(*_unzipped(pairs)), batch_size=batch_size
        )
        with closing(ahead):
            yield from ahead
        return
    size = min(batch_size, engine.at_once or batch_size)  # so that all threads end together
    batches = [positions[start : start + size] for start in range(0, len(positions), size)]
    side_by_side = executor().pipelined(
        batches,
        lambda batch: run(batch, [prepare(i) for i in batch]),
        lambda results: results[0],
        batch_size=1,
        workers=2 * engine.workers,
    )
    with closing(side_by_side):
        for (batch,), result in side_by_side:
            yield batch, result


def run_whole(engine: Engine, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Run prepared samples: features (B, D); of a text in several windows (n, length), the mean of theirs."""
    import numpy as np

    if all(sample.ndim != 2 for sample in prepared):
        return engine.run(np.stack(prepared))
    windows = [np.atleast_2d(sample) for sample in prepared]
    counts = np.array([len(of_one) for of_one in windows])
    rows = engine.run(np.concatenate(windows))
    starts = np.cumsum(counts) - counts
    means: NDArray[np.float32] = (np.add.reduceat(rows, starts, axis=0) / counts[:, None]).astype(np.float32)
    return means


def _unzipped(pairs: Sequence[tuple[int, Prepared]]) -> tuple[list[int], list[Prepared]]:
    return [position for position, _ in pairs], [prepared for _, prepared in pairs]


def refuse_non_finite(
    finite: NDArray[np.bool_],
    files: Sequence[str],
    model: str,
    layer: str,
    precision: Precision,
    *,
    lower: str = "Try --precision f32.",
) -> None:
    """Refuse the first sample whose features are not finite.

    Args:
        finite: (B,) whether all numbers of a sample are.
        files: (B,) what the samples are called.
        lower: The next step after computing in bf16.
    Raises:
        ModelError: Names the sample, the model and the layer.
    """
    if not finite.all():
        weights = "Look at that picture; if others fail too, take another file of weights: this one is damaged."
        advice = lower if precision == "bf16" else weights
        raise ModelError(f"{model} gives NaN or infinity at {layer!r} for {files[int(finite.argmin())]}. {advice}")
