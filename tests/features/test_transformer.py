import io
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from thawline.engines.torch_engine import TorchEngine
from thawline.errors import DataError, ModelError
from thawline.features import ThawlineFeatures, extract_features, transformer
from thawline.inputs.image.decode import prepare


@pytest.fixture(autouse=True)
def opened(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every backbone that is opened is a toy, ``toy/N`` with seed N; returns those that were."""
    backbones: list[Any] = []

    def open_toy(name: str) -> Any:
        backbones.append(toy.ToyBackbone(int(name.partition("/")[2])))
        return backbones[-1]

    monkeypatch.setattr(transformer, "open_backbone", open_toy)
    return backbones


@pytest.fixture
def estimator() -> ThawlineFeatures:
    return ThawlineFeatures("toy/0", precision="f32")


def _pixels(n: int = 6) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _reference(toy: ModuleType, pixels: np.ndarray) -> np.ndarray:
    engine = TorchEngine(toy.ToyBackbone(), precision="f32", device="cpu")
    return engine.run(np.stack([prepare(one, toy.PREPARATION) for one in pixels]))


def _as_paths(pixels: np.ndarray, folder: Path) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(pixels))]
    for path, one in zip(paths, pixels, strict=True):
        path.write_bytes(_png(one))
    return paths


_KINDS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "array": lambda pixels, _: pixels,
    "list of arrays": lambda pixels, _: list(pixels),
    "bytes": lambda pixels, _: [_png(one) for one in pixels],
    "Pillow": lambda pixels, _: [Image.fromarray(one) for one in pixels],
    "paths": _as_paths,
    "strings": lambda pixels, folder: [str(path) for path in _as_paths(pixels, folder)],
    "array of strings": lambda pixels, folder: np.array([str(path) for path in _as_paths(pixels, folder)]),
    "generator": lambda pixels, _: (one for one in pixels),
    "mixed": lambda pixels, folder: [pixels[0], _png(pixels[1]), *_as_paths(pixels, folder)[2:]],
}


@pytest.mark.parametrize("kind", _KINDS)
def test_takes_pictures_in_every_form(toy: ModuleType, estimator: ThawlineFeatures, tmp_path: Path, kind: str) -> None:
    got = estimator.fit(_pixels()).transform(_KINDS[kind](_pixels(), tmp_path))
    assert got.dtype == np.float32
    assert got.tobytes() == _reference(toy, _pixels()).tobytes()


def test_takes_grey_arrays(toy: ModuleType, estimator: ThawlineFeatures) -> None:
    grey = _pixels()[..., 0]
    np.testing.assert_array_equal(estimator.fit_transform(grey), _reference(toy, np.stack([grey] * 3, axis=3)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "HSV"])
def test_a_pillow_image_is_treated_as_the_file_that_would_hold_it(
    toy: ModuleType, estimator: ThawlineFeatures, mode: str
) -> None:
    image = Image.fromarray(_pixels()[0]).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF") if mode == "CMYK" else (image.convert("RGB") if mode == "HSV" else image).save(file, "PNG")
    expected = estimator.fit_transform([file.getvalue()])
    np.testing.assert_array_equal(estimator.transform([image]), expected)


def test_a_pillow_image_is_turned_upright(toy: ModuleType, estimator: ThawlineFeatures) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.fromarray(_pixels()[0]).save(file, "PNG", exif=exif)
    turned = estimator.fit_transform([file.getvalue()])
    np.testing.assert_array_equal(estimator.transform([Image.open(file)]), turned)
    np.testing.assert_array_equal(turned, _reference(toy, np.rot90(_pixels()[:1], -1, axes=(1, 2))))


def test_the_store_is_shared_with_extract_features(
    toy: ModuleType, estimator: ThawlineFeatures, opened: list[Any]
) -> None:
    data = toy.toy_dataset(5)
    expected = extract_features(data, toy.ToyBackbone(), precision="f32")
    got = estimator.fit_transform(data.source.pixels)
    assert got.tobytes() == expected.values.tobytes()
    assert [backbone.n_built for backbone in opened] == [0]


def test_works_in_pipeline_grid_search_and_clone(estimator: ThawlineFeatures) -> None:
    pixels = np.where(np.arange(24)[:, None, None, None] % 2, _pixels(24), _pixels(24) // 4)
    labels = np.array(["dark", "light"])[np.arange(24) % 2]
    pipeline = make_pipeline(clone(estimator), LogisticRegression())
    assert cross_val_score(pipeline, pixels, labels, cv=3).mean() == 1.0
    search = GridSearchCV(pipeline, {"thawlinefeatures__layer": ["pooled", "3"]}, cv=3).fit(pixels, labels)
    chosen: Pipeline = search.best_estimator_
    by_hand = LogisticRegression().fit(
        ThawlineFeatures("toy/0", precision="f32", layer=search.best_params_["thawlinefeatures__layer"]).fit_transform(
            pixels
        ),
        labels,
    )
    np.testing.assert_array_equal(chosen[-1].coef_, by_hand.coef_)


def test_the_constructor_only_stores(opened: list[Any]) -> None:
    estimator = ThawlineFeatures("no such model", layer="3", precision="f64", batch_size=-1)
    assert estimator.get_params() == {
        "model": "no such model",
        "layer": "3",
        "precision": "f64",
        "batch_size": -1,
    }
    assert opened == []


def test_names_its_outputs(estimator: ThawlineFeatures) -> None:
    estimator.fit(_pixels())
    names = estimator.get_feature_names_out()
    assert (len(names), names[0], names[-1]) == (24, "thawlinefeatures0", "thawlinefeatures23")
    assert estimator.n_features_out_ == 24


def test_a_copy_opens_the_same_backbone_again(estimator: ThawlineFeatures, opened: list[Any]) -> None:
    expected = estimator.fit_transform(_pixels())
    copy = pickle.loads(pickle.dumps(estimator))
    assert copy.transform(_pixels()).tobytes() == expected.tobytes()
    copy.transform(_pixels())
    assert len(opened) == 2
    changed = pickle.loads(pickle.dumps(estimator)).set_params(model="toy/1")
    with pytest.raises(ModelError, match=r"toy/1 must have the weights it was fitted with; it has others. Fit again\."):
        changed.transform(_pixels())


def test_refuses_to_transform_before_fit(estimator: ThawlineFeatures) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        estimator.transform(_pixels())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("a.png", r"X must be a list of pictures or a uint8 array; got one str. Write \[picture\]"),
        (7, "got one int"),
        ([], "X must hold at least one picture; got 0 samples"),
        (np.zeros((2, 4, 4, 3), np.int64), r"X must be uint8 .* got int64 \(2, 4, 4, 3\). Convert it"),
        (np.zeros((2, 4), np.uint8), r"got uint8 \(2, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"got uint8 \(2, 4, 4, 4\)"),
        (np.array([["a.png"]]), "X must be one list of pictures; got an array of 2 dimensions"),
        ([b"", 3.5], r"X\[1\] must be a path, bytes, a Pillow image or uint8 \(H, W\[, 3\]\); got float"),
        ([np.zeros((4, 4), np.int64)], r"X\[0\] must be .* got int64 \(4, 4\)"),
        (["/nowhere/a.png"], r"/nowhere/a.png cannot be read: no such file"),
        ([b"text"], r"X\[0\] cannot be read now: .*Open the data again, or leave it out"),
    ],
)
def test_refuses_what_is_no_list_of_pictures(estimator: ThawlineFeatures, wrong: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        estimator.fit(_pixels()).transform(wrong)


class OnTables(ThawlineFeatures):
    """Takes the bytes of each row of a table as a picture: scikit-learn's own checks know only tables."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def fit(self, X: Any, y: object = None) -> "OnTables":
        super().fit(self._drawn(X, reset=True))
        return self

    def transform(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().transform(self._drawn(X, reset=False))

    def _drawn(self, table: Any, *, reset: bool) -> np.ndarray:
        table = validate_data(self, table, reset=reset, dtype=np.float64)
        return np.ascontiguousarray(table).view(np.uint8).reshape(len(table), -1, 8)


@parametrize_with_checks([OnTables("toy/0", precision="f32")])
def test_keeps_the_contract_of_scikit_learn(estimator: ThawlineFeatures, check: Callable[..., None]) -> None:
    check(estimator)
