"""Copies and pictures that are only alike: of one fixed camera, on one background, saved again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from thawline.data import open_data, split_data, subset
from thawline.data.copies import alike_pairs, copy_counts, copy_pairs
from thawline.data.duplicates import find_copies
from thawline.errors import DataError, UsageError
from thawline.inputs.image.alike import _cliques, near_copies


def saved(image: Image.Image, file: Path, **how: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **how)


def frames(scene: Image.Image, n: int, *, noise: float = 3, lamp: float = 0.02, shift: float = 0, seed: int = 0):
    """Pictures of one camera whose lamp and sensor are not quite steady; ``shift`` pixels are moved in each."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        moved = scene.transform(scene.size, Image.Transform.AFFINE, (1, 0, i * shift, 0, 1, 0), 2)
        values = np.asarray(moved, dtype=float) * rng.uniform(1 - lamp, 1 + lamp)
        values += rng.normal(0, noise, values.shape)
        yield Image.fromarray(values.clip(0, 255).astype(np.uint8))


def line(root: Path, scene: Image.Image, good: int, bad: int, split: bool = False, **how: float) -> Path:
    """A folder of pictures of a production line; on the bad ones is a scratch."""
    rng = np.random.default_rng(1)
    for i, image in enumerate(frames(scene, good + bad, **how)):
        label, number, of = ("good", i, good) if i < good else ("bad", i - good, bad)
        if label == "bad":
            x, y = rng.integers(10, 60, 2)
            ImageDraw.Draw(image).line([(x, y), (x + 14, y + 9)], fill=(15, 15, 15), width=2)
        part = ("train" if number < of * 2 // 3 else "test") if split else ""
        saved(image, root / part / label / f"{number:03d}.png")
    return root


@pytest.fixture
def scene(photo):
    return photo(3, (128, 96))


CAMERAS = {
    "as in the report": {},
    "steady": {"noise": 1, "lamp": 0.002},
    "noisy": {"noise": 7, "lamp": 0.01},
    "moving slowly": {"noise": 2, "lamp": 0.005, "shift": 0.15},
}


@pytest.mark.parametrize("how", CAMERAS.values(), ids=CAMERAS)
def test_pictures_of_a_fixed_camera_are_split_like_any_others(tmp_path, scene, how):
    data = open_data(line(tmp_path / "line", scene, 24, 12, **how))
    assert np.bincount(data.groups).max() <= 2  # two scratches at one place may pass for one picture
    assert len(np.unique(data.groups)) >= 33
    split = split_data(data)
    assert 4 <= len(split.test) <= 7
    assert set(data.labels[split.test]) == {0, 1}
    (said,) = [one for one in data.warnings if "nearly alike" in one]
    alike = copy_counts(data)["alike"]
    assert said.startswith(f"{alike} of 36 pictures are nearly alike, as a fixed camera takes them of one scene.")
    assert alike == 36 or ("shift" in how and alike >= 20)  # frames far apart in time are no longer alike
    assert len(alike_pairs(data, 3)) == 1


def test_a_grey_and_dark_camera_at_night(tmp_path, scene):
    dark = scene.convert("L").point(lambda v: v // 5).convert("RGB")
    data = open_data(line(tmp_path / "night", dark, 20, 10, noise=2))
    assert np.bincount(data.groups).max() == 1
    assert copy_counts(data)["alike"] >= 20


def test_two_cameras_are_two_scenes(tmp_path, photo):
    for camera in range(2):
        for label, n in (("good", 12), ("bad", 8)):
            for i, image in enumerate(frames(photo(camera, (96, 96)), n, seed=camera)):
                if label == "bad":
                    x, y = np.random.default_rng((camera, i)).integers(10, 80, 2).tolist()
                    ImageDraw.Draw(image).ellipse([x, y, x + 8, y + 8], fill=(20, 20, 20))
                saved(image, tmp_path / label / f"{camera}_{i}.png")
    data = open_data(tmp_path)
    assert any("of 2 scenes" in one for one in data.warnings)
    assert len(np.unique(data.groups)) >= 38


def test_a_camera_for_each_class_leaves_a_test(tmp_path, photo):
    for camera, label in enumerate(("cat", "dog")):
        for i, image in enumerate(frames(photo(camera, (96, 96)), 6, seed=camera)):
            saved(image, tmp_path / label / f"{i}.png")
    data = open_data(tmp_path)
    assert set(data.labels[split_data(data).test]) == {0, 1}


def test_the_split_of_a_fixed_camera_is_kept(tmp_path, scene):
    data = open_data(line(tmp_path, scene, 24, 12, split=True))
    split = split_data(data)
    assert (len(split.train), len(split.test), len(split.dropped)) == (24, 12, 0)
    assert split.origin == "given by the data as train and test."


def versions(image: Image.Image) -> dict[str, bytes]:
    """One picture as people save it again."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    how = {
        "first.jpg": (image, "JPEG", {"quality": 95}),
        "again.jpg": (image, "JPEG", {"quality": 70}),
        "better.jpg": (image, "JPEG", {"quality": 90}),
        "half.jpg": (half, "JPEG", {"quality": 90}),
        "lossless.png": (image, "PNG", {}),
    }
    files = {}
    for name, (picture, kind, options) in how.items():
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        files[name] = stream.getvalue()
    return files


def photographs(root: Path, photo, part: str = "") -> Path:
    """Two classes of eight photographs; the first two of each are there five times."""
    for label in range(2):
        for i in range(8):
            for name, content in versions(photo(10 * label + i, (160, 120))).items():
                if i < 2 or name == "first.jpg":
                    file = root / part / f"class{label}" / f"{i}_{name}"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
    return root


def test_photographs_that_were_saved_again_stay_together(tmp_path, photo):
    data = open_data(photographs(tmp_path, photo))
    assert sorted(np.bincount(data.groups)) == [1] * 12 + [5] * 4
    assert data.warnings[0] == (
        "16 of 32 samples are near copies of another (the same picture, saved again or shrunk); for one, "
        "class0/0_again.jpg and class0/0_better.jpg. They stay on one side of the split."
    )
    assert copy_counts(data) == {"sought": "near", "identical": 0, "near": 16, "alike": 0, "across_given_split": 0}
    assert len(copy_pairs(data, 3)) == 3


def test_near_copies_on_both_sides_of_a_given_split_are_said_and_kept(tmp_path, photo):
    photographs(tmp_path, photo, "train")
    for label in range(2):
        for i in range(4):
            name = "half.jpg" if i < 2 else "first.jpg"
            content = versions(photo(10 * label + (i if i < 2 else i + 50), (160, 120)))[name]
            file = tmp_path / "test" / f"class{label}" / f"other_{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            # the half is saved once more: not the same bytes
            file.write_bytes(content if i >= 2 else resaved(content))
    data = open_data(tmp_path)
    split = split_data(data)
    assert (len(split.train), len(split.test), len(split.dropped)) == (32, 8, 0)
    (said,) = [one for one in data.warnings if "both sides" in one]
    assert said.startswith("Near copies of 4 pictures are on both sides of the split that the data bring: train/")
    assert said.count("other_") == 3 and "; and 1 more. The split is kept" in said
    assert [pair.across for pair in copy_pairs(data, 9)] == [True] * 4


def resaved(content: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def test_identical_copies_leave_a_given_split_as_before(tmp_path, scene, photo):
    line(tmp_path, scene, 12, 6, split=True)
    copied = (tmp_path / "test/good/008.png").read_bytes()
    (tmp_path / "train/good/copy.png").write_bytes(copied)
    data = open_data(tmp_path)
    assert [data.files[row] for row in split_data(data).dropped] == ["train/good/copy.png"]
    assert any("1 samples of the training set are in the test set too" in one for one in data.warnings)


def test_copies_among_pictures_that_are_alike_stand_out(tmp_path, scene):
    line(tmp_path, scene, 24, 12, noise=6)
    first = Image.open(tmp_path / "good/003.png")
    first.save(tmp_path / "good/copy.bmp")
    first.point(lambda v: min(v + 1, 255)).save(tmp_path / "good/brighter.png")
    data = open_data(tmp_path)
    together = [data.files[row] for row in np.flatnonzero(data.groups == data.groups[data.files.index("good/003.png")])]
    assert together == ["good/003.png", "good/copy.bmp"] or together == [
        "good/003.png", "good/brighter.png", "good/copy.bmp"
    ]  # fmt: skip


@pytest.mark.parametrize(("sought", "largest", "dropped"), [("near", 6, 1), ("exact", 2, 1), ("off", 1, 0)])
def test_which_copies_are_kept_together(tmp_path, photo, sought, largest, dropped):
    photographs(tmp_path, photo)
    (tmp_path / "class0/0_twin.jpg").write_bytes((tmp_path / "class0/0_first.jpg").read_bytes())
    data = open_data(tmp_path, copies=sought)
    assert np.bincount(data.groups).max() == largest
    origin = split_data(data).origin
    words = {"near": "copies and groups", "exact": "identical copies and groups", "off": "groups"}[sought]
    assert f"stratified by class, {words} kept together" in origin
    (said,) = [one for one in data.warnings if "repeat the content" in one]
    assert said.endswith("--copies is off." if sought == "off" else "Copies stay on one side of the split.")
    parts = ["test" if name.endswith(("0_twin.jpg", "7_first.jpg")) else "train" for name in data.files]
    paths = [tmp_path / name for name in data.files]
    given = open_data(paths, [name[:6] for name in data.files], given=parts, copies=sought)
    assert len(split_data(given).dropped) == dropped


def test_an_unknown_kind_of_copies_is_refused(tiny_photos):
    with pytest.raises(UsageError, match="copies must be one of near, exact, off; got 'all'"):
        open_data(tiny_photos, copies="all")


def test_how_copies_were_sought_is_recorded(tiny_photos):
    assert open_data(tiny_photos, copies="exact").opened["copies"] == "exact"


def test_a_subset_knows_its_copies(tmp_path, photo):
    data = open_data(photographs(tmp_path, photo))
    assert copy_counts(subset(data, np.flatnonzero(data.labels == 0)))["near"] == 8


def test_one_declared_group_is_refused_by_its_name(tiny_photos):
    files = sorted(tiny_photos.rglob("*.png"))
    with pytest.raises(
        DataError, match=r"all 30 samples are in one group, 'patient 7'. Bring samples of other groups, or leave out"
    ):
        open_data(files, [file.parent.name for file in files], groups=["patient 7"] * 30)


def test_a_group_for_each_class_is_refused(tiny_photos):
    files = sorted(tiny_photos.rglob("*.png"))
    labels = [file.parent.name for file in files]
    with pytest.raises(DataError, match=r"No class has samples of two groups, .*'disc' are in one group, 'ward disc'"):
        open_data(files, labels, groups=[f"ward {label}" for label in labels])
    open_data(files, labels)  # the advice cures


def test_copies_of_one_picture_alone_are_refused_with_advice_that_cures(tmp_path, scene):
    for i, image in enumerate(frames(scene, 4, noise=1, lamp=0)):
        saved(image, tmp_path / ("good", "bad")[i % 2] / f"{i}.png")
    with pytest.raises(DataError, match=r"all 4 samples are copies of one picture \(bad/1.png and bad/3.png.*exact"):
        open_data(tmp_path)
    assert len(split_data(open_data(tmp_path, copies="exact")).test) == 2


def test_identical_pictures_alone_are_refused(tmp_path, scene):
    for i in range(6):
        saved(scene, tmp_path / ("good", "bad")[i % 2] / f"{i}.png")
    with pytest.raises(DataError, match="all 6 samples have identical content"):
        open_data(tmp_path)


def test_near_copies_are_pairwise_near():
    rng = np.random.default_rng(0)
    base = rng.integers(40, 200, (16, 16, 3))
    chain = np.stack([base + 4 * i for i in range(5)]).astype(np.uint8)  # neighbours are 4 levels apart, ends are 16
    family = near_copies(chain).family
    assert np.bincount(family).max() == 2
    assert _cliques(np.array([[0, 1], [1, 2], [0, 2], [2, 3]])) == [[0, 1, 2]]


def test_more_pictures_than_are_compared_are_no_copies(monkeypatch):
    monkeypatch.setattr("thawline.inputs.image.alike._MOST_COMPARED", 20)
    rng = np.random.default_rng(0)
    sketches = (rng.integers(40, 200, (1, 16, 16, 3)) + rng.normal(0, 1, (30, 16, 16, 3))).round().astype(np.uint8)
    sketches[7] = sketches[3]
    groups, copies = find_copies([f"{i}" for i in range(30)], sketches)
    assert len(np.unique(groups)) == 30
    assert (copies.alike == 0).all()
    monkeypatch.undo()
    assert len(np.unique(find_copies([f"{i}" for i in range(30)], sketches)[0])) == 29


def test_many_versions_of_one_picture_are_a_small_part_of_the_data(photo):
    rng = np.random.default_rng(0)
    sketches = rng.integers(20, 230, (120, 16, 16, 3))
    versions = sketches[5] + rng.normal(0, 1, (11, 16, 16, 3))
    sketches = np.concatenate([sketches, versions]).clip(0, 255).astype(np.uint8)
    groups, copies = find_copies([f"{i}" for i in range(131)], sketches)
    assert (groups[120:] == groups[5]).all()
    assert (copies.alike == -1).all()


def test_identical_pictures_on_both_sides_are_said_when_copies_are_off(tiny_photos):
    files = sorted(tiny_photos.rglob("*.png"))
    (tiny_photos / "disc" / "twin.png").write_bytes(files[0].read_bytes())
    files.append(tiny_photos / "disc" / "twin.png")
    given = ["test" if i % 4 == 3 else "train" for i in range(len(files) - 1)] + ["test"]
    data = open_data(files, [file.parent.name for file in files], given=given, copies="off")
    assert data.warnings[0] == (
        "1 of 31 samples repeat the content of another. 1 contents are on both sides of the split: --copies is off."
    )


def test_a_class_that_is_one_group_is_named(tiny_photos):
    files = sorted(tiny_photos.rglob("*.png"))
    labels = [file.parent.name for file in files]
    data = open_data(files, labels, groups=[None if label != "disc" else "ward 1" for label in labels])
    assert "All samples of class 'disc' are in one group each: they are learned from, and cannot be tested." in (
        data.warnings
    )
    assert (data.labels[split_data(data).test] > 0).all()


def test_a_scene_for_each_class_is_a_warning(tmp_path, photo):
    for camera, label in enumerate(("cat", "dog")):
        for i, image in enumerate(frames(photo(camera, (96, 96)), 9, seed=camera)):
            saved(image, tmp_path / label / f"{i}.png")
    assert any("the model may learn the scene instead of the class" in one for one in open_data(tmp_path).warnings)
