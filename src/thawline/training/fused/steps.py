"""Switch the fast operators on: the only door to them for the rest of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from thawline.training.fused.chains import installed, usable_chains
from thawline.training.fused.microbatches import Microbatches, Result

if TYPE_CHECKING:
    import torch

    from thawline.training.net import Above


class FastSteps:
    """Runs what is above the line as quickly as this machine can, while this context is open.

    Two ways are tried when it is made, and each is taken only if it gains something and changes nothing: chains of
    small layers run as one, and the parts of a batch run side by side. Outside the context, layers run one by one.
    """

    def __init__(self, above: Above, device: torch.device, precision: str) -> None:
        """Find out which ways can be taken, with the weights that the stage begins with, also when it is resumed.

        Args:
            above: Is left in the mode in which it is trained.
            device: The device that ``above`` is on.
            precision: ``bf16`` or ``f32``, in which its layers run.
        """
        self._microbatches = Microbatches(above, device, precision)
        self._chains = usable_chains(above)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> FastSteps:
        self._stack.enter_context(installed(self._chains))
        self._stack.enter_context(self._microbatches)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def backward(
        self, loss_of: Callable[[slice], torch.Tensor], parameters: Sequence[torch.nn.Parameter], n: int
    ) -> float:
        """Add to each parameter's ``grad`` the gradient of the loss of a batch; return the loss.

        Args:
            loss_of: Called for parts of the ``n`` samples, maybe side by side; gives a number, the part's share.
            parameters: Those that learn.
        """
        return self._microbatches.backward(loss_of, parameters, n, self._chains)

    def each(self, work: Callable[[slice], Result], n: int) -> list[Result]:
        """Call ``work`` for parts of ``n`` samples, maybe side by side; returns what it gave, in their order."""
        return self._microbatches.each(work, n)
