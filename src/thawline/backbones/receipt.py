"""The freeze receipt: proof that what was declared frozen is bit for bit what it was.

Every parameter *and every buffer* counts: the running statistics of batch normalisation move in training mode even
where no parameter learns, which is the commonest way in which a "frozen" network changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thawline.errors import ReceiptError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one stage left alone and what it moved."""

    stage: str
    ran: bool
    """False where every feature came from the store, so that nothing frozen was even loaded."""
    frozen_parameters: int
    """Tensors that were compared."""
    frozen_buffers: int
    frozen_sha256: str
    """Digest over names and contents of all frozen tensors; the same before and after, or there is no receipt."""
    thawed: tuple[str, ...]
    """Names of the tensors that learned; each one changed."""

    @property
    def status(self) -> str:
        return "clean"


def tensor_digests(module: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter and buffer, by name, from their bytes, shape and dtype."""
    return {name: _digest(tensor) for name, tensor in _named_tensors(module)}


def _named_tensors(module: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _digest(tensor: torch.Tensor) -> str:
    import torch

    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype} {tuple(data.shape)}".encode())
    if data.numel():
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def issue_receipt(
    stage: str,
    module: torch.nn.Module,
    before: Mapping[str, str],
    *,
    thawed: Iterable[str] = (),
) -> Receipt:
    """Compare a module with the digests taken before a stage.

    Args:
        stage: Name of the stage, for the report.
        module: As the stage left it.
        before: ``tensor_digests(module)`` as the stage found it.
        thawed: Tensors that were meant to learn.
    Raises:
        ReceiptError: A frozen tensor moved, appeared or vanished, or a thawed one did not move; names it.
    """
    after = tensor_digests(module)
    thawed = tuple(thawed)
    if unknown := set(thawed) - before.keys():
        raise ReceiptError(f"stage {stage!r} thawed {sorted(unknown)[0]!r}, which the model does not have.")
    moved = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if broken := [name for name in moved if name not in thawed]:
        raise ReceiptError(
            f"stage {stage!r} must leave frozen tensors bit-identical; {len(broken)} moved, first {broken[0]!r}. "
            "The run was stopped and nothing was saved."
        )
    if idle := sorted(set(thawed) - set(moved)):
        raise ReceiptError(f"stage {stage!r} must change what it thawed; {len(idle)} did not move, first {idle[0]!r}.")
    frozen = {name: digest for name, digest in after.items() if name not in thawed}
    parameters = {name for name, _ in module.named_parameters()}
    return Receipt(
        stage=stage,
        ran=True,
        frozen_parameters=len(frozen.keys() & parameters),
        frozen_buffers=len(frozen.keys() - parameters),
        frozen_sha256=hashlib.sha256("\n".join(f"{n} {d}" for n, d in sorted(frozen.items())).encode()).hexdigest(),
        thawed=thawed,
    )
