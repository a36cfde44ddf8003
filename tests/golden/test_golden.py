"""Runs that earlier versions wrote can still be read and resumed, and predict the same."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden.make import ARCHITECTURE, golden_weights, made_on

import thawline as tl
from thawline.bundles.spec import GRAPHS_FOLDER
from thawline.planning import read_plan
from thawline.planning.fit_plan import check_plan
from thawline.runs import Run, open_run
from thawline.runs.folder import CONTENTS

HERE = Path(__file__).parent
RUNS = sorted(path.name for path in HERE.iterdir() if (path / "bundle.json").is_file())
STOPPED = sorted(path.name.removesuffix(".tar.xz") for path in HERE.glob("*.tar.xz"))


def expected(run: str) -> dict[str, Any]:
    return dict(json.loads((HERE / run / "expected.json").read_text()))


def check_predictions(run: Run, wanted: dict[str, Any], *, off: float) -> None:
    """Compare a run's predictions for the golden pictures: to the bit where they were made on such a machine.

    Args:
        off: How far a probability may be off on another processor, which rounds differently.
    """
    rows = wanted["predictions"]
    answer = run.bundle.predict([HERE / "pictures" / row["file"] for row in rows])
    for got, row in zip(answer.to_json(n_top=3)["predictions"], rows, strict=True):
        assert got["label"] == row["label"]
        assert got["top"] == pytest.approx(row["top"], abs=off)
    if wanted.get("made_on") == made_on():
        assert np.array_equal(answer.probabilities, wanted["probabilities"])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_release_predicts_the_same(name: str) -> None:
    check_predictions(open_run(HERE / name), expected(name), off=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_release_can_be_read(name: str) -> None:
    run = open_run(HERE / name)
    assert 0 <= run.report.accuracy.value <= 1
    assert run.plan.thaw == ("last:2" if name.endswith("thawed") else "none")
    assert run.to_json()["receipt"] == "clean"


ASKED = {
    "settings": {
        "thaw": "last:2", "from_scratch": False, "head": "logistic", "hidden": [], "dropout": 0.0, "layer": "pooled",
        "fractions": [0.7, 0.15, 0.15], "seed": 0, "engine": "auto", "precision": "f32", "device": "cpu",
    },
    "training": {"epochs": 4, "evaluations": 4},
    "budget": None,
}  # fmt: skip
"""What 0.1.0 wrote into a request until the plan was made."""


@pytest.mark.parametrize("stopped", ["while training", "while planning"])
@pytest.mark.parametrize("name", STOPPED)
def test_a_run_that_an_earlier_release_began_ends_as_its_plan_says(name: str, stopped: str, tmp_path: Path) -> None:
    """Checkpoints of a release that trained in another way are no use; the plan is, and ends with the same bits."""
    with tarfile.open(HERE / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    golden_weights(name.removesuffix("-thawed"), tmp_path / "weights.safetensors")
    draft = tmp_path / f".{name}.unfinished"
    asked = json.loads((draft / "request.json").read_text()) | {"weights": str(tmp_path / "weights.safetensors")}
    if stopped == "while planning":
        asked |= {"plan": None, "asked": ASKED}
        shutil.rmtree(draft / "state")
        (draft / "plan.toml").unlink()
    (draft / "request.json").write_text(json.dumps(asked))

    run = tl.resume(tmp_path / name, data=HERE / "photos")

    assert {path.name for path in run.folder.iterdir()} == {*CONTENTS, GRAPHS_FOLDER}
    events = [json.loads(line)["event"] for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert (events[0], events.count("resume"), events[-1]) == ("start", 1, "end")
    (stage,) = run.plan.stages
    both = stage.epochs + stage.joint_epochs
    assert both == (4 if stopped == "while planning" else 4 + 4)  # what was asked, and what a plan of then means
    data, backbone = (
        tl.open_data(HERE / "photos"),
        tl.open_backbone(f"timm/{ARCHITECTURE}@{tmp_path}/weights.safetensors"),
    )
    anew = tl.fit(data, run.plan, backbone=backbone, run=tmp_path / "anew")
    for file in ("model.safetensors", "predictions.csv"):
        assert (run.folder / file).read_bytes() == (anew.folder / file).read_bytes(), file
    now, then = (json.loads((at / "receipt.json").read_text())["stages"] for at in (run.folder, anew.folder))
    assert now[1:] == then[1:]  # the first says whether the backbone ran, or its features lay in the cache


@pytest.mark.parametrize("name", RUNS)
def test_a_plan_of_an_earlier_release_can_be_read(name: str) -> None:
    plan = read_plan(HERE / name / "plan.toml")
    if not name.endswith("thawed"):
        assert (plan.training, plan.stages) == (None, ())
        return
    text = (HERE / name / "plan.toml").read_text()
    assert "joint_epochs" not in text and "average_power" not in text and "refit = true" in text
    (stage,) = plan.stages
    assert plan.training is not None
    # it trained again on all samples, as long as before; the rate falls as it did
    assert (stage.epochs, stage.joint_epochs) == (4, 4)
    assert (plan.training.average_power, plan.training.schedule) == (0, "cosine")
    written = json.loads(plan.model_dump_json())
    assert check_plan(written, "a test") == plan
    alone = check_plan({**written, "training": {**written["training"], "refit": False}}, "a test")
    assert alone.stages[0].joint_epochs == 4  # as it stands there


def test_this_release_has_its_golden_run() -> None:
    assert tl.__version__ in RUNS and STOPPED
