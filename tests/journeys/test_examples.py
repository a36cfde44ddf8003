"""The example notebooks are valid, carry no outputs, and run from top to bottom as a stranger would run them."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem),
]


def test_a_notebook_is_valid_and_kept_without_outputs(path: Path) -> None:
    import nbformat

    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_a_notebook_runs_in_an_empty_folder(path: Path, tmp_path: Path) -> None:
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert len(shown) >= 4, "data set, plan, run and predictions show themselves"
    assert all("text/html" in data for data in shown)
