"""A batch in parts that run side by side, each alone in a thread of its own: one wait for a step, not one a layer.

Layers that share out their work among threads wait for the last thread after each layer. Where other programs want a
processor too, each of these waits may last for as long as the system lets them have it: a step of two threads took two
to four times as long as one of a single thread. See benchmarks/training_speed.py.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones import POOLED
from thawline.backbones.graph import example
from thawline.scale.processors import usable_processors

if TYPE_CHECKING:
    from thawline.training.net import Above

LEAST_SAMPLES = 4
"""In a part: with fewer, what a call of a layer costs whatever its input outweighs its work."""
_TOLERANCE = 1e-3
"""Largest difference that other samples in the batch may make in float32, relative to the largest output."""
Result = TypeVar("Result")


class Microbatches:
    """Runs parts of a batch side by side while this context is open; one part, in the caller's thread, if need be.

    A batch is divided by its size and the processors alone, and what the parts give is added in their order: the same
    machine gives the same bits.
    """

    def __init__(self, above: Above, device: torch.device) -> None:
        """Find out whether what is above the line may be run in parts.

        Args:
            above: Is left in the mode in which it is trained.
            device: Where it is.
        """
        above.train()
        self._most = usable_processors() if device.type == "cpu" and independent(above) else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Microbatches:
        if self._most > 1:
            self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="microbatch")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            torch.set_num_threads(torch.get_num_threads())  # threads to come begin with what was set last, anywhere

    def parts(self, n: int) -> list[slice]:
        """Divide ``n`` samples into parts of nearly one size, in order; into one while this context is not open."""
        count = 1 if self._pool is None else max(1, min(self._most, n // LEAST_SAMPLES))
        return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]

    def each(self, work: Callable[[slice], Result], n: int) -> list[Result]:
        """Call ``work`` for each part of ``n`` samples; what it gives, in their order."""
        parts = self.parts(n)
        if self._pool is None or len(parts) == 1:
            return [work(part) for part in parts]
        threads = self._most // len(parts)

        def alone(part: slice) -> Result:
            if torch.get_num_threads() != threads:  # of this thread
                torch.set_num_threads(threads)
            return work(part)

        return list(self._pool.map(alone, parts))

    def backward(self, loss_of: Callable[[slice], torch.Tensor], parameters: list[torch.nn.Parameter], n: int) -> float:
        """Add to each parameter's ``grad`` the gradient of the losses of all parts; return the sum of the losses.

        Args:
            loss_of: Called for each part of ``n`` samples, side by side; gives a number.
            parameters: Those that learn.
        """
        if len(self.parts(n)) == 1:
            loss = loss_of(slice(0, n))
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        def of_part(part: slice) -> tuple[float, tuple[torch.Tensor | None, ...]]:
            loss = loss_of(part)
            return float(loss.detach()), torch.autograd.grad(loss, parameters, allow_unused=True)

        losses, gradients = zip(*self.each(of_part, n), strict=True)
        for parameter, found in zip(parameters, zip(*gradients, strict=True), strict=True):
            for gradient in found:
                if gradient is None:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter).copy_(gradient)  # laid out as the optimiser expects
                else:
                    parameter.grad += gradient
        return float(sum(losses))


def independent(above: Above) -> bool:
    """Whether what comes out for a sample depends on this sample alone, and no random number is drawn for it.

    It is tried, on random images: dropout and stochastic depth draw, statistics of a batch see other samples.
    """
    layers = list(above.cut.suffix.modules())
    if above.cut.rung == POOLED or any(isinstance(layer, _NormBase) and layer.training for layer in layers):
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        images = example(above.net.backbone, above.input_px)
        images[1:] *= 2  # samples of one distribution have nearly the same statistics
        crossing = above.cut.prefix(images)
        before = torch.get_rng_state()
        together = above.logits(crossing)
        if not torch.equal(torch.get_rng_state(), before):
            return False
        alone = torch.cat([above.logits(tuple(x[i : i + 1] for x in crossing)) for i in range(len(together))])
    return float((together - alone).abs().max()) <= _TOLERANCE * float(together.abs().max())
