"""The mean and the standard deviation of the training pictures, in place of the source's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import thawline as tl
from thawline.data import split_data
from thawline.inputs import kind_of
from thawline.listening import Silent
from thawline.planning import Asked
from thawline.planning.own_statistics import with_own_statistics

FRACTIONS = (0.7, 0.15, 0.15)


class Notes(Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def measured(data: tl.Dataset, *own: str, watcher: Silent | None = None) -> tl.Backbone:
    return with_own_statistics(data, tl.open_backbone(), own, watcher or Silent(), fractions=FRACTIONS, seed=0)


def test_they_are_those_of_the_training_pictures_as_the_backbone_sees_them(tiny_photos: Path) -> None:
    data, source = tl.open_data(tiny_photos), tl.open_backbone()
    train = split_data(data, fractions=FRACTIONS, seed=0).train
    prepare = kind_of("image").prepare
    seen = np.stack([prepare(data.source.read(int(row)), source.preparation) for row in train]) / 255
    notes = Notes()
    backbone = measured(data, "mean", "std", watcher=notes)
    assert np.allclose(backbone.preparation.mean, seen.mean((0, 1, 2)), atol=1e-4)
    assert np.allclose(backbone.preparation.std, seen.std((0, 1, 2)), atol=1e-4)
    assert [note.partition(f" of {len(train)} training pictures, ")[0] for note in notes.heard] == [
        "Pictures are normalised by the mean",
        "Pictures are normalised by the standard deviation",
    ]
    assert backbone.weights_sha256 == source.weights_sha256


def test_the_mean_alone_leaves_the_standard_deviation(tiny_photos: Path) -> None:
    backbone = measured(tl.open_data(tiny_photos), "mean")
    assert backbone.preparation.std == tl.open_backbone().preparation.std
    assert backbone.preparation.mean != tl.open_backbone().preparation.mean
    assert tl.open_backbone(**backbone.settings).preparation == backbone.preparation


def test_other_sets_are_not_looked_at(tiny_photos: Path) -> None:
    pictures = [path for folder in sorted(tiny_photos.iterdir()) for path in sorted(folder.iterdir())]
    for path in pictures:
        part = "test" if path.stem.endswith(("8", "9")) else "val" if path.stem.endswith("7") else "train"
        target = tiny_photos.parent / "parts" / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    parts = tiny_photos.parent / "parts"
    before = measured(tl.open_data(parts, copies="off"), "mean").preparation
    for number, path in enumerate(sorted([*parts.glob("test/*/*"), *parts.glob("val/*/*")])):
        Image.fromarray(np.full((40, 40, 3), number, dtype=np.uint8)).save(path)
    assert measured(tl.open_data(parts, copies="off"), "mean").preparation == before
    for number, path in enumerate(sorted(parts.glob("train/*/*"))):
        Image.fromarray(np.full((40, 40, 3), number, dtype=np.uint8)).save(path)
    assert measured(tl.open_data(parts, copies="off"), "mean").preparation != before


def test_a_run_records_the_numbers_and_its_plan_replays_them(tiny_photos: Path, tmp_path: Path) -> None:
    run = tl.fit(tiny_photos, Asked.of(thaw="none", own=("mean",)), run=tmp_path / "run")
    mean = tuple(run.plan.model_settings["mean"])
    assert mean == run.bundle.backbone.preparation.mean != tl.open_backbone().preparation.mean
    again = tl.fit(tiny_photos, run.plan, run=tmp_path / "again")
    assert (again.folder / "predictions.csv").read_bytes() == (run.folder / "predictions.csv").read_bytes()


@pytest.mark.parametrize("verb", ["features {photos} --out x.npz", "ladder embedded/resnet18_half"])
def test_a_verb_without_a_training_set_says_so(
    verb: str, tiny_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thawline.cli import main

    monkeypatch.setattr("sys.argv", ["thawline", *verb.format(photos=tiny_photos).split(), "--mean", "own"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--mean own is measured on a training set; this verb has none" in " ".join(capsys.readouterr().err.split())
