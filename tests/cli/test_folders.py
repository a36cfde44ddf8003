"""Folders as people have them, at every verb: what is left out is said, and every next step works when it is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thawline.cli.results import print_data_of

Thawline = Callable[..., Any]
DICOM = bytes(128) + b"DICM" + bytes(300)


@pytest.fixture(autouse=True)
def in_the_folder_of_the_photos(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    monkeypatch.setenv("COLUMNS", "200")


def one_line(text: str) -> str:
    return " ".join(text.split())


VERBS = [
    ("fit photos --thaw none", ""),
    ("plan photos --thaw none", "--force"),
    ("compare photos --only last-layer", ""),
    ("rank photos --models embedded/resnet18_half,random/test_resnet --engine torch --precision f32", ""),
    ("features photos --out f.npz", "--force"),
]
FEW_VERBS = [VERBS[0], *(pytest.param(*verb, marks=pytest.mark.slow) for verb in VERBS[1:])]
"""All of them in the second tier: opening is one function for all."""


@pytest.mark.parametrize(("words", "again"), VERBS)
def test_files_that_are_passed_over_are_said_by_each_verb(thawline: Thawline, words: str, again: str) -> None:
    for i in range(3):
        Path(f"photos/disc/disc_0{i}.png").rename(f"photos/disc/disc_0{i}.png.part")
    answer = thawline(*words.split(), "--quiet")
    assert answer.code == 0, answer.err
    said = "3 of 30 files cannot be used and are left out. 3 files in disc end in .part: each an unfinished download"
    assert said in one_line(answer.out)
    assert "3 classes (disc: 7, square: 10, stripes: 10)" in one_line(answer.out)
    content = thawline(*words.split(), *again.split(), "--json").json
    content = content["strategies"][0] if "skipped" not in content else content
    assert [skipped["file"] for skipped in content["skipped"]] == [f"disc/disc_0{i}.png.part" for i in range(3)]
    assert said in content["warnings"][0]
    refused = thawline(*words.split(), *again.split(), "--strict")
    assert (refused.code, refused.out) == (2, "")
    assert "3 of 30 files cannot be read. 3 files in disc end in .part" in one_line(refused.err)


@pytest.mark.parametrize(("words", "again"), FEW_VERBS)
def test_a_class_that_would_vanish_stops_each_verb(thawline: Thawline, words: str, again: str) -> None:
    Path("photos/scans").mkdir()
    Path("photos/scans/1.dcm").write_bytes(DICOM)
    refused = thawline(*words.split(), "--quiet")
    assert (refused.code, refused.out) == (2, "")
    assert "class 'scans' has no picture. scans/1.dcm: a DICOM file: convert it to PNG" in one_line(refused.err)
    answer = thawline(*words.split(), "--quiet", "--drop-empty-classes")
    assert answer.code == 0, answer.err
    assert "Left out: class 'scans' has no picture." in one_line(answer.out)


def test_evaluate_leaves_such_a_class_out(thawline: Thawline, run_folder: Path) -> None:
    Path("photos/scans").mkdir()
    shutil.rmtree("photos/stripes")
    answer = thawline("evaluate", run_folder, "photos", "--quiet")
    assert answer.code == 0, answer.err
    assert "Left out: class 'scans' has no picture. The folder scans is empty." in one_line(answer.out)
    assert "has no sample of 1 of the 3 classes of the run (stripes)" in one_line(answer.err)
    content = thawline("evaluate", run_folder, "photos", "--json").json
    assert any("no sample of 1 of the 3 classes" in warning for warning in content["warnings"])
    assert any("'scans' has no picture" in warning for warning in content["warnings"])


def test_evaluate_sends_pictures_without_labels_to_predict(thawline: Thawline, run_folder: Path) -> None:
    shutil.copytree("photos/disc", "test/unknown")
    refused = thawline("evaluate", run_folder, "test", "--quiet")
    assert refused.code == 2
    assert f"Pictures without labels are for thawline predict {run_folder} DATA." in one_line(refused.err)
    assert thawline("predict", run_folder, "test", "--quiet").code == 0


def test_predict_lists_what_it_passes_over_in_a_folder(thawline: Thawline, run_folder: Path) -> None:
    new = Path("new")
    shutil.copytree("photos/disc", new)
    for i in range(2):
        (new / f"scan{i}").write_bytes(DICOM)
    (new / "disc_00.png").rename(new / "disc_00")
    (new / "notes.txt").write_text("x")
    answer = thawline("predict", run_folder, new, "--json")
    assert len(answer.json["predictions"]) == 10
    assert [failed["file"] for failed in answer.json["failed"]] == ["scan0", "scan1"]
    said = "2 files could not be read and got no prediction. 2 files have no suffix: each a DICOM file"
    assert said in one_line(answer.err)
    refused = thawline("predict", run_folder, new, "--strict", "--out", "p.csv")
    assert (refused.code, Path("p.csv").exists()) == (2, False)
    assert "every file must be readable (--strict); got 2 files without a prediction" in one_line(refused.err)
    answer = thawline("predict", run_folder, new / "scan0", new / "disc_01.png", "--json")
    assert answer.json["failed"][0]["reason"].startswith("a DICOM file")


def linked(store: Path, root: Path) -> None:
    for file in sorted(store.glob("*/*")):
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / file.parent.name / file.name).symlink_to(file.resolve())


@pytest.mark.parametrize(("words", "again"), FEW_VERBS)
def test_each_verb_follows_links_if_asked(thawline: Thawline, words: str, again: str) -> None:
    linked(Path("photos"), Path("links"))
    words = words.replace("photos", "links")
    refused = thawline(*words.split(), "--quiet")
    assert refused.code == 2
    assert "10 links in disc, first disc/disc_00.png: each a link that leads outside" in one_line(refused.err)
    assert "--follow-links" in refused.err
    answer = thawline(*words.split(), "--quiet", "--follow-links")
    assert answer.code == 0, answer.err
    assert "3 classes (disc: 10, square: 10, stripes: 10)" in one_line(answer.out)


def test_evaluate_and_predict_follow_links_if_asked(thawline: Thawline, run_folder: Path) -> None:
    linked(Path("photos"), Path("links"))
    for verb in ("evaluate", "predict"):
        assert "--follow-links" in thawline(verb, run_folder, "links").err
        assert thawline(verb, run_folder, "links", "--follow-links", "--quiet").code == 0


def test_a_run_is_resumed_with_the_same_reading(thawline: Thawline) -> None:
    Path("photos/scans").mkdir()
    answer = thawline("fit", "photos", "--run", "r", "--thaw", "none", "--quiet", "--drop-empty-classes")
    assert answer.code == 0, answer.err
    assert json.loads(Path("r/metrics.json").read_text())["warnings"][0].startswith("Left out: class 'scans'")
    assert "scans" in Path("r/report.html").read_text()


def test_a_reading_that_cannot_be_told_is_chosen(thawline: Thawline) -> None:
    for domain in ("day", "night"):
        shutil.copytree("photos", Path("domains") / domain)
    refused = thawline("fit", "domains", "--thaw", "none", "--quiet")
    assert refused.code == 2
    assert "--class-level 2 (class_level=2)" not in refused.out
    assert "--class-level 2 for the latter" in one_line(refused.err)
    answer = thawline("fit", "domains", "--thaw", "none", "--quiet", "--class-level", "2")
    assert "3 classes (disc: 20, square: 20, stripes: 20)" in one_line(answer.out)
    assert "must be 1 or more" in one_line(thawline("fit", "domains", "--class-level", "0").err)


def test_a_run_without_counts_of_classes_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_data_of({"n": {"train": 3, "val": 0, "test": 1}, "class_counts": [], "skipped": []})
    assert "4 pictures" in capsys.readouterr().out
