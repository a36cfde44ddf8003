"""The classifier is a scikit-learn estimator like any other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import thawline as tl
from thawline.errors import DataError


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
