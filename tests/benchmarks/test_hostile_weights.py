"""A sample of the benchmark of hostile files: each is refused in a sentence or read, and nothing runs."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import thawline as tl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAMPLE = {".h5": 16, ".keras": 10, ".safetensors": 22, ".onnx": 6, ".pt2": 2, ".pt, old": 2, ".pt, new": 2}
NEEDS = {".h5": "keras", ".keras": "keras", ".onnx": "onnx"}
"""Kind -> package that writes its sound file."""


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("hostile_weights")


def skip_without(kind: str) -> None:
    package = NEEDS.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("kind", SAMPLE)
def test_hostile_files_are_refused_or_read(hostile: ModuleType, tmp_path: Path, kind: str) -> None:
    skip_without(kind)
    found = [hostile.attempt(kind, number, hostile.SEED, tmp_path) for number in range(SAMPLE[kind])]
    assert [what for outcome, what in found if outcome == "fault"] == []
    assert any(outcome.endswith("Error") for outcome, _ in found)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLE if kind != ".pt2"])
def test_the_sound_files_are_read(hostile: ModuleType, tmp_path: Path, kind: str) -> None:
    skip_without(kind)
    suffix, sound = importlib.import_module("hostile_files").SOUND[kind]
    (tmp_path / f"a{suffix}").write_bytes(sound())
    model = hostile.MODELS.get(kind, "timm/test_resnet")
    assert tl.open_backbone(f"{model}@{tmp_path / f'a{suffix}'}").module() is not None


def test_the_page_holds_no_fault() -> None:
    assert "**0 faults in 2,000 files.**" in (BENCHMARKS / "hostile_weights.md").read_text()
