"""The classifier is a scikit-learn estimator like any other."""

from __future__ import annotations

import gc
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import thawline as tl
from thawline.errors import DataError, UsageError


@pytest.fixture
def pictures(tiny_photos: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(tiny_photos.rglob("*.png"))
    return paths, [path.parent.name for path in paths]


def test_it_equals_features_and_head(pictures: tuple[list[Path], list[str]]) -> None:
    from thawline.heads import fit_head

    paths, names = pictures
    classifier = tl.ThawlineClassifier().fit(paths, names)
    assert list(classifier.classes_) == ["disc", "square", "stripes"]
    values = tl.ThawlineFeatures().fit_transform(paths)
    encoded = np.searchsorted(classifier.classes_, names)
    expected = fit_head("logistic", values, encoded, 3).head.predict_proba(values)
    assert np.array_equal(classifier.predict_proba(paths), expected)
    assert list(classifier.predict(paths)) == [classifier.classes_[row.argmax()] for row in expected]
    assert classifier.score(paths, names) == np.mean(classifier.predict(paths) == np.array(names))


def test_it_clones_pickles_and_searches(pictures: tuple[list[Path], list[str]]) -> None:
    paths, names = pictures
    classifier = tl.ThawlineClassifier(head="ridge", layer="layer3", seed=3)
    assert clone(classifier).get_params() == classifier.get_params()
    fitted = classifier.fit(paths, names)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(paths), fitted.predict_proba(paths))
    search = GridSearchCV(
        make_pipeline(tl.ThawlineClassifier()), {"thawlineclassifier__layer": ["layer2", "pooled"]}, cv=2
    )
    search.fit(paths, names)
    assert set(search.best_params_) == {"thawlineclassifier__layer"}
    assert cross_val_score(tl.ThawlineClassifier(), paths, names, cv=2).shape == (2,)


@pytest.mark.parametrize(
    "check",
    [
        "estimator_cloneable",
        "get_params_invariance",
        "no_attributes_set_in_init",
        "parameters_default_constructible",
        "set_params",
    ],
)
def test_its_settings_are_those_of_an_estimator(check: str) -> None:
    """The checks of scikit-learn that need no table of numbers."""
    getattr(estimator_checks, f"check_{check}")("ThawlineClassifier", tl.ThawlineClassifier(thaw="last:2", budget="1s"))


def test_arrays_and_integer_labels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
    pixels[::2, :4] = 255
    labels = np.arange(12) % 2 + 5
    classifier = tl.ThawlineClassifier().fit(pixels, labels)
    assert classifier.predict(pixels).dtype.kind == "i"
    assert classifier.score(pixels, labels) == 1.0


def test_an_unfitted_one_says_so(pictures: tuple[list[Path], list[str]]) -> None:
    with pytest.raises(NotFittedError):
        tl.ThawlineClassifier().predict(pictures[0])


def test_lengths_must_agree(pictures: tuple[list[Path], list[str]]) -> None:
    paths, names = pictures
    with pytest.raises(DataError, match="one entry per sample; got 30 and 29"):
        tl.ThawlineClassifier().fit(paths, names[:-1])


@pytest.fixture(scope="module")
def thawed(
    _tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[tl.ThawlineClassifier, list[Path]]]:
    """An estimator whose last layer learned, and the pictures that it learned from."""
    paths = sorted(_tiny_photos.rglob("*.png"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)
        classifier = tl.ThawlineClassifier(thaw="last:1", budget="60s", seed=1)
        yield classifier.fit(paths, [path.parent.name for path in paths]), paths


def test_layers_learn_and_no_run_is_left_behind(thawed: tuple[tl.ThawlineClassifier, list[Path]]) -> None:
    classifier, paths = thawed
    assert classifier.plan_.thaw == "last:1"
    assert classifier.plan_.seed == 1
    assert classifier.report_.content["n"]["test"] > 0
    assert not hasattr(classifier, "features_")
    probabilities = classifier.predict_proba(paths)
    assert probabilities.shape == (30, 3)
    assert set(classifier.predict(paths)) <= set(classifier.classes_)
    held = {path.name for folder in Path(tempfile.gettempdir()).iterdir() for path in folder.iterdir()}
    assert held == {"model.safetensors", "bundle.json", "graphs"}


def test_a_thawed_one_pickles_and_its_folder_goes_with_it(
    thawed: tuple[tl.ThawlineClassifier, list[Path]],
) -> None:
    classifier, paths = thawed
    expected = classifier.predict_proba(paths[:4])
    before = set(Path(tempfile.gettempdir()).iterdir())
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(paths[:4]), expected)
    assert len(set(Path(tempfile.gettempdir()).iterdir()) - before) == 1
    del again
    gc.collect()
    assert set(Path(tempfile.gettempdir()).iterdir()) == before
    assert clone(classifier).get_params()["thaw"] == "last:1"
    assert not hasattr(clone(classifier), "classes_")


def test_a_picture_is_the_same_as_path_bytes_array_and_image(
    thawed: tuple[tl.ThawlineClassifier, list[Path]],
) -> None:
    classifier, paths = thawed
    with Image.open(paths[0]) as image:
        forms = [paths[0], str(paths[0]), paths[0].read_bytes(), np.asarray(image.convert("RGB")), image.copy()]
    rows = classifier.predict_proba(forms)
    assert (rows == rows[0]).all()


def test_pictures_in_memory_can_be_planned_with(tiny_photos: Path) -> None:
    paths = sorted(tiny_photos.rglob("*.png"))
    mixed: list[object] = [*paths[:10], *(path.read_bytes() for path in paths[10:20]), *map(Image.open, paths[20:])]
    labels = np.repeat([7, 9, 11], 10)
    classifier = tl.ThawlineClassifier(budget="60s", head="ridge").fit(mixed, labels, groups=np.arange(30) // 2)
    assert classifier.classes_.tolist() == [7, 9, 11]
    assert classifier.plan_.thaw == "none"
    assert classifier.head_.kind == "ridge"
    assert classifier.score(paths, labels) > 0.9
    frozen = classifier.set_params(budget=None).fit(paths, labels)
    assert not hasattr(frozen, "plan_") and not hasattr(frozen, "report_")


def test_settings_that_cannot_be_are_refused(pictures: tuple[list[Path], list[str]]) -> None:
    with pytest.raises(UsageError, match="last:99"):
        tl.ThawlineClassifier(thaw="last:99").fit(*pictures)


def test_a_picture_that_cannot_be_read_is_refused(pictures: tuple[list[Path], list[str]], tmp_path: Path) -> None:
    paths, names = pictures
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        tl.ThawlineClassifier(thaw="last:1").fit([broken, *paths], ["disc", *names])
