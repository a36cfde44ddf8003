"""Run a batch in parts, each in a thread of its own: threads wait for each other once a step, not after each layer.

Layers that share their work among threads wait for the last thread. If another program uses a processor meanwhile, each
of these waits may last as long as its turn: beside one busy neighbour on two processors, a step took twice as long and
more. See benchmarks/training_speed.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.flop_counter import FlopCounterMode

from thawline.backbones import POOLED
from thawline.scale.processors import usable_processors
from thawline.scale.threads import Crew

if TYPE_CHECKING:
    from thawline.training.fused.chains import Chain
    from thawline.training.net import Above

LEAST_SAMPLES = 4
"""In a part. With fewer, the fixed cost of calling a layer outweighs its work."""
LEAST_WORK = 100.0
"""FLOPs of a forward pass of one sample, for each parameter that learns. With less, the work that each part has with
all parameters (rounding them, adding gradients) outweighs the waits that it saves: on an idle machine a step took a
fifth longer."""
_TOLERANCE = 1e-3
"""Largest change of an output by other samples in the batch, in float32, relative to the largest output."""
Result = TypeVar("Result")


class Microbatches:
    """Runs the parts of a batch side by side while this context is open, else the whole in the caller's thread.

    Its size and the number of processors decide how a batch is divided, and gradients are added in the order of the
    parts: the same machine gives the same bits.
    """

    def __init__(self, above: Above, device: torch.device, precision: str) -> None:
        """Find out whether batches above the line may be run in parts.

        Args:
            above: Is left in the mode in which it is trained.
            device: The device that ``above`` is on.
            precision: ``bf16`` or ``f32``, in which its layers run.
        """
        above.train()
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._most = usable_processors() if device.type == "cpu" and worth_parts(above) else 1
        self._crew: Crew | None = None

    def __enter__(self) -> Microbatches:
        if self._most > 1:
            self._crew = Crew(self._most, name="microbatch")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None
            torch.set_num_threads(torch.get_num_threads())  # a new thread begins with what was set last in any thread

    def parts(self, n: int) -> list[slice]:
        """Divide ``n`` samples into parts of nearly one size, in order; outside this context, into one."""
        count = 1 if self._crew is None else max(1, min(self._most, n // LEAST_SAMPLES))
        return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]

    def each(self, work: Callable[[slice], Result], n: int) -> list[Result]:
        """Call ``work`` for each part of ``n`` samples; return its results in their order."""
        parts = self.parts(n)
        if self._crew is None or len(parts) == 1:
            return [work(part) for part in parts]
        threads = self._most // len(parts)

        def alone(part: slice) -> Result:
            if torch.get_num_threads() != threads:  # of this thread
                torch.set_num_threads(threads)
            return work(part)

        return self._crew.each(alone, parts)

    def backward(
        self,
        loss_of: Callable[[slice], torch.Tensor],
        parameters: Sequence[torch.nn.Parameter],
        n: int,
        chains: Sequence[Chain] = (),
    ) -> float:
        """Add to each parameter's ``grad`` the gradient of the losses of all parts; return the sum of the losses.

        Args:
            loss_of: Called for each part of ``n`` samples, side by side; gives a number.
            parameters: Those that learn.
            chains: Layers that run as one; their weights are folded once for all parts.
        """
        if len(self.parts(n)) == 1:
            loss = loss_of(slice(0, n))
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        with _shared(chains, self._dtype) as (folded, leaves):
            wanted = [*leaves, *parameters]

            def of_part(part: slice) -> tuple[float, tuple[torch.Tensor | None, ...]]:
                loss = loss_of(part)
                return float(loss.detach()), torch.autograd.grad(loss, wanted, allow_unused=True)

            losses, gradients = zip(*self.each(of_part, n), strict=True)
        summed = [_sum(found) for found in zip(*gradients, strict=True)]
        pairs = [(tensor, total) for tensor, total in zip(folded, summed, strict=False) if total is not None]
        if pairs:
            torch.autograd.backward(*zip(*pairs, strict=True))  # type: ignore[arg-type]
        for parameter, total in zip(parameters, summed[len(leaves) :], strict=True):
            if total is None:
                continue
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter).copy_(total)  # laid out as the optimiser expects
            else:
                parameter.grad += total
        return float(sum(losses))


@contextlib.contextmanager
def _shared(chains: Sequence[Chain], dtype: torch.dtype) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Share folded weights among all parts; yields those that learn, and the leaves that stand in for them."""
    folded: list[torch.Tensor] = []
    leaves: list[torch.Tensor] = []

    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.requires_grad:
            return tensor
        folded.append(tensor)
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    try:
        for chain in chains:
            w, b = chain.fold(dtype)
            chain.shared = leaf(w), None if b is None else leaf(b)
        yield folded, leaves
    finally:
        for chain in chains:
            chain.shared = None


def _sum(found: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Add tensors in their order; None if there are none."""
    there = [tensor for tensor in found if tensor is not None]
    return functools.reduce(torch.add, there) if there else None


def worth_parts(above: Above) -> bool:
    """Say whether samples may be taken apart, and whether they have work enough for it.

    They may if the output for a sample depends on this sample alone, and no random number is drawn for it. Random
    inputs are tried: dropout and stochastic depth draw numbers, and statistics of a batch see other samples.
    """
    layers = list(above.cut.suffix.modules())
    if above.cut.rung == POOLED or any(isinstance(layer, _NormBase) and layer.training for layer in layers):
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        samples = above.signature.examples(above.net.backbone)
        if samples.is_floating_point():
            samples[1:] *= 2  # samples of one distribution have nearly the same statistics
        crossing = above.cut.prefix(samples)
        before = torch.get_rng_state()
        with FlopCounterMode(display=False) as counter:
            together = above.logits(crossing)
        learning = sum(parameter.numel() for parameter in above.learning.values())
        if counter.get_total_flops() < LEAST_WORK * len(samples) * learning:
            return False
        if not torch.equal(torch.get_rng_state(), before):
            return False
        alone = torch.cat([above.logits(tuple(x[i : i + 1] for x in crossing)) for i in range(len(together))])
    return float((together - alone).abs().max()) <= _TOLERANCE * float(together.abs().max())
