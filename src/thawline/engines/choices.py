"""The interface of every engine, and the choices that this machine offers.

Finding the choices imports no engine's library: a run whose features are all stored never loads one. Torch is asked
once what ``auto`` means, and only on machines that may have an accelerator; the cache folder keeps the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from thawline.errors import UsageError
from thawline.records import ArraySpec, Precision
from thawline.scale.processors import processor_features
from thawline.scale.releases import release

ENGINES = ("openvino", "torch")
CONVERSION_REVISION = 3
"""Raise it when the same backbone begins to be converted to other numbers."""
_MEMORY = "hardware.json"
_BF16_FLAGS = {"avx512_bf16", "amx_tile"}
"""Flags with which Linux marks a processor that computes in bfloat16; torch checks the same two."""
_ACCELERATORS = ("nvidia", "nvhost", "nvmap", "nvgpu", "dxg", "kfd")
"""Beginnings of the device files of CUDA, on Tegra and in WSL too, and of ROCm."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class Engine(Protocol):
    """Runs a frozen backbone up to a rung."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Length D of the features of each rung; known once a batch was run."""
        ...

    @property
    def workers(self) -> int:
        """Batches that may run at once, each in a thread of its own."""
        ...

    @property
    def at_once(self) -> int | None:
        """Samples in one pass of an engine that divides larger batches; None if it runs every batch whole."""
        ...

    @property
    def together(self) -> int:
        """Fewest samples that should come at once, since those of one length run together; 0 if all are alike."""
        ...

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Prepared samples (B, *spec.shape) -> features float32 (B, D), those of several rungs side by side.

        A sample's bits do not depend on its neighbours.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine runs, where, in which precision; nothing in it is left to ``auto``."""

    engine: str
    device: str
    precision: Precision

    @property
    def identity(self) -> str:
        """The fields that decide how numbers are rounded; they enter the key of the store."""
        return f"{self.engine} {release(self.engine)} {self.device.partition(':')[0]}"


def engine_choices(
    engine: str = "auto", precision: str = "auto", device: str = "auto", *, memory: Path | None = None
) -> tuple[EngineChoice, ...]:
    """List the engines that could run a frozen backbone here, as asked; ``forecast`` chooses one.

    On a processor only OpenVINO computes in bf16 unasked: it keeps the layers that would stray in float32. Torch does
    not, so it computes in f32 unless it is asked for by name.

    Args:
        engine: ``auto``, ``openvino`` (processors only) or ``torch``.
        precision: ``auto`` (bf16 where the hardware computes in it, else f32), ``f32``, ``bf16``, or ``int8`` (texts
            by OpenVINO).
        device: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        memory: Folder in which the meaning of ``auto`` is remembered for this machine.
    Returns:
        At least one.
    Raises:
        UsageError: One of them cannot be.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"engine must be auto, {' or '.join(ENGINES)}; got {engine!r}.")
    where, computes_in = hardware(precision, device, memory=memory)
    by_openvino = where == "cpu" and importlib.util.find_spec("openvino") is not None
    if engine == "openvino" and not by_openvino:
        raise UsageError(
            f"engine openvino needs a processor, and the package openvino; got device {where}"
            f"{'' if where != 'cpu' else ', and openvino is not installed'}. Use --engine torch."
        )
    if computes_in == "int8" and (engine == "torch" or not by_openvino):
        raise UsageError(
            f"precision int8 needs the engine openvino on a processor; got engine {engine} on {where}. "
            "Use --precision f32, or --engine openvino --device cpu."
        )
    named = engine == "torch" and precision != "auto"
    in_torch = computes_in if where != "cpu" or named or (precision != "auto" and not by_openvino) else "f32"
    choices = {
        "openvino": EngineChoice("openvino", where, computes_in),
        "torch": EngineChoice("torch", where, in_torch),
    }
    every = ("openvino",) if computes_in == "int8" else ENGINES
    wanted = every if engine == "auto" else (engine,)
    return tuple(choices[name] for name in wanted if name == "torch" or by_openvino)


def hardware(precision: str = "auto", device: str = "auto", *, memory: Path | None = None) -> tuple[str, Precision]:
    """Replace ``auto`` by the device and the precision that this machine offers.

    Args:
        precision, device, memory: As in ``engine_choices``.
    Raises:
        UsageError: One of them cannot be.
    """
    if precision not in ("auto", *get_args(Precision)):
        raise UsageError(f"precision must be auto, f32, bf16 or int8; got {precision!r}.")
    if not _DEVICE.fullmatch(device):
        raise UsageError(
            f"device must be auto, cpu, mps, cuda or cuda:N; got {device!r}. Leave it out to use the fastest device."
        )
    if "auto" in (precision, device):
        device, best = _resolve(device, memory)
        precision = best if precision == "auto" else precision
    return device, cast("Precision", precision)


def is_remembered(precision: str, device: str, memory: Path) -> bool:
    """Tell whether ``hardware`` answers without asking torch."""
    return "auto" not in (precision, device) or (_recalled(device, memory)[1] or _certain(device)) is not None


def _resolve(device: str, memory: Path | None) -> tuple[str, str]:
    """Return a device and its precision: remembered, certain, or asked of torch."""
    known, answer = ({}, None) if memory is None else _recalled(device, memory)
    answer = answer or _certain(device)
    if answer is not None:
        return answer
    from thawline.engines.devices import resolve

    found = resolve("auto", device)
    if memory is not None:
        _remember(memory / _MEMORY, known | {_fingerprint(device): found})
    return found


def _certain(device: str) -> tuple[str, str] | None:
    """Return torch's answer if it is beyond doubt: on Linux, without any sign of an accelerator."""
    if (
        sys.platform != "linux"
        or platform.machine().lower() not in ("x86_64", "amd64")
        or device not in ("auto", "cpu")
    ):
        return None
    flags = set(processor_features().split())
    if not flags or (device == "auto" and _may_have_accelerator()):
        return None
    return "cpu", "bf16" if flags & _BF16_FLAGS else "f32"


def _may_have_accelerator() -> bool:
    """Tell whether a device file or a driver's library hints at one; only torch knows if it can be used."""
    devices = Path("/dev")
    if not devices.is_dir() or any(file.name.startswith(_ACCELERATORS) for file in devices.iterdir()):
        return True
    for driver in ("libcuda.so.1", "libamdhip64.so"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(driver)
            return True
    return False


def _recalled(device: str, memory: Path) -> tuple[dict[str, object], tuple[str, str] | None]:
    """(all that is remembered, the answer to this question if it is among it)"""
    known: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads((memory / _MEMORY).read_bytes()))
    match known.get(_fingerprint(device)):
        case [("cpu" | "mps" | "cuda") as where, ("f32" | "bf16") as best]:
            return known, (where, best)
    return known, None


def _remember(file: Path, known: dict[str, object]) -> None:
    from thawline.scale.disk import whole_file

    with contextlib.suppress(OSError):  # it is only asked again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as opened:
            json.dump(known, opened, indent=2)


def _fingerprint(device: str) -> str:
    """Digest of what the answer depends on: the question, torch's release, the processor and the visible GPUs."""
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia*")) if Path("/dev").is_dir() else []
    variables = ("CUDA_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    parts = [device, release("torch"), platform.platform(), processor_features(), gpus]
    described = json.dumps([*parts, *(os.environ.get(name) for name in variables)])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def check_batch(batch: NDArray[Any], spec: ArraySpec) -> None:
    """Refuse a batch that is not (B, *spec.shape) of the type that the spec says, with B > 0."""
    if batch.dtype != spec.dtype or batch.shape[1:] != spec.shape or not len(batch):
        shape = ", ".join(map(str, spec.shape))
        raise ValueError(f"batch must be {spec.dtype} (B, {shape}) with B > 0; got {batch.dtype} {batch.shape}")
