from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from thawline.heads.solver import Descent, Problems


@pytest.mark.parametrize("classes", [2, 4])
def test_gradient_is_that_of_the_value_even_where_a_fold_lacks_a_class(classes):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((13, 3))
    labels = np.append(np.arange(12) % (classes - 1), classes - 1)  # one row of the last class
    counted = np.arange(13)[:, None] % 3 != np.arange(3)
    problems = Problems(scores, scores.T @ scores, labels, counted, classes)
    descent = Descent.prepare(problems, 0.3, problems.start())
    theta = rng.standard_normal(3 * 3 * classes + 3 * classes)
    value, gradient = descent.value_and_gradient(theta)
    assert np.isfinite(value)
    numeric = approx_fprime(theta, lambda t: descent.value_and_gradient(t)[0], 1e-6)
    assert gradient == pytest.approx(numeric, abs=1e-5)
