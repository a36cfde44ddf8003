"""Every command reads, matches, writes and shows names of any encoding, and ends without a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawline as tl
from thawline.runs.folder import draft_of

BYTES = os.fsdecode(b"fl\xf6wer")
WRITTEN = r"fl\xf6wer"


@pytest.fixture
def photos(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch, warm_cache: Path) -> Path:
    """The tiny photos; some files, one class and the folder of data itself have names that are no UTF-8."""
    monkeypatch.chdir(tiny_photos.parent)
    for file in sorted((tiny_photos / "disc").iterdir())[:4]:
        file.rename(file.with_name(f"{BYTES}_{file.name}"))
    (tiny_photos / "square").rename(tiny_photos / BYTES)
    return tiny_photos.rename(tiny_photos.with_name(f"photos {BYTES}"))


def texts(folder: Path) -> dict[str, str]:
    """Return each text of a run folder, which must be UTF-8."""
    endings = (".csv", ".json", ".html", ".toml", ".jsonl", ".txt")
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.suffix in endings}


def test_a_run_is_whole(thawline: Callable[..., Any], photos: Path) -> None:
    answer = thawline("fit", photos, "--thaw", "none", "--quiet")
    assert answer.code == 0, answer.err
    assert "3 classes (disc" in answer.out and WRITTEN in answer.out
    run = Path("runs") / f"photos {WRITTEN}-1"
    found = texts(run)
    assert json.loads(found["metrics.json"])["classes"] == ["disc", WRITTEN, "stripes"]
    assert json.loads(found["bundle.json"])["classes"] == ["disc", WRITTEN, "stripes"]
    assert "Thawline report</title>" in found["report.html"] and f"photos {WRITTEN}" in found["report.html"]
    rows = list(csv.DictReader(io.StringIO(found["predictions.csv"], newline="")))
    assert {row["true"] for row in rows} <= {"disc", WRITTEN, "stripes"}
    assert f"p({WRITTEN})" in rows[0]
    assert set(found) >= {"plan.toml", "events.jsonl", "receipt.json"}


def test_every_verb_goes_through(thawline: Callable[..., Any], photos: Path, run_folder: Path) -> None:
    place = Path(f"out {BYTES}")
    place.mkdir()
    run = shutil.copytree(run_folder, place / BYTES)
    for words in (
        ("plan", photos, "--thaw", "none", "--out", place / f"{BYTES}.toml", "--quiet"),
        ("fit", photos, "--plan", place / f"{BYTES}.toml", "--run", place / "run", "--quiet"),
        ("features", photos, "--out", place / "f.parquet", "--quiet"),
        ("features", photos, "--out", place / f"{BYTES}.npz", "--json"),
        ("predict", run, photos, "--out", place / f"{BYTES}.csv"),
        ("predict", run, photos, "--out", place / "p.json"),
        ("predict", run, photos),
        ("evaluate", place / "run", photos, "--json"),
        ("report", place / "run"),
    ):
        answer = thawline(*words)
        assert answer.code == 0, (words, answer.err)
        (answer.out + answer.err).encode()
    names = {skipped["file"] for skipped in json.loads((place / "p.json").read_text(encoding="utf-8"))["predictions"]}
    assert f"disc/{WRITTEN}_disc_00.png" in names and f"{WRITTEN}/square_00.png" in names
    with np.load(place / f"{BYTES}.npz") as features:
        assert set(features["labels"]) == {"disc", WRITTEN, "stripes"}
    assert answer.out.count(WRITTEN) >= 1


@pytest.mark.slow
def test_a_comparison_and_a_rank_go_through(thawline: Callable[..., Any], photos: Path) -> None:
    models = "embedded/resnet18_half,random/test_resnet"
    for words in (
        ("compare", photos, "--only", "last-layer", "--json"),
        ("rank", photos, "--models", models, "--json"),
    ):
        answer = thawline(*words)
        assert answer.code == 0, (words, answer.err)
        assert answer.json["classes"] == ["disc", WRITTEN, "stripes"]


def test_a_run_on_such_data_is_resumed(thawline: Callable[..., Any], photos: Path) -> None:
    def stop(*given: Any, **_: object) -> None:
        (given[5] / "step.safetensors").write_text("weights")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thawline.runs.walk.measure", stop)
        with pytest.raises(KeyboardInterrupt):
            tl.fit(photos, run=BYTES)
    assert draft_of(Path(BYTES)).can_resume
    answer = thawline("fit", "--resume", BYTES, "--quiet")
    assert answer.code == 0, answer.err
    found = texts(Path(BYTES))
    assert json.loads(found["metrics.json"])["classes"] == ["disc", WRITTEN, "stripes"]


def test_a_run_is_judged_on_data_that_write_its_classes_otherwise(
    thawline: Callable[..., Any], tiny_photos: Path, monkeypatch: pytest.MonkeyPatch, warm_cache: Path
) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    (tiny_photos / "disc").rename(tiny_photos / "p\u00e2querette")
    assert thawline("fit", "photos", "--thaw", "none", "--run", "run", "--quiet").code == 0
    (tiny_photos / "p\u00e2querette").rename(tiny_photos / "pa\u0302querette")
    answer = thawline("evaluate", "run", "photos", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["classes"][0] == "p\u00e2querette"


ASCII, C = {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    ("name", "terminal"),
    [
        pytest.param("p\u00e2querette \N{BLOSSOM}", C, id="utf8, C"),
        *(
            pytest.param(name, terminal, marks=pytest.mark.slow)
            for name, terminal in ((BYTES, C), (BYTES, ASCII), ("p\u00e2querette \N{BLOSSOM}", ASCII))
        ),
    ],
)
def test_a_terminal_of_ascii_stops_nothing(
    tiny_photos: Path, warm_cache: Path, name: str, terminal: dict[str, str]
) -> None:
    (tiny_photos / "disc").rename(tiny_photos / name)
    photos = tiny_photos.rename(tiny_photos.with_name(name))
    command = [sys.executable, "-c", "from thawline.cli import main; main()"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHONUTF8"))}
    for words in (
        ["fit", str(photos), "--thaw", "none", "--quiet"],
        ["features", str(photos), "--out", "f.npz", "--json"],
    ):
        done = subprocess.run(
            command + words, env=environment | terminal, cwd=photos.parent, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert done.stdout.isascii() or "LC_ALL" in terminal
    assert len(json.loads(done.stdout)["classes"]) == 3
    (run,) = (photos.parent / "runs").iterdir()
    assert len(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["classes"]) == 3


def test_an_output_that_is_full_is_one_sentence(tiny_photos: Path, run_folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-c", "from thawline.cli import main; main()", "predict", str(run_folder)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command, str(tiny_photos)], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2, "error: Standard output cannot be written: the disk is full. Free some space, then try again.\n"
    )  # fmt: skip


@pytest.mark.slow
def test_training_that_diverges_says_what_cures_it(
    thawline: Callable[..., Any], tiny_photos: Path, warm_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    full = ("--lr", "10", "--set", "first_step=full")  # else the backbone would learn at a sixty-fourth of it
    answer = thawline("fit", "photos", "--thaw", "all", "--epochs", "2", *full, "--run", "run", "--quiet")
    assert answer.code == 2
    assert "Training diverged: " in answer.err and "--lr 1 instead of 10" in answer.err
    assert "resume" not in answer.err
    assert [path.name for path in tiny_photos.parent.iterdir() if "run" in path.name] == []


def test_a_home_that_cannot_be_written_is_said(
    thawline: Callable[..., Any], tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    (tmp_path / "home").write_text("")
    monkeypatch.delenv("THAWLINE_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "home" / ".cache")
    monkeypatch.chdir(tmp_path)
    answer = thawline("fit", "photos", "--thaw", "none", "--run", "run", "--json")
    assert answer.code == 0, answer.err
    warnings = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["warnings"]
    assert "THAWLINE_CACHE" in warnings[-1]
    assert "THAWLINE_CACHE" in thawline("features", "photos", "--out", "f.npz", "--quiet").out


LONG = "r" * 300


@pytest.mark.parametrize(
    "words",
    [
        f"fit photos --thaw none --run {LONG}",
        f"fit photos --thaw none --run {'r' * 250}",
        f"fit {LONG}",
        f"fit --resume {LONG}",
        f"fit photos --plan {LONG}",
        f"fit photos --model timm/resnet18@{LONG}",
        f"plan photos --out {LONG}.toml",
        f"features photos --out {LONG}.npz",
        f"predict {LONG} photos",
        f"predict {{run}} {LONG}",
        f"evaluate {LONG} photos",
        f"compare photos --out {LONG}",
        f"rank photos --models {LONG}.safetensors,embedded/resnet18_half",
        f"report {LONG}",
    ],
)
def test_a_name_that_no_disk_takes_is_one_sentence(
    thawline: Callable[..., Any], tiny_photos: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    answer = thawline(
        *words.format(run=run_folder).split(), "--quiet" if words.startswith(("plan", "feat")) else "--json"
    )
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("name", [LONG, "a\0b", "half \ud83d"], ids=["long", "null", "half"])
def test_a_name_that_no_disk_takes_is_refused_in_python(name: str, tiny_photos: Path, run_folder: Path) -> None:
    bundle = tl.load_bundle(run_folder)
    for call in (
        lambda: tl.open_data(name),
        lambda: tl.open_data(f"{name}.csv"),
        lambda: tl.fit(tiny_photos, run=name),
        lambda: tl.resume(name),
        lambda: tl.load_bundle(name),
        lambda: tl.open_backbone(f"timm/resnet18@{name}"),
        lambda: bundle.predict(name),
    ):
        with pytest.raises(tl.ThawlineError) as caught:
            call()
        str(caught.value).encode()
    (failed,) = bundle.predict([name, tiny_photos / "disc" / "disc_00.png"]).failed
    failed.file.encode()
