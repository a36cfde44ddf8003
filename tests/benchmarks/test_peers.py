"""The comparison with other tools: its table, its resuming, its refusals. No peer is run, but for the last test."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pytest import approx

from thawline.backbones.providers.timm_import import import_timm
from thawline.scale.processors import processor_name

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_peers", ROOT / "peers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def row(
    peer: str, number: int, seconds: float, right: int = 90, *, data_set: str = "ants", n: int = 100
) -> dict[str, Any]:
    return {
        "data_set": data_set, "round": number, "date": "2026-01-02", "peer": peer, "seconds": seconds,
        "test_accuracy": right / n, "n_test": n, "peak_rss_bytes": int(seconds * 1e8), "versions": {"lib": "1.2"},
    }  # fmt: skip


def cells(peers: ModuleType, rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in peers.table(rows)[2:]]
    return {line[0]: line[1:] for line in lines}


def test_ratios_are_those_of_one_round(peers: ModuleType) -> None:
    rows = [row("thawline", 1, 2.0), row("keras", 1, 20.0), row("thawline", 2, 4.0), row("keras", 2, 24.0),
            row("keras", 3, 500.0)]  # fmt: skip
    runs, seconds, ratio, _, memory = cells(peers, rows)[peers.TITLES["keras"]]
    assert (runs, seconds) == ("3", "24.0 (20.0 to 500.0)")
    assert ratio == "8.00 (6.00 to 10.00)"  # 10 and 6; the third round has no thawline
    assert memory == "50.00"


def test_accuracy_is_the_mean_with_the_interval_of_one_run(peers: ModuleType) -> None:
    found = cells(peers, [row("fastai", 1, 1.0, 80), row("fastai", 2, 1.0, 100)])[peers.TITLES["fastai"]]
    assert found[3] == "90.0 (82.6 to 94.5), n=100"  # Wilson of 90 in 100
    assert found[2] == "not run together"


def test_the_fastest_stands_first_and_what_was_not_run_is_left_out(peers: ModuleType) -> None:
    found = cells(peers, [row("keras", 1, 30.0), row("thawline", 1, 3.0), row("thawline-again", 1, 1.0)])
    assert list(found) == [peers.TITLES[name] for name in ("thawline-again", "thawline", "keras")]


def test_each_data_set_has_a_table_of_its_own(peers: ModuleType) -> None:
    page = peers.report([row("keras", 1, 30.0), row("thawline", 1, 3.0, data_set="bees")])
    assert page.count("| runs | seconds |") == 2
    assert page.index("## ants") < page.index("30.0") < page.index("## bees") < page.index("3.0 |")
    assert "lib 1.2" in page and "2026-01-02" in page


@pytest.fixture
def started(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What `measure` runs, in order; the processes themselves are not started."""
    calls: list[tuple[str, int]] = []

    def one(name: str, number: int) -> dict[str, Any]:
        calls.append((name, number))
        return {key: value for key, value in row(name, number, 1.0).items() if key not in ("data_set", "round", "date")}

    monkeypatch.setattr(peers, "run_peer", lambda name, _data, _weights, number, *, smoke: [one(name, number)])
    monkeypatch.setattr(
        peers,
        "run_thawline",
        lambda _data, _weights, number: [one(name, number) for name in ("thawline", "thawline-again")],
    )
    return calls


def test_a_stopped_benchmark_goes_on(peers: ModuleType, started: list[tuple[str, int]], tmp_path: Path) -> None:
    kept, data = tmp_path / "peers.jsonl", tmp_path / "ants"
    here = {"date": time.strftime("%Y-%m-%d"), "processor": processor_name()}
    # other data sets do not count, nor do other days, nor other processors
    before = [
        row("keras", 1, 7.0) | here,
        row("fastai", 1, 7.0, data_set="bees") | here,
        row("keras", 2, 7.0),
        row("fastai", 2, 7.0) | here | {"processor": "another"},
    ]
    kept.write_text("".join(json.dumps(r) + "\n" for r in before))
    peers.measure(kept, data, tmp_path, ["thawline", "fastai", "keras"], 2, smoke=False)
    both = [("thawline", 1), ("thawline-again", 1)]
    assert started == [*both, ("fastai", 1), ("fastai", 2), ("keras", 2), ("thawline", 2), ("thawline-again", 2)]
    assert peers.finished(kept)[:4] == before
    assert f"## ants, {here['date']}, another\n" in kept.with_suffix(".md").read_text()
    started.clear()
    peers.measure(kept, data, tmp_path, ["thawline", "fastai", "keras"], 2, smoke=False)
    assert started == []


def test_what_is_missing_is_said_in_one_sentence(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("THAWLINE_REAL_WEIGHTS", raising=False)
    monkeypatch.setenv("THAWLINE_REAL_DATA", str(tmp_path))
    assert peers.missing(["keras"], "ants").startswith("THAWLINE_REAL_WEIGHTS must be set")
    monkeypatch.setenv("THAWLINE_REAL_WEIGHTS", str(tmp_path))
    assert "holds train/ and test/ (or val/); got 'ants'" in peers.missing(["keras"], "ants")
    (tmp_path / "ants" / "train").mkdir(parents=True)
    (tmp_path / "ants" / "val").mkdir()
    assert peers.WEIGHTS in peers.missing(["keras"], "ants")
    (tmp_path / peers.WEIGHTS).touch()
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    assert "tensorflow and torch are missing" in peers.missing(["thawline", "keras", "fastai"], "ants")
    assert peers.missing(["thawline"], "ants") is None


def test_a_process_is_timed_whole_and_without_thread_settings(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = "import os, time; time.sleep(0.2); b = bytearray(200_000_000); print('x'); print(sorted(os.environ))"
    seconds, peak, line = peers.run_process("it", [sys.executable, "-c", code], EXTRA="1")
    assert 0.2 < seconds < 5
    assert peak > 200e6  # no upper bound: until it is replaced, a new process counts as large as the one that made it
    assert "OMP_NUM_THREADS" not in line and "EXTRA" in line


def test_a_failed_process_ends_the_benchmark_with_what_it_said(peers: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"keras failed with exit status 3; it said:\nno such picture"):
        code = "import sys; sys.stderr.write('no such picture'); sys.exit(3)"
        peers.run_process("keras", [sys.executable, "-c", code])


def test_the_converter_names_every_convolution_of_the_network_once(peers: ModuleType) -> None:
    spec = importlib.util.spec_from_file_location("mobilenetv2_weights", ROOT / "peers" / "mobilenetv2_weights.py")
    assert spec is not None and spec.loader is not None
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    state = import_timm().create_model("mobilenetv2_100").state_dict()
    named = [name for _, _, *names in converter.pairs() for name in names]
    assert len(named) == len(set(named))
    assert set(named) == {name.removesuffix(".weight") for name in state if name.endswith(".weight")} - {"classifier"}


KERAS_FEATURES = """
import sys
import numpy as np
import keras
sys.path.insert(0, sys.argv[1])
import mobilenetv2_weights
base = keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=None, pooling="avg")
mobilenetv2_weights.load(base, sys.argv[2])
np.save(sys.argv[4], base.predict(np.load(sys.argv[3]), verbose=0))
"""


@pytest.mark.slow
def test_keras_says_what_timm_says(peers: ModuleType, real_weights: Path, tiny_photos: Path, tmp_path: Path) -> None:
    """Pooled features of the converted weights."""
    import torch
    from PIL import Image

    python = peers.PEERS["keras"].python
    if not python.exists():
        pytest.skip(f"{python} does not exist: make the environments with benchmarks/peers/setup.sh")
    weights = real_weights / peers.WEIGHTS
    files = sorted(tiny_photos.glob("*/*.png"))[::3]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    pixels = pictures.astype(np.float32) / 127.5 - 1  # (N, 224, 224, 3)
    np.save(tmp_path / "pixels.npy", pixels)
    subprocess.run(
        [python, "-c", KERAS_FEATURES, ROOT / "peers", weights, tmp_path / "pixels.npy", tmp_path / "keras.npy"],
        check=True,
        capture_output=True,
    )
    overlay = {"file": str(weights)}
    model = import_timm().create_model(
        "mobilenetv2_100", pretrained=True, num_classes=0, pad_type="same", pretrained_cfg_overlay=overlay
    )
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()  # (N, 1280)
    found = np.load(tmp_path / "keras.npy")
    assert found == approx(expected, abs=1e-3 * float(np.abs(expected).max()))
