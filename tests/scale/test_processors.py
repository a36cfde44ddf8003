"""What the processor is called in reports, since speeds differ by it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from thawline.scale import processors


@pytest.mark.parametrize(
    ("features", "unit"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_tile amx_bf16", "AMX"),
        ("fpu avx512_bf16 avx2 avx512f", "AVX-512 bf16"),
        ("fpu avx2 avx512f", "AVX-512"),
        ("fpu avx2", "AVX2"),
        ("fp asimd bf16", "bf16"),
    ],
)
def test_the_fastest_matrix_unit_is_named(monkeypatch: pytest.MonkeyPatch, features: str, unit: str) -> None:
    described = {"flags": features, "model name": "Some Processor 9000"}
    monkeypatch.setattr(processors, "_described", lambda *names: described.get(names[0], ""))
    assert processors.processor_name() == f"Some Processor 9000 with {unit}"


def test_a_processor_without_any_is_only_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_described", lambda *names: "fpu sse2" if "flags" in names else "Old One")
    assert processors.processor_name() == "Old One"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists its processors in a file")
def test_it_is_what_the_system_lists() -> None:
    listed = Path("/proc/cpuinfo").read_text()
    assert processors.processor_features() in listed
    assert processors.processor_name().partition(" with ")[0] in listed or "model name" not in listed


def test_without_a_list_it_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    monkeypatch.setattr("platform.processor", lambda: "a processor")
    assert processors.processor_features() == processors.processor_name() == "a processor"
