"""The freeze receipt: proof that frozen tensors are bit for bit what they were, and that thawed ones learned.

Every parameter *and every buffer* counts: the running statistics of batch normalisation move in training mode even
where no parameter learns, which is the commonest way in which a "frozen" network changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thawline.backbones.names import STATISTICS
from thawline.backbones.weights import FLOATS
from thawline.errors import ReceiptError

if TYPE_CHECKING:
    import torch

    from thawline.backbones.weights import TensorFile


@dataclass(frozen=True, slots=True)
class Moved:
    """How one thawed tensor learned."""

    name: str
    gradient: float
    """Largest L2 norm that its gradient had in any step of the stage."""
    change: float
    """L2 norm of its change over the stage, relative to its norm before; absolute where that was 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one stage left alone and what it moved."""

    stage: str
    ran: bool
    """False where every feature came from the store, so that nothing frozen was even read."""
    frozen_parameters: int
    """Tensors that were compared."""
    frozen_buffers: int
    frozen_sha256: str
    """Digest over names and contents of all frozen tensors; the same before and after, or there is no receipt."""
    thawed: tuple[str, ...] = ()
    """Names of the tensors that learned; each one changed."""
    moved: tuple[Moved, ...] = ()
    """How they learned, in the same order; empty where they were solved for, which takes no gradient."""
    moved_buffers: tuple[str, ...] = ()
    """Running statistics above the line that moved, as they were allowed to."""

    @property
    def status(self) -> str:
        return "clean"


def tensor_digests(module: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter and buffer, by name, from their bytes, shape and dtype."""
    return {name: _digest(tensor) for name, tensor in _named_tensors(module)}


def joint_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 over names and digests, whatever their order."""
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


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
    stage: str, module: torch.nn.Module, before: Mapping[str, str], *, may_move: Collection[str] = ()
) -> Receipt:
    """Compare a module with the digests taken before a stage.

    Args:
        stage: Name of the stage, for the report.
        module: As the stage left it.
        before: ``tensor_digests(module)`` as the stage found it.
        may_move: Names of the tensors that are not frozen. They may change; they must not vanish.
    Raises:
        ReceiptError: A frozen tensor moved, or any tensor appeared or vanished; names the first in the model's order.
    """
    after = tensor_digests(module)
    moved = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if broken := [name for name in moved if not (name in may_move and name in before and name in after)]:
        raise ReceiptError(
            f"stage {stage!r} must leave frozen tensors bit-identical; {len(broken)} moved, first {broken[0]!r}. "
            f"{_cause(broken[0], before, after)}"
        )
    frozen = {name: digest for name, digest in after.items() if name not in may_move}
    parameters = {name for name, _ in module.named_parameters()}
    return Receipt(
        stage=stage,
        ran=True,
        frozen_parameters=len(frozen.keys() & parameters),
        frozen_buffers=len(frozen.keys() - parameters),
        frozen_sha256=joint_digest(frozen),
        moved_buffers=tuple(name for name in moved if name not in parameters),
    )


def issue_receipt_of_file(stage: str, tensors: TensorFile, before: str) -> Receipt:
    """Compare weights that ran as a graph filled from their file with what the file held before.

    The graph holds copies and no optimiser; what could move is the file, from which the model that ships is written.

    Args:
        before: ``tensors.digest()`` as the run found it.
    Raises:
        ReceiptError: The file holds something else now.
    """
    if tensors.digest() != before:
        raise ReceiptError(
            f"stage {stage!r} must leave frozen tensors bit-identical; the file of the weights has changed while it "
            f"was in use ({tensors.shown}). Open the backbone again."
        )
    digests = _file_digests(tensors)
    n_buffers = sum(name.endswith(STATISTICS) for name in digests)
    return Receipt(
        stage=stage,
        ran=True,
        frozen_parameters=len(digests) - n_buffers,
        frozen_buffers=n_buffers,
        frozen_sha256=joint_digest(digests),
    )


def _file_digests(tensors: TensorFile) -> dict[str, str]:
    """Return what ``tensor_digests`` would give for a module loaded from the file; its floats are float32."""
    float32, stored, digests = tensors.arrays(), tensors.contents(), {}
    for name, entry in tensors.entries().items():
        shape = tuple(entry["shape"])
        if entry["dtype"] in FLOATS:
            kind, content = "torch.float32", float32(name).tobytes()
        else:
            kind, content = f"torch.{_INTEGERS.get(entry['dtype'], entry['dtype'])}", stored(name)
        digests[name] = hashlib.sha256(f"{kind} {shape}".encode() + content).hexdigest()
    return digests


_INTEGERS = {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def _cause(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Name the likely cause of a frozen tensor's move, by its name and presence."""
    if name not in before:
        return "It was not there when the stage began: build the model before the stage."
    if name not in after:
        return "It is no longer there: change the model between stages only."
    if name.endswith(STATISTICS):
        return "A batch-norm layer that is frozen ran in training mode: keep it in eval mode."
    return "The optimiser held it (weight decay moves even what has gradient 0), or a layer wrote into it."
