"""Walks that train: what ships is what was measured, and the run folder says how it came to be."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.embedded import opened

import thawline as tl
from thawline.errors import UsageError
from thawline.listening import Silent
from thawline.runs import Run
from thawline.training import stages as stages_room
from thawline.training_records import Evaluated

pytestmark = pytest.mark.usefixtures("shared_cache")


class Ears(Silent):
    """Remembers everything that it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows: list[Evaluated] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def evaluated(self, row: Evaluated) -> None:
        self.rows.append(row)


@pytest.fixture
def data(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


def fit(data: tl.Dataset, folder: Path, listener: Ears | None = None, **asked: Any) -> Run:
    backbone = opened()
    return tl.fit(data, tl.plan(data, backbone, **asked), backbone=backbone, run=folder, listener=listener)


def receipts(run: Run) -> list[dict[str, Any]]:
    return list(json.loads((run.folder / "receipt.json").read_text())["stages"])


def test_a_thawed_run_says_what_learned_and_predicts_what_it_measured(data: tl.Dataset, tmp_path: Path) -> None:
    ears = Ears()
    run = fit(data, tmp_path / "run", ears, thaw="last:2", training={"epochs": 5, "evaluations": 2})
    content = run.report.content
    assert content["thaw"] == content["thawed"] == "last:2" and content["receipt"] == "clean"
    assert [stage["name"] for stage in content["stages"]] == ["head", "last:2", "last:2, all samples"]
    assert "probe" in content["baselines"]
    chosen, last = content["stages"][1:]
    n_judged = chosen["details"]["val_n"]  # a third; what is reported is of the validation set among it
    assert content["n"]["val"] <= n_judged < content["n"]["train"] and last["score"] is None
    assert {score["n"] for score in content["validation"].values()} == {content["n"]["val"]}
    assert chosen["trainable"] + chosen["frozen"] == last["trainable"] + last["frozen"]
    head, first, second = receipts(run)
    assert head["thawed"] == ["head.weight", "head.bias"]
    adds = [f"backbone.{name}" for name in run.plan.stages[0].adds]
    for receipt in (first, second):
        assert sorted(receipt["thawed"]) == sorted([*adds, "head.weight", "head.bias"])
        assert all(tensor["gradient"] > 0 and tensor["change"] > 0 for tensor in receipt["moved"])
    assert any("learn beside the head" in note for note in ears.notes)
    epochs, joint_epochs = run.plan.stages[0].epochs, run.plan.stages[0].joint_epochs
    assert epochs + joint_epochs == 5
    assert [row.epoch for row in ears.rows if row.stage == "last:2"] == [epochs / 2, epochs]
    assert [row.epoch for row in ears.rows if row.stage == "last:2, all samples"][-1] == joint_epochs
    rows = list(csv.DictReader((run.folder / "predictions.csv").read_text().splitlines()))
    written = np.array([[float(row[f"p({name})"]) for name in data.classes] for row in rows])
    again = run.bundle.predict([data.root / row["file"] for row in rows if data.root is not None])
    assert np.array_equal(again.probabilities, written)
    assert "The freeze receipt, stage by stage" in run.report_path.read_text()


def test_only_what_was_thawed_differs_from_the_source(data: tl.Dataset, tmp_path: Path) -> None:
    run = fit(data, tmp_path / "run", thaw="last:1", training={"epochs": 2})
    source, tuned = tl.open_backbone().tensors.load(), run.bundle.backbone.tensors.load()
    changed = {name for name in source if not source[name].float().equal(tuned[name].float())}
    assert changed == set(run.plan.stages[0].adds)


def test_a_plan_replayed_gives_the_same_bits(data: tl.Dataset, tmp_path: Path) -> None:
    run = fit(data, tmp_path / "a", thaw="last:1", training={"epochs": 2})
    backbone = opened()
    again = tl.fit(data, run.plan, backbone=backbone, run=tmp_path / "b")
    assert (run.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()


def test_progressive_that_never_helps_ships_the_frozen_model(
    data: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages_room, "highest_gain", lambda *_: 0.0)
    data = tl.open_data(data.root)
    run = fit(data, tmp_path / "run", thaw="progressive", training={"epochs": 1, "lr": 10.0, "clip_norm": 0.0})
    content = run.report.content
    assert content["thawed"] == "none" and content["receipt"] == "clean"
    assert [stage["details"]["kept"] for stage in content["stages"][1:]] == [False, False]
    assert run.bundle.backbone.weights_sha256 == tl.open_backbone().weights_sha256
    plain = fit(data, tmp_path / "plain", thaw="none")
    assert run.report.score("log_loss").value == pytest.approx(plain.report.score("log_loss").value)


def test_from_scratch_uses_no_weights_and_says_so(
    data: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # four test pictures and two epochs: whether that beats chance is luck, and not what is tested here
    judging = importlib.import_module("thawline.evaluation.verdict")
    monkeypatch.setattr(judging, "_learned", lambda *_: True)
    run = fit(data, tmp_path / "run", from_scratch=True, training={"epochs": 2, "refit": False})
    content = run.report.content
    assert content["features"] == {"computed": 0, "reused": 0} and content["seconds"]["features"] == 0
    assert set(content["baselines"]) == {"majority", "pixels"}
    assert "the architecture is trained from random weights, as asked" in run.plan.reasons[0]
    assert "the architecture trained from random weights is" in content["verdict"]
    (receipt,) = receipts(run)
    assert receipt["frozen_parameters"] == 0 and receipt["moved_buffers"]
    assert run.bundle.predict([data.root / data.files[0]]).labels  # type: ignore[operator]


@pytest.mark.parametrize(
    "asked", [{}, pytest.param({"layer": "layer2"}, marks=pytest.mark.slow), {"thaw": "last:1"}], ids=str
)
def test_an_mlp_head(data: tl.Dataset, tmp_path: Path, asked: dict[str, Any]) -> None:
    training = {"epochs": 3, "evaluations": 1}
    run = fit(data, tmp_path / "run", head="mlp", hidden=(8,), dropout=0.1, training=training, **asked)
    assert run.bundle.head.kind == "mlp"
    assert run.report.content["stages"][0]["name"] == "mlp head"
    assert run.bundle.predict([data.root / data.files[0]]).labels  # type: ignore[operator]


def test_low_rank_updates_ship_as_plain_weights(data: tl.Dataset, tmp_path: Path) -> None:
    run = fit(data, tmp_path / "run", thaw="last:1", training={"epochs": 2, "lora_rank": 2, "refit": False})
    stage = run.report.content["stages"][1]
    plain = sum(np.prod(shape) for name, shape in run.bundle.backbone.tensors.shapes().items()
                if name in run.plan.stages[0].adds)  # fmt: skip
    assert stage["trainable"] < plain
    assert [receipt["stage"] for receipt in receipts(run)] == ["head", "last:1", "last:1, merged"]
    assert not any("lora" in name for name in run.bundle.backbone.tensors.shapes())


def test_a_given_split_lends_a_validation_part_only_where_something_is_trained(
    data: tl.Dataset, tmp_path: Path
) -> None:

    given = np.where(np.arange(len(data)) % 5 == 0, "test", "train")
    data = replace(data, given=given)
    solved = fit(data, tmp_path / "solved", thaw="none").report.content["n"]
    trained = fit(data, tmp_path / "trained", thaw="last:1", training={"epochs": 1}).report.content["n"]
    assert solved["val"] == 0 and 0 < trained["val"] < trained["train"]
    assert solved["test"] == trained["test"] and trained["train"] + trained["val"] == solved["train"]


def test_progressive_without_a_validation_part_is_refused(data: tl.Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="progressive must have a validation set"):
        fit(data, tmp_path / "run", thaw="progressive", fractions=(0.8, 0.0, 0.2))
    assert not (tmp_path / "run").exists()
