from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from thawline.data.duplicates import find_copies
from thawline.data.scan import scan
from thawline.data.sources import ArraySource, FileSource, ParquetSource
from thawline.inputs.image import sketches as sketches_module
from thawline.inputs.image.decode import thumbnail
from thawline.inputs.image.sketches import near_pairs


def thumbs_of(*payloads: bytes) -> np.ndarray:
    return np.stack([np.asarray(thumbnail(payload, 16)) for payload in payloads])


def duplicate_groups(*args, **options):
    return find_copies(*args, **options)[0]


def names(n: int) -> list[str]:
    return [f"{i:064x}" for i in range(n)]


def test_copies_of_a_photo_are_found_and_other_photos_are_not(photo, encode):
    image = photo(0, (640, 480))
    copies = [
        encode(image),
        encode(image, "JPEG", quality=50),
        encode(image.resize((320, 240), Image.Resampling.BICUBIC)),
        encode(image.resize((320, 240), Image.Resampling.BICUBIC), "JPEG", quality=50),
        encode(image, "WEBP", quality=60),
    ]
    others = [encode(photo(seed, (640, 480))) for seed in range(1, 9)]
    groups = duplicate_groups(names(13), thumbs_of(*copies, *others))
    assert groups.tolist() == [0, 0, 0, 0, 0, *range(1, 9)]


def test_a_brighter_picture_is_another_picture(photo, encode):
    image = photo(0)
    brighter = image.point(lambda v: min(255, v + 12))
    assert len(set(duplicate_groups(names(2), thumbs_of(encode(image), encode(brighter))))) == 2


def test_flat_pictures_are_compared_by_content_only(encode):
    black = [encode(Image.new("RGB", (20, 20), (i % 3,) * 3)) for i in range(6)]
    assert duplicate_groups(names(6), thumbs_of(*black)).tolist() == [0, 1, 2, 3, 4, 5]
    assert duplicate_groups(["a", "b", "a", "c", "b", "d"], thumbs_of(*black)).tolist() == [0, 1, 0, 2, 1, 3]


def test_declared_groups_join_those_of_copies(photo, encode):
    sketches = thumbs_of(*(encode(photo(seed)) for seed in range(5)))
    groups = duplicate_groups(["a", "b", "c", "a", "d"], sketches, ["x", "x", None, "y", "y"])
    assert groups.tolist() == [0, 0, 1, 0, 0]  # a-b share x, a stands twice, its copy shares y with d


@pytest.mark.parametrize(("block", "window"), [(4, 7), (64, 16), (1024, 8192)])
def test_the_search_finds_what_comparing_all_pairs_finds(monkeypatch, block, window):
    monkeypatch.setattr(sketches_module, "_BLOCK", block)
    monkeypatch.setattr(sketches_module, "_WINDOW", window)
    rng = np.random.default_rng(0)
    strength = rng.uniform(0.1, 1, (30, 1, 1, 1))  # pale pictures fall under the share, strong ones under the 5 levels
    base = 128 + (rng.integers(0, 256, (30, 16, 16, 3)) - 128) * strength
    copies = 128 + (base - 128) * rng.uniform(0.9, 1.1, (8, 30, 1, 1, 1)) + rng.uniform(-6, 6, (8, 30, 1, 1, 1))
    copies += rng.normal(0, 1, copies.shape) * rng.uniform(0, 4, (8, 30, 1, 1, 1))
    sketches = np.concatenate([base, *copies]).clip(0, 255).astype(np.uint8)
    flat = sketches.reshape(len(sketches), -1).astype(float)
    spread = flat.std(axis=1)
    rms = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(axis=2))
    same = (rms <= 5) & (rms <= 0.125 * np.minimum(spread[:, None], spread[None]))
    expected = list(map(tuple, np.argwhere(np.triu(same, 1)).tolist()))
    assert len(expected) > 100
    found = [tuple(sorted(pair)) for pairs in near_pairs(sketches) for pair in pairs.tolist()]
    assert sorted(found) == sorted(expected)


def test_digits_stay_apart():
    from sklearn.datasets import load_digits

    pixels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sum(len(pairs) for pairs in near_pairs(scan(ArraySource(pixels)).sketches)) == 0


def test_real_sets_do_not_collapse(real_data):
    expected = {"brain_mri": (20, 5), "hymenoptera": (0, 1)}
    for folder, (pairs, largest) in expected.items():
        files = sorted(str(path) for path in (real_data / folder).rglob("*.*") if path.is_file())
        seen = scan(FileSource(tuple(files)))
        unique = np.unique(seen.digests, return_index=True)[1]
        assert sum(len(found) for found in near_pairs(seen.sketches[unique])) == pairs
        assert np.bincount(duplicate_groups(seen.digests, seen.sketches)).max() == largest
    seen = scan(ParquetSource(real_data / "fashion_mnist_small" / "test.parquet", "image"))
    assert sum(len(found) for found in near_pairs(seen.sketches)) == 0
