"""Each verb that opens data says which classes it found, and no name from a stranger steers the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thawline.cli import console as screen
from thawline.cli.results import print_data_of
from thawline.data import open_data, split_data

EVIL = "\x1b[31m[bold]red\u202e\nants\x07"
SHOWN = "\N{REPLACEMENT CHARACTER}[31m[bold]red\N{REPLACEMENT CHARACTER} ants\N{REPLACEMENT CHARACTER}"


@pytest.fixture(autouse=True)
def in_the_folder_of_the_photos(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("words", "is_split"),
    [
        ("fit photos", True),
        ("compare photos --only last-layer", True),
        ("plan photos --thaw none", True),
        ("rank photos --models embedded/resnet18_half,random/test_resnet --engine torch --precision f32", False),
        ("features photos --out f.npz", False),
    ],
)
def test_classes_are_named(thawline: Callable[..., Any], words: str, is_split: bool) -> None:
    (Path("photos") / "disc" / "bad.png").write_text("no picture")
    answer = thawline(*words.split(), "--quiet")
    assert answer.code == 0, answer.err
    split = split_data(open_data("photos"))
    sets = f": {len(split.train)} training, {len(split.val)} validation, {len(split.test)} test" if is_split else ""
    assert f"30 pictures, 3 classes (disc: 10, square: 10, stripes: 10){sets}, 1 skipped\n" in answer.out
    force = ("--force",) if words.startswith(("plan", "features")) else ()
    assert thawline(*words.split(), *force, "--json").json["classes"] == ["disc", "square", "stripes"]


def test_classes_that_a_run_is_judged_on_are_named(thawline: Callable[..., Any], run_folder: Path) -> None:
    answer = thawline("evaluate", run_folder, "photos", "--quiet")
    assert answer.out.startswith("30 pictures, 3 classes (disc: 10, square: 10, stripes: 10), none skipped\n")
    assert thawline("evaluate", run_folder, "photos", "--json").json["classes"] == ["disc", "square", "stripes"]


def test_names_from_strangers_are_shown_and_not_obeyed(thawline: Callable[..., Any]) -> None:
    Path("photos/disc").rename(Path("photos") / EVIL)
    bad = Path("photos/square") / f"{EVIL}.png"
    bad.write_text("no picture")
    answer = thawline("fit", "photos", "--quiet", "--thaw", "none")
    assert answer.code == 0, answer.err
    assert f"3 classes ({SHOWN}: 10, square: 10, stripes: 10)" in answer.out
    assert "left out; first square/\N{REPLACEMENT CHARACTER}[31m[bold]red" in answer.out
    for text in (answer.out, answer.err, thawline("evaluate", "runs/photos-1", "photos").out):
        assert not {"\x1b", "\u202e", "\x07"} & set(text)
    refused = thawline("fit", f"no{EVIL}")
    assert refused.code == 2
    assert "\x1b" not in refused.err


def test_a_name_that_is_no_text_is_still_json(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr("sys.stdout", written)
    screen.print_json({"file": "caf\udce9", "class": "é"})
    assert json.loads(written.getvalue()) == {"file": r"caf\xe9", "class": "é"}
    written.getvalue().encode("utf-8")


def test_ten_classes_are_named_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr("thawline.cli.console.console", lambda *, stderr: Console(file=written, width=300))
    names = [f"c{number}" for number in range(100)]
    counts = [{"class": name, "train": 10, "val": 0, "test": 3} for name in names]
    print_data_of({"n": {"train": 1000, "val": 0, "test": 300}, "class_counts": counts, "skipped": []})
    classes = "100 classes (c0: 13, c1: 13, c2: 13, c3: 13, c4: 13, c5: 13, c6: 13, c7: 13, c8: 13, c9: 13 and 90 more)"
    assert written.getvalue() == f"1,300 pictures, {classes}: 1,000 training, 300 test, none skipped\n"
