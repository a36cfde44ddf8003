"""Frozen features of texts as a scikit-learn transformer."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests import toy_text

from thawline.errors import DataError
from thawline.features import ThawlineFeatures, extract_features
from thawline.runs import ThawlineClassifier


def test_texts_become_features_where_the_backbone_takes_texts() -> None:
    held, labels = toy_text.texts(60)
    features = ThawlineFeatures(toy_text.NAME)
    found = features.fit_transform(np.array(held))
    assert found.shape == (60, toy_text.WIDTH)
    data = toy_text.text_dataset(60)
    assert (found == extract_features(data, toy_text.toy_encoder()).values).all()
    pipeline = make_pipeline(ThawlineFeatures(toy_text.NAME), LogisticRegression(C=100, max_iter=1000))
    assert pipeline.fit(held, labels).score(held, labels) > 0.7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("one text", r"X must be a list of texts; got one str. Write \[text\]"),
        ([], "X must hold at least one text"),
        (["fine", 3], r"X\[1\] must be a text; got int"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(given: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        ThawlineFeatures(toy_text.NAME).fit(given)


@pytest.mark.parametrize("thaw", ["none", "last:1"])
def test_texts_have_a_classifier(thaw: str) -> None:
    held, labels = toy_text.texts(150)
    names = np.array(["good", "bad"])[labels]
    classifier = ThawlineClassifier(toy_text.NAME, thaw=thaw).fit(held, names)
    assert set(classifier.classes_) == {"good", "bad"}
    probabilities = classifier.predict_proba(held[:20])
    assert probabilities.shape == (20, 2)
    assert classifier.predict([held[3]])[0] == classifier.classes_[probabilities[3].argmax()]
