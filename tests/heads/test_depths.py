from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from thawline.errors import DataError
from thawline.heads import fit_depths, fit_head, head_from_tensors


@pytest.fixture
def depths(blobs):
    """Three depths of different width and unit, the last one the most telling; 40 rows, 67 columns."""
    labels = blobs(40, 4, 3)[1]
    parts = [(blobs(40, 7, 3, seed=1, apart=0.2)[0], 1), (blobs(40, 50, 3, seed=2, apart=0.3)[0], 100.0)]
    return [values * unit for values, unit in parts] + [blobs(40, 10, 3, seed=3)[0] / 50], labels


def joined(values, weighting="column"):
    """Each depth centred, divided by its own scale and, for equal say, by the root of its width."""
    columns = sum(v.shape[1] for v in values)
    parts = []
    for v in values:
        v = v.astype(np.float64)
        v = (v - v.mean(axis=0)) / np.sqrt(np.mean(np.square(v - v.mean(axis=0))))
        parts.append(v if weighting == "column" else v * np.sqrt(columns / len(values) / v.shape[1]))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("weighting", ["column", "depth"])
@pytest.mark.parametrize("repeats", [1, 4])
def test_all_depths_equal_scikit_learn_on_the_scaled_columns_side_by_side(depths, weighting, repeats):
    values, labels = [np.tile(v, (repeats, 1)) for v in depths[0]], np.tile(depths[1], repeats)  # wide, and tall
    groups = np.tile(np.arange(40), repeats)
    fitted = fit_depths(values, labels, 3, groups=groups, weighting=weighting)
    x, targets = joined(values, weighting), 2 * np.eye(3)[labels] - 1
    model = Ridge(alpha=fitted.path.penalty, solver="svd").fit(x, targets)
    assert fitted.head.decision(np.concatenate(values, axis=1)) == pytest.approx(model.predict(x), abs=1e-4)
    left_out = np.empty_like(targets)
    for group in range(40):
        out = groups == group
        model = Ridge(alpha=fitted.path.penalty, solver="svd").fit(x[~out], targets[~out])
        left_out[out] = model.predict(x[out])
    step = next(step for step in fitted.path.steps if step["lambda"] == fitted.path.penalty)
    assert fitted.path.held_out_logits * step["temperature"] == pytest.approx(left_out, abs=1e-4)


@pytest.mark.parametrize("weighting", ["column", "depth"])
def test_each_depth_by_itself_is_the_ridge_head_of_that_depth(depths, weighting):
    values, labels = depths
    fitted = fit_depths(values, labels, 3, weighting=weighting)
    for depth, path in zip(values, fitted.depths, strict=True):
        alone = fit_head("ridge", depth, labels, 3)
        assert path.penalty == alone.chosen
        assert path.log_loss == pytest.approx(alone.cv_log_loss, rel=1e-6)
        assert len(path.steps) == len(alone.path)
    assert min(fitted.depths, key=lambda path: path.log_loss) is fitted.depths[2]


def test_the_unit_of_a_depth_does_not_matter(depths):
    values, labels = depths
    plain = fit_depths(values, labels, 3).path
    louder = fit_depths([values[0] * 1000, *values[1:]], labels, 3).path
    assert louder.log_loss == pytest.approx(plain.log_loss, rel=1e-5)


def test_a_head_of_all_depths_comes_back_from_its_tensors(depths):
    head = fit_depths(*depths, 3).head
    again = head_from_tensors(head.kind, head.tensors(), head.settings())
    x = np.concatenate(depths[0], axis=1)
    assert np.array_equal(again.predict_proba(x), head.predict_proba(x))


def test_depths_that_cannot_be_fitted_are_refused(depths):
    values, labels = depths
    with pytest.raises(DataError, match="at least one array"):
        fit_depths([], labels, 3)
    with pytest.raises(DataError, match=r"got \(39, 50\) with \(40,\)"):
        fit_depths([values[0], values[1][1:]], labels, 3)
