"""The one place that imports timm."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

_DRAWS = frozenset(("normal_", "uniform_", "trunc_normal_", "random_", "bernoulli_", "exponential_"))
_KEEP_ALIVE: list[object] = []
"""torch removes an operator when the ``Library`` that declared it is collected."""


def import_timm() -> ModuleType:
    """Import timm even where torchvision's compiled operators do not fit the installed torch.

    timm needs torchvision's transforms and never its operators, yet ``import torchvision`` fails when its compiled part
    cannot be loaded (a CPU build of torch beside the index's CUDA build of torchvision, for one): it registers shape
    rules for two operators that were then never declared. Declaring those two lets the Python part load; calling them
    still fails, as it should.
    """
    with _without_compiler():
        return _import()


def _import() -> ModuleType:
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
    return importlib.import_module("timm")


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Keep torch's compiler out while timm and torchvision are imported.

    It takes a second to import, as long as all the rest of them, for two things: torchvision asks one question of it
    when regions of a picture are pooled, and timm exempts one function from it. Both are put off until the compiler is
    there for another reason.
    """
    names = ("torch._dynamo", "torch._dynamo.utils")
    if any(name in sys.modules for name in names):
        yield
        return
    package, utils = (ModuleType(name) for name in names)
    package.__path__ = []  # else it would not be taken for a package
    vars(package).update(utils=utils, disable=_disable_later)
    vars(utils).update(is_compile_supported=_ask_later)
    sys.modules |= dict(zip(names, (package, utils), strict=True))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        vars(sys.modules["torch"]).pop("_dynamo", None)  # else torch would go on with the empty one


def _ask_later(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _disable_later(function: Callable[..., Any], recursive: bool = True, **_: object) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # nothing is being compiled
            return function(*args, **kwargs)
        return sys.modules["torch._dynamo"].disable(function, recursive)(*args, **kwargs)

    return call


def without_draws() -> AbstractContextManager[object]:
    """Leave tensors as they are where random numbers would be written into them, for those without memory.

    On them torch runs such a function as one written in Python, for which it imports its compiler: a second and more.
    """
    from torch.overrides import TorchFunctionMode

    class WithoutDraws(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if getattr(function, "__name__", "") in _DRAWS:
                return args[0] if args else (kwargs or {})["tensor"]  # as torch.nn.init passes it on
            return function(*args, **(kwargs or {}))

    mode: AbstractContextManager[object] = WithoutDraws()
    return mode
