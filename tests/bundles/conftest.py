"""A bundle made of real parts: the embedded backbone and a head fitted on tiny pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

import thawline as tl
from thawline.bundles import Bundle
from thawline.engines.choices import hardware
from thawline.features import extract_features
from thawline.heads import fit_head


@pytest.fixture
def photos(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


@pytest.fixture
def bundle(photos: tl.Dataset, warm_cache: Path) -> Bundle:
    backbone = tl.open_backbone()
    features = extract_features(photos, backbone)
    fitted = fit_head("logistic", features.values, photos.labels, len(photos.classes), groups=photos.groups)
    return Bundle(
        backbone=backbone,
        head=fitted.head,
        classes=photos.classes,
        layer="pooled",
        precision=hardware()[1],
    )
