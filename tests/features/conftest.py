import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from thawline.store.keys import FeatureKey

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """``toy.ToyBackbone`` and ``toy.toy_dataset``."""
    spec = importlib.util.spec_from_file_location("toy_backbone", _HERE / "toy_backbone.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def key() -> FeatureKey:
    return FeatureKey(
        weights_sha256="a" * 64,
        preparation_sha256="b" * 64,
        rung="pooled",
        precision="f32",
        engine="torch 2 cpu",
        model="toy/conv",
    )


@pytest.fixture
def sample_digests() -> Callable[..., list[str]]:
    """(n, seed) -> n distinct digests."""

    def draw(n: int, seed: int = 0) -> list[str]:
        raw = np.random.default_rng((seed, 1)).integers(0, 256, (n, 32), dtype=np.uint8)
        return [row.tobytes().hex() for row in raw]

    return draw


@pytest.fixture
def in_child(clean_cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source in a fresh process that shares this test's cache and can import ``toy_backbone``."""

    def run(source: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment)

    return run
