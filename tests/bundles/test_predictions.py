"""How predictions show themselves, and what pandas makes of them."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pandas as pd

from thawline.bundles import Predictions
from thawline.records import Skipped


def predictions(n: int = 3) -> Predictions:
    probabilities = np.tile([[0.75, 0.25], [0.125, 0.875], [0.5, 0.5]], (n // 3, 1))
    files = tuple(f"{i}<b>.png" for i in range(n))
    return Predictions(files, ("ants", "bees"), probabilities, (Skipped("x.png", "the file is empty (0 bytes)"),))


def test_a_line_says_how_many_of_what() -> None:
    assert repr(predictions()) == "Predictions(3 pictures: 2 ants, 1 bees, 1 could not be read)"
    assert repr(Predictions(("a",), ("x", "y"), np.array([[0.1, 0.9]]), ())) == "Predictions(1 picture: 1 y)"
    assert repr(Predictions((), ("x", "y"), np.empty((0, 2)), ())) == "Predictions(0 pictures)"


def test_a_notebook_shows_the_first_rows() -> None:
    shown = predictions(60)._repr_html_()
    assert shown.count("<tr>") == 1 + 30 + 2
    assert "The first 30 of 60." in shown
    assert "0&lt;b&gt;.png" in shown and "<b>" not in shown
    assert "0.875" in shown
    assert "the file is empty (0 bytes)" in shown
    assert "could not be read" not in Predictions((), ("x",), np.empty((0, 1)), ())._repr_html_()


def test_pandas_gets_the_table_that_is_written() -> None:
    made = predictions()
    target = io.StringIO()
    made.write_csv(target)
    written = pd.read_csv(io.StringIO(target.getvalue()))
    pd.testing.assert_frame_equal(made.to_pandas(), written, check_dtype=False, check_exact=True)
    empty = Predictions((), ("x", "y"), np.empty((0, 2)), ())
    assert list(empty.to_pandas()) == ["file", "label", "probability", "p(x)", "p(y)"]


def test_without_pandas_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "import numpy as np\nfrom thawline.bundles import Predictions\n"
        "Predictions(('a',), ('x',), np.ones((1, 1)), ()).to_pandas()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: to_pandas needs pandas" in done.stderr
    assert "pip install pandas" in done.stderr


def test_showing_predictions_loads_no_pandas_or_torch() -> None:
    code = (
        "import sys, numpy as np\nfrom thawline.bundles import Predictions\n"
        "p = Predictions(('a',), ('x',), np.ones((1, 1)), ()); repr(p); p._repr_html_()\n"
        "print(sorted({'pandas', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
