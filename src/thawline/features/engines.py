"""What runs a frozen backbone: the interface of every engine, and the choice of one.

The choice is made without importing the engine's library, so that a run whose features are all stored never loads it:
what ``auto`` means on this machine is asked of the library once and remembered in the cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from thawline.errors import UsageError
from thawline.features.keys import Precision

if TYPE_CHECKING:
    from thawline.backbones import Backbone

ENGINES = ("torch",)
"""The first is what ``auto`` means."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class Engine(Protocol):
    """Runs a frozen backbone up to a rung."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> Precision: ...

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels uint8 (B, H, W, 3) -> features float32 (B, D); a sample's bits do not depend on its neighbours."""
        ...


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine runs, where, in which precision; nothing in it is left to ``auto``."""

    engine: str
    device: str
    precision: Precision

    @property
    def identity(self) -> str:
        """What of it decides how numbers are rounded: enters the key of the store."""
        return f"{self.engine} {_release(self.engine)} {self.device.partition(':')[0]}"


def choose_engine(
    engine: str = "auto", precision: str = "auto", device: str = "auto", *, memory: Path | None = None
) -> EngineChoice:
    """Decide what runs.

    Args:
        engine: ``auto`` or ``torch``.
        precision: ``auto`` (bf16 where the hardware computes in it, else f32), ``f32`` or ``bf16``.
        device: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        memory: Folder in which the meaning of ``auto`` is remembered for this machine.
    Raises:
        UsageError: One of them cannot be.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"engine must be auto or {' or '.join(ENGINES)}; got {engine!r}.")
    if precision not in ("auto", *get_args(Precision)):
        raise UsageError(f"precision must be auto, f32 or bf16; got {precision!r}.")
    if not _DEVICE.fullmatch(device):
        raise UsageError(
            f"device must be auto, cpu, mps, cuda or cuda:N; got {device!r}. Leave it out to use the fastest one here."
        )
    chosen = ENGINES[0] if engine == "auto" else engine
    if "auto" in (precision, device):
        device, precision = _resolve(precision, device, memory)
    return EngineChoice(chosen, device, cast("Precision", precision))


def build_engine(choice: EngineChoice, backbone: Backbone, rung: str) -> Engine:
    """Build what was chosen; raises UsageError where the device is not there."""
    from thawline.features.torch_engine import TorchEngine

    return TorchEngine(backbone, rung, precision=choice.precision, device=choice.device)


def _resolve(precision: str, device: str, memory: Path | None) -> tuple[str, str]:
    """Replace ``auto`` by what it means here: remembered, or asked of torch."""
    file = None if memory is None else memory / "hardware.json"
    question = _fingerprint(precision, device)
    known: dict[str, object] = {}
    if file is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = dict(json.loads(file.read_bytes()))
    match known.get(question):
        case [("cpu" | "mps" | "cuda") as device, ("f32" | "bf16") as precision]:
            return device, precision
    from thawline.features.torch_engine import resolve

    answer = resolve(precision, device)
    if file is not None:
        _remember(file, known | {question: answer})
    return answer


def _remember(file: Path, known: dict[str, object]) -> None:
    from thawline.features.shards import write_whole

    with contextlib.suppress(OSError):  # it is only asked again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(known, indent=2).encode())


def _fingerprint(precision: str, device: str) -> str:
    """Digest of what the answer depends on: the question, torch's release, the processor and the visible GPUs."""
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia*")) if Path("/dev").is_dir() else []
    variables = ("CUDA_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    parts = [precision, device, _release("torch"), platform.platform(), _cpu_flags(), gpus]
    described = json.dumps([*parts, *(os.environ.get(name) for name in variables)])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _cpu_flags() -> str:
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
        return next(line for line in file if line.lower().startswith(("flags", "features"))).strip()
    return platform.processor()


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
