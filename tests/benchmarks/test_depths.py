"""Every kind of deep picture against tifffile, OpenCV or imageio; the kinds are those of the benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "depths.py"
    spec = importlib.util.spec_from_file_location("benchmark_depths", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


depths = _benchmark()


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in depths.kinds()])
def test_values_are_those_of_an_independent_reader(kind: Any) -> None:
    assert depths.difference(kind) <= kind.most + 1e-5


def test_the_page_tells_of_every_kind() -> None:
    page = (Path(depths.__file__).with_suffix(".md")).read_text()
    assert [kind.name for kind in depths.kinds() if f"| {kind.name} |" not in page] == []
