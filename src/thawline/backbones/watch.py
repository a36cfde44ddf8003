"""Watch one stage of training: frozen tensors must stay, thawed ones must learn, or there is no receipt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import nn

from thawline.backbones.receipt import Moved, Receipt, issue_receipt, joint_digest, tensor_digests
from thawline.errors import ReceiptError


class FreezeWatch:
    """Remembers a module as a stage finds it, looks at every gradient, and issues the receipt when the stage is over.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
        >>> watch = FreezeWatch("last layer", model, thawed=["1.weight", "1.bias"])
        >>> optimiser = torch.optim.SGD(model[1].parameters(), lr=0.1)
        >>> model(torch.ones(4, 3)).square().sum().backward()
        >>> watch.saw_gradients()
        >>> optimiser.step()
        >>> watch.issue().status
        'clean'
    """

    def __init__(
        self,
        stage: str,
        module: nn.Module,
        *,
        thawed: Iterable[str],
        buffers: Iterable[str] = (),
        solved: Iterable[str] = (),
    ) -> None:
        """Take digests of every parameter and buffer, and copies of what will learn.

        Args:
            stage: Name of the stage, for the report.
            module: With the weights that the stage begins with, also where it is resumed, on the device that it is
                trained on.
            thawed: Names of the parameters that must learn; all others must stay.
            buffers: Names of the buffers that may move, and need not: running statistics above the line.
            solved: Names of the parameters that are solved rather than learned: they get no gradient, and may move.
        Raises:
            ReceiptError: A name that is not in the module.
        """
        self.stage = stage
        self.module = module
        self.buffers = _in_order(stage, buffers, dict(module.named_buffers()), "buffer")
        self.thawed = _in_order(stage, thawed, dict(module.named_parameters()), "parameter")
        self.solved = _in_order(stage, solved, dict(module.named_parameters()), "parameter")
        self._learning = [module.get_parameter(name) for name in self.thawed]
        self._begin = [parameter.detach().to("cpu", copy=True) for parameter in self._learning]
        self._digests = tensor_digests(module)
        device = self._learning[0].device if self._learning else None
        self._largest = torch.zeros(len(self.thawed), device=device)  # (K,) as in thawed; once NaN, always NaN
        self._none = torch.zeros((), device=device)
        self._looked_below = False
        self._n_steps = 0

    def saw_gradients(self) -> None:
        """Note how large each gradient is: after the last ``backward`` of a step, before clipping and the optimiser.

        Raises:
            ReceiptError: At the first call, where a frozen parameter received gradient; names it.
        """
        self._n_steps += 1
        if not self._looked_below:
            self._look_below()
        gradients = [self._none if tensor.grad is None else tensor.grad for tensor in self._learning]
        if gradients:
            norms = torch.stack(torch._foreach_norm(gradients))  # (K,), in a few launches on an accelerator
            self._largest = torch.maximum(self._largest, norms)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors, on the CPU, that a checkpoint needs to prove a resumed stage as a whole."""
        return {"largest_gradients": self._largest.to("cpu", copy=True), "began_with": self._began_with()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from the state of another watch over the same stage.

        Raises:
            ReceiptError: The stage began with other weights than this watch, or thaws other tensors.
        """
        if not torch.equal(state["began_with"].cpu(), self._began_with()):
            raise ReceiptError(
                f"stage {self.stage!r} must be resumed from the weights that it began with, and thaw what it thawed; "
                "the checkpoint is of another. Resume with the plan and the model of that run."
            )
        self._largest = state["largest_gradients"].to(self._largest.device, copy=True)

    def issue(self) -> Receipt:
        """Compare the module with what it was when the stage began.

        Raises:
            ReceiptError: A frozen parameter or buffer moved, appeared or vanished; or a thawed parameter is not finite,
                received no gradient, or did not change. Names the first in the model's order.
        """
        receipt = issue_receipt(
            self.stage, self.module, self._digests, may_move={*self.thawed, *self.buffers, *self.solved}
        )
        ended = dict(self.module.named_parameters())
        moved = tuple(
            Moved(name, largest, _relative_change(begin, ended[name]))
            for name, largest, begin in zip(self.thawed, self._largest.tolist(), self._begin, strict=True)
        )
        self._check_learned(moved)
        return replace(receipt, thawed=(*self.thawed, *self.solved), moved=moved)

    def _look_below(self) -> None:
        """Refuse gradients of frozen parameters; what requires none may still carry one from an earlier stage."""
        thawed = set(self.thawed)
        for name, tensor in self.module.named_parameters():
            if name not in thawed and tensor.requires_grad and tensor.grad is not None and tensor.grad.any():
                raise ReceiptError(
                    f"stage {self.stage!r} must send no gradient to frozen tensors; {name!r} received some. "
                    "Call requires_grad_(False) on it, or declare it thawed."
                )
        self._looked_below = True

    def _check_learned(self, moved: Sequence[Moved]) -> None:
        wild = [tensor for tensor in moved if not (isfinite(tensor.gradient) and isfinite(tensor.change))]
        self._refuse(wild, "keep thawed tensors and their gradients finite", "are not", "Lower the learning rate.")
        blind = [tensor for tensor in moved if not tensor.gradient]
        self._refuse(blind, "send gradient to what it thawed", "received none", self._why_blind(blind))
        idle = [tensor for tensor in moved if not tensor.change]
        why = "Its learning rate was 0, or the optimiser does not hold it."
        self._refuse(idle, "change what it thawed", "did not move", why)

    def _refuse(self, broken: Sequence[Moved], must: str, found: str, why: str) -> None:
        if broken:
            raise ReceiptError(
                f"stage {self.stage!r} must {must}; {len(broken)} {found}, first {broken[0].name!r}. {why}"
            )

    def _why_blind(self, blind: Sequence[Moved]) -> str:
        if len(blind) == len(self.thawed):
            return "No gradient was seen at all: the stage took no step, or its output does not depend on them."
        if blind and not self.module.get_parameter(blind[0].name).requires_grad:
            return "It was set not to learn: call requires_grad_(True) on it, or leave it frozen."
        if self._n_steps == 1:
            return (
                "The stage took a single step, and what lies below a weight that begins at 0, as in residual blocks or "
                "LoRA, learns from the second on. Train for more --epochs, or with a smaller --batch-size."
            )
        return "It does not contribute to the output here: leave it frozen."

    def _began_with(self) -> torch.Tensor:
        """SHA-256 of the weights that the stage began with and of what it thaws, uint8 (32,)."""
        thawed = {f"thawed {name}": "" for name in self.thawed}
        return torch.frombuffer(bytearray.fromhex(joint_digest(self._digests | thawed)), dtype=torch.uint8)


def _in_order(stage: str, names: Iterable[str], known: Collection[str], kind: str) -> tuple[str, ...]:
    """Put names into the model's order.

    Raises:
        ReceiptError: The model has no such tensor.
    """
    wanted = set(names)
    if unknown := sorted(wanted.difference(known)):
        raise ReceiptError(f"stage {stage!r} thawed {unknown[0]!r}, which is no {kind} of the model.")
    return tuple(name for name in known if name in wanted)


def _relative_change(begin: torch.Tensor, end: torch.Tensor) -> float:
    """Return the L2 norm of the change over that of the beginning, or alone where that is 0."""
    change, size = (
        float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) for tensor in (end.detach().cpu() - begin, begin)
    )
    return change / (size or 1.0)
