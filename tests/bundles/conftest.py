"""A bundle made of real parts: the embedded backbone, its graphs, and a head fitted on tiny pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

import thawline as tl
from thawline.bundles import Bundle, make_bundle, save_bundle
from thawline.features import extract_features
from thawline.heads import fit_head


@pytest.fixture
def photos(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


@pytest.fixture
def bundle(photos: tl.Dataset, warm_cache: Path) -> Bundle:
    """As a fit with ``auto`` makes it, on a processor."""
    backbone = tl.open_backbone()
    features = extract_features(photos, backbone, device="cpu")
    fitted = fit_head("logistic", features.values, photos.labels, len(photos.classes), groups=photos.groups)
    return make_bundle(
        backbone,
        fitted.head,
        photos.classes,
        layer="pooled",
        ran=features.engine,
        precision=features.precision,
        engine="auto",
        device="cpu",
        trained=False,
    )


@pytest.fixture
def saved(bundle: Bundle, tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    save_bundle(bundle, folder)
    return folder
