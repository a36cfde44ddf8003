"""The one place that imports timm and torchvision."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_COMPILER = ("torch._dynamo", "torch._dynamo.utils")
_KEEP_ALIVE: list[object] = []
"""torch removes an operator when the ``Library`` that declared it is collected."""


_importing = threading.RLock()
"""One thread at a time imports them: what stands in for the compiler meanwhile is there for all of them."""
_swapping = threading.Lock()


def import_timm() -> ModuleType:
    """Import timm even if torchvision's compiled operators do not fit the installed torch."""
    with _importing, _without_compiler():
        _import_torchvision()
        return importlib.import_module("timm")


def import_torchvision_models() -> ModuleType:
    """Import ``torchvision.models`` even if torchvision's compiled operators do not fit the installed torch."""
    with _importing, _without_compiler():
        _import_torchvision()
        return importlib.import_module("torchvision.models")


def _import_torchvision() -> None:
    """Import torchvision without its compiled operators, if need be.

    timm needs torchvision's transforms, we need its classification models, and neither needs its operators. Yet
    ``import torchvision`` fails if its compiled part cannot be loaded (a CPU build of torch beside the index's CUDA
    build of torchvision, for one): it registers shape rules for two operators that were then never declared. Declaring
    those two lets the Python part load; calling them still fails, as it should.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if not re.search(r"operator torchvision::\w+ does not exist", str(error)):
            raise
        import torch

        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP_ALIVE.append(library)
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]


class _StandIn(ModuleType):
    """Stands for a module of torch's compiler; gives way to it when another thread wants more than is here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._thread = threading.get_ident()

    @property
    def __path__(self) -> list[str]:  # type: ignore[override]  # without it, no module below could be imported
        return [] if threading.get_ident() == self._thread else list(self._real().__path__)

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() == self._thread:
            raise AttributeError(
                f"{self.__name__} is not loaded while timm or torchvision is being imported; it has no {name!r} yet"
            )
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        _remove_stand_ins()
        return importlib.import_module(self.__name__)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Keep torch's compiler out while timm and torchvision are imported.

    The compiler takes a second to import, as long as all the rest, for two things: torchvision asks it one question
    when it pools regions of a picture, and exempts one function from it. Both are put off until the compiler has been
    loaded for another reason.
    """
    package, utils = _StandIn(_COMPILER[0]), _StandIn(_COMPILER[1])
    vars(package).update(utils=utils, disable=_disable_later)
    vars(utils).update(is_compile_supported=_ask_later)
    with _swapping:
        if not any(name in sys.modules for name in _COMPILER):
            sys.modules |= dict(zip(_COMPILER, (package, utils), strict=True))
    try:
        yield
    finally:
        _remove_stand_ins()


def _remove_stand_ins() -> None:
    with _swapping:
        for name in _COMPILER:
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]
        torch = vars(sys.modules.get("torch", ModuleType("torch")))
        if isinstance(torch.get("_dynamo"), _StandIn):
            del torch["_dynamo"]  # else torch would keep the stand-in


def _ask_later(device_type: str) -> bool:
    _remove_stand_ins()
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _disable_later(function: Callable[..., Any], recursive: bool = True, **_: object) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        compiler = sys.modules.get(_COMPILER[0])
        if compiler is None or isinstance(compiler, _StandIn):  # nothing is being compiled
            return function(*args, **kwargs)
        return compiler.disable(function, recursive)(*args, **kwargs)

    return call
