"""Read the tensors of a PyTorch checkpoint. Runs in a confined process, see ``reading``; nothing else imports this."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
import torch

from thawline.backbones.foreign.answering import Refused
from thawline.backbones.foreign.sentences import called, shortened
from thawline.backbones.foreign.types import DTYPES
from thawline.backbones.matching import STATE

STANDARD_INPUT = "/proc/self/fd/0"
"""The file to read, by a name under which torch can map it into memory; Linux has it."""
_DEEPEST, _MOST_NAMES = 32, 200_000
_MOST_TIMES = 8
"""Tensors may be this many times larger than their file: tied weights are stored once and named several times."""
_SAID = 120
"""Longest text that is kept of what a checkpoint says beside its tensors."""


class _Settings(dict[str, Any]):
    """Stands for Lightning's dictionary of settings, which is only read."""


_STAND_INS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)


def read(file: IO[bytes], size: int) -> tuple[dict[str, Any], Iterable[memoryview]]:
    """See ``answering.Read``. The header names the tensors (name, type, shape) in the order of their bytes.

    Raises:
        Refused: Not a checkpoint of tensors.
    """
    loaded = _load(file)
    tensors: dict[str, torch.Tensor] = {}
    unused: list[str] = []
    said: dict[str, str | int | float | bool] = {}
    for name, value in _leaves(loaded):
        if isinstance(value, torch.Tensor):
            if name.partition(".")[0] in STATE:
                unused.append(name)
            elif name in tensors:
                raise Refused(f"weights must have one tensor of each name; {{path}} has several {shortened(name)!r}.")
            else:
                tensors[name] = _plain(name, value, size)
        elif "." not in name and isinstance(value, bool | int | float | str) and len(str(value)) <= _SAID:
            said[name] = value
    if not tensors:
        raise Refused(_nothing(loaded))
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()) > _MOST_TIMES * size:
        raise Refused("weights must be as large as their file says; the tensors of {path} are not. Fetch it again.")
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    listed = [(name, DTYPES[str(tensors[name].dtype)], list(tensors[name].shape)) for name in order]
    said = {key: value for key, value in said.items() if not isinstance(value, float) or math.isfinite(value)}
    return {"tensors": listed, "unused": unused, "said": said}, (_bytes(tensors[name]) for name in order)


def _load(file: IO[bytes]) -> object:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    mapped = file.read(4) == b"PK\x03\x04" and os.path.exists(STANDARD_INPUT)  # noqa: PTH110
    file.seek(0)
    try:
        with _allowed():
            return torch.load(STANDARD_INPUT if mapped else file, "cpu", weights_only=True, mmap=mapped)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes the parser raise
        raise Refused(_why(str(error))) from error


def _allowed() -> contextlib.AbstractContextManager[None]:
    """Let plain records pass that training scripts save beside the weights; all of them only hold values."""
    kinds = {type(np.dtype(name)) for name in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?")}
    scalar = np.float64(0).__reduce__()[0]
    safe: list[Any] = [argparse.Namespace, np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *kinds]
    safe += [(_Settings, name) for name in _STAND_INS]
    return torch.serialization.safe_globals(safe)


def _leaves(value: object) -> Iterator[tuple[str, object]]:
    """Yield (dotted name, value) of everything in nested dictionaries and lists; those that hold themselves, once."""
    n_names = 0
    waiting: list[tuple[str, object, tuple[int, ...]]] = [("", value, ())]
    while waiting:
        prefix, held, around = waiting.pop()
        if isinstance(held, argparse.Namespace):
            held = {f"{key}": item for key, item in vars(held).items()}
        if isinstance(held, dict | list | tuple):
            if id(held) in around or len(around) >= _DEEPEST:
                continue
            items = held.items() if isinstance(held, dict) else enumerate(held)
            inside = [(f"{prefix}.{key}" if prefix else f"{key}", item, (*around, id(held))) for key, item in items
                      if isinstance(key, str | int)]  # fmt: skip
            n_names += len(inside)
            if n_names > _MOST_NAMES:
                raise Refused(f"weights must have at most {_MOST_NAMES:,} names; {{path}} has more.")
            waiting += reversed(inside)
        elif prefix:
            yield prefix, held


def _plain(name: str, tensor: torch.Tensor, size: int) -> torch.Tensor:
    """Return a tensor that safetensors can hold, on the CPU."""
    shown = shortened(name)
    kind = None
    if tensor.is_quantized:
        kind = "is quantised"
    elif tensor.layout != torch.strided or tensor.is_nested:
        kind = "is sparse or nested"
    elif type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        kind = f"is a {type(tensor).__name__}"
    elif tensor.device.type != "cpu":
        kind = f"holds no numbers (device {tensor.device.type})"
    elif str(tensor.dtype) not in DTYPES:
        kind = f"holds {str(tensor.dtype).removeprefix('torch.')}"
    if kind is not None:
        raise Refused(f"weights must be plain tensors; {shown} {kind} ({{path}}). Give the weights from before.")
    if not name.isprintable() or len(name) > 1000:
        raise Refused(f"names of weights must be text; got {shown!r} ({{path}}). Fetch the file again.")
    if tensor.numel() * tensor.itemsize > max(size, tensor.itemsize):
        raise Refused(f"weights must be as large as their file says; {shown} is larger than {{path}}. Fetch it again.")
    return tensor.detach().resolve_neg()


def _bytes(tensor: torch.Tensor) -> memoryview:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _nothing(loaded: object) -> str:
    what = "dictionary without tensors" if isinstance(loaded, dict) else type(loaded).__name__
    return f"weights must be a state dict; {{path}} holds a {what}. Save one: torch.save(model.state_dict(), FILE)."


def _why(text: str) -> str:
    """Turn what torch says of a file into one sentence and a next step."""
    found = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"(?:class|global|function) ([\w.]+\.[\w.]+)", text)
    if found:
        return called(found[1])
    detail = re.search(r"WeightsUnpickler error:\s*([^\n]+)", text)
    reason = shortened(detail[1] if detail else text.partition("\n")[0]).rstrip(". ")
    return f"weights must be a sound checkpoint of PyTorch; {{path}} cannot be read: {reason}. Fetch it again."
